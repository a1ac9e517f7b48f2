// matmul: output[row] = weight · input[row], for many rows
//
// A workgroup computes a tile of 32 rows by 64 output features. It walks along the input width in slices of 16:
// the lanes stage a slice of both operands in workgroup memory, then each lane multiplies its own 4 x 4 cells
// from there, so that every value fetched from memory is used 32 or 64 times.
//
// Rows past the end of a step are computed as well and mean nothing: the buffers have room for whole tiles, and
// no row reads another. The entry points differ only in what happens to a finished sum.

#import widths
#import weights
#import gelu

override IN: u32;              // width of an input row
override OUT: u32;             // output features in this part of the weight
override FIRST_OUT: u32;       // the part's first feature
override OUT_WIDTH: u32;       // width of an output row

@group(0) @binding(1) var<storage, read> input: array<vec4f>;          // (rows, IN)
@group(0) @binding(2) var<storage, read_write> output: array<vec4f>;   // (rows, OUT_WIDTH)
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;           // (OUT_WIDTH)

const TILE_ROWS: u32 = 32u;
const TILE_FEATURES: u32 = 64u;
const SLICE: u32 = 4u;         // input elements of a slice, in vec4s
const LANES: u32 = 128u;       // 8 x 16 lanes of 4 x 4 cells

var<workgroup> input_tile: array<vec4f, TILE_ROWS * SLICE>;
var<workgroup> weight_tile: array<vec4f, TILE_FEATURES * SLICE>;

// What one lane has computed: four rows by four features.
struct Cells {
    first_row: u32,
    first_feature: u32,        // within this part of the weight
    sums: array<vec4f, 4>,     // (row, feature)
}

@compute @workgroup_size(LANES)
fn matmul(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let cells = multiply_tile(tile, lane);
    if cells.first_feature < OUT {
        for (var row = 0u; row < 4u; row++) {
            let sums = cells.sums[row];
            output[output_index(cells, row)] = without_padding(sums, cells);
        }
    }
}

@compute @workgroup_size(LANES)
fn matmul_bias(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let cells = multiply_tile(tile, lane);
    if cells.first_feature < OUT {
        for (var row = 0u; row < 4u; row++) {
            let sums = cells.sums[row];
            output[output_index(cells, row)] = without_padding(sums + bias[bias_index(cells)], cells);
        }
    }
}

@compute @workgroup_size(LANES)
fn matmul_bias_gelu(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let cells = multiply_tile(tile, lane);
    if cells.first_feature < OUT {
        for (var row = 0u; row < 4u; row++) {
            let sums = cells.sums[row];
            output[output_index(cells, row)] = without_padding(gelu(sums + bias[bias_index(cells)]), cells);
        }
    }
}

@compute @workgroup_size(LANES)
fn matmul_residual(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let cells = multiply_tile(tile, lane);
    if cells.first_feature < OUT {
        for (var row = 0u; row < 4u; row++) {
            let sums = cells.sums[row];
            output[output_index(cells, row)] += without_padding(sums, cells);
        }
    }
}

@compute @workgroup_size(LANES)
fn matmul_bias_residual(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let cells = multiply_tile(tile, lane);
    if cells.first_feature < OUT {
        for (var row = 0u; row < 4u; row++) {
            let sums = cells.sums[row];
            output[output_index(cells, row)] += without_padding(sums + bias[bias_index(cells)], cells);
        }
    }
}

// The lane's four features, counted in fours over the whole weight.
fn bias_index(cells: Cells) -> u32 {
    return (FIRST_OUT + cells.first_feature) / 4u;
}

fn output_index(cells: Cells, row: u32) -> u32 {
    return (cells.first_row + row) * (padded(OUT_WIDTH) / 4u) + bias_index(cells);
}

// Features past the end have no weights: they took the last one's, and their sums, which would land in the output's
// padding, become zero.
fn without_padding(values: vec4f, cells: Cells) -> vec4f {
    return select(vec4f(), values, cells.first_feature + vec4u(0u, 1u, 2u, 3u) < vec4u(OUT));
}

fn multiply_tile(tile: vec3u, lane: u32) -> Cells {
    let tile_feature = tile.x * TILE_FEATURES;
    let tile_row = tile.y * TILE_ROWS;
    let n_groups = groups_of_8(IN);

    // In the tile, this lane's cells start here.
    let lane_row = lane / 16u * 4u;
    let lane_feature = lane % 16u * 4u;

    // A slice is two groups of eight wide. Each lane stages one vec4 of the input and one group of the weight.
    let staged_row = lane / SLICE;
    let staged_input = lane % SLICE;
    let staged_feature = lane / 2u;
    let staged_group = lane % 2u;
    let weight_row = min(tile_feature + staged_feature, OUT - 1u) * n_groups;
    let input_row = (tile_row + staged_row) * n_groups * 2u;

    var sums = array<vec4f, 4>();
    for (var slice = 0u; slice < n_groups; slice += 2u) {
        // The last slice may be half empty: what is staged there is not used.
        let used = min(SLICE, 2u * (n_groups - slice));
        let input_part = input[input_row + min(2u * slice + staged_input, 2u * n_groups - 1u)];
        let weight_part = weight_group(weight_row + min(slice + staged_group, n_groups - 1u));
        // The lanes are done with the slice before this one.
        workgroupBarrier();
        input_tile[staged_row * SLICE + staged_input] = input_part;
        weight_tile[staged_feature * SLICE + staged_group * 2u] = weight_part.low;
        weight_tile[staged_feature * SLICE + staged_group * 2u + 1u] = weight_part.high;
        workgroupBarrier();

        for (var k = 0u; k < used; k++) {
            let weight_0 = weight_tile[lane_feature * SLICE + k];
            let weight_1 = weight_tile[(lane_feature + 1u) * SLICE + k];
            let weight_2 = weight_tile[(lane_feature + 2u) * SLICE + k];
            let weight_3 = weight_tile[(lane_feature + 3u) * SLICE + k];
            for (var r = 0u; r < 4u; r++) {
                let x = input_tile[(lane_row + r) * SLICE + k];
                sums[r] += vec4f(dot(x, weight_0), dot(x, weight_1), dot(x, weight_2), dot(x, weight_3));
            }
        }
    }
    return Cells(tile_row + lane_row, tile_feature + lane_feature, sums);
}
