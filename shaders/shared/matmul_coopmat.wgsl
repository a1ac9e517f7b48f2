// matmul_coopmat: the common part of the two versions of `matmul` for matrix units. They set SIDE, the size of a unit's
// matrices.
//
// A workgroup computes a tile of 8 x SIDE rows by as many features, and four of its subgroups a quarter of it each, in
// 4 x 4 matrices of sums. All lanes stage slices of 32 inputs of both operands in workgroup memory, as f16; matrices
// are loaded from there. In the end the sums pass through workgroup memory too, since no lane knows which of a matrix's
// elements it holds.
//
// The kernel binds `input`; its `n_rows` returns the number of input rows, and its `finish` gets the sums of four
// neighbouring features at a time.

#import weights

enable wgpu_cooperative_matrix;

override WG_SIZE: u32;         // at least four subgroups
override INPUT_QUADS: u32;     // of a row of the input

const TILE: u32 = 8u * SIDE;
const TILE_PANELS: u32 = TILE / PANEL_FEATURES;
const SLICE_GROUPS: u32 = 4u;
const SLICE: u32 = 8u * SLICE_GROUPS;
// Rows of a slice begin in different banks of workgroup memory, at multiples of 16 bytes.
const STRIDE: u32 = SLICE + 8u;

var<workgroup> input_tile: array<f16, TILE * STRIDE>;
var<workgroup> weight_tile: array<f16, TILE * STRIDE>;
var<workgroup> sums_tile: array<f32, 4u * SIDE * SIDE>;   // one matrix per subgroup

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
}

fn stage_input(tile_row: u32, slice: u32, item: u32) {
    let row = item / SLICE_GROUPS;
    let group = slice + item % SLICE_GROUPS;
    // If the inputs end within a slice, the rest of it is zero.
    let inside = group < IN_GROUPS;
    let index = (tile_row + row) * INPUT_QUADS + 2u * min(group, IN_GROUPS - 1u);
    let low = to_half(select(vec4f(), input[index], inside));
    let high = to_half(select(vec4f(), input[index + 1u], inside));
    let start = row * STRIDE + item % SLICE_GROUPS * 8u;
    for (var i = 0u; i < 4u; i++) {
        input_tile[start + i] = low[i];
        input_tile[start + 4u + i] = high[i];
    }
}

// Saturates at the largest f16, so that an outlier never becomes an infinity.
fn to_half(value: vec4f) -> vec4<f16> {
    return vec4<f16>(clamp(value, vec4f(-65504.0), vec4f(65504.0)));
}

fn stage_weights(tile_panel: u32, slice: u32, item: u32) {
    let octet = item % PANEL_FEATURES;
    let group = item / PANEL_FEATURES % SLICE_GROUPS;
    let panel = item / (PANEL_FEATURES * SLICE_GROUPS);
    // Panels past the end load the last panel's weights; their sums are discarded.
    let last = PANELS_0 + PANELS_1 - 1u;
    let weights = stored_weights(min(tile_panel + panel, last), min(slice + group, IN_GROUPS - 1u), octet);
    let low = decode_low(weights);
    let high = decode_high(weights);
    let feature = panel * PANEL_FEATURES + octet % 8u * 4u + octet / 8u;
    let start = feature * STRIDE + group * 8u;
    for (var i = 0u; i < 4u; i++) {
        weight_tile[start + i] = low[i];
        weight_tile[start + 4u + i] = high[i];
    }
}

fn multiply(workgroup: vec3u, lane: Lane) {
    let tile_row = workgroup.x * TILE;
    let tile_panel = workgroup.y * TILE_PANELS;
    // The workgroup has four of the largest subgroups. If they are smaller there are more than four, and those beyond
    // repeat the work of others: all lanes of a workgroup must take part in a multiplication of matrices.
    let quarter = lane.subgroup % 4u;
    let quarter_row = quarter / 2u * (4u * SIDE);
    let quarter_feature = quarter % 2u * (4u * SIDE);

    var sums: array<Sums, 16>;   // (row, feature)
    for (var slice = 0u; slice < IN_GROUPS; slice += SLICE_GROUPS) {
        workgroupBarrier();   // the lanes are done with the previous slice
        for (var i = 0u; i < TILE * SLICE_GROUPS / WG_SIZE; i++) {
            stage_input(tile_row, slice, lane.index + i * WG_SIZE);
            stage_weights(tile_panel, slice, lane.index + i * WG_SIZE);
        }
        workgroupBarrier();
        for (var k = 0u; k < SLICE; k += SIDE) {
            let row = quarter_row * STRIDE + k;
            let a0 = coopLoadT<Inputs>(&input_tile[row], STRIDE);
            let a1 = coopLoadT<Inputs>(&input_tile[row + SIDE * STRIDE], STRIDE);
            let a2 = coopLoadT<Inputs>(&input_tile[row + 2u * SIDE * STRIDE], STRIDE);
            let a3 = coopLoadT<Inputs>(&input_tile[row + 3u * SIDE * STRIDE], STRIDE);
            for (var feature = 0u; feature < 4u; feature++) {
                let start = (quarter_feature + feature * SIDE) * STRIDE + k;
                let b = coopLoad<Weights>(&weight_tile[start], STRIDE);
                sums[feature] = coopMultiplyAdd(a0, b, sums[feature]);
                sums[4u + feature] = coopMultiplyAdd(a1, b, sums[4u + feature]);
                sums[8u + feature] = coopMultiplyAdd(a2, b, sums[8u + feature]);
                sums[12u + feature] = coopMultiplyAdd(a3, b, sums[12u + feature]);
            }
        }
    }

    let own = quarter * (SIDE * SIDE);
    for (var matrix = 0u; matrix < 16u; matrix++) {
        workgroupBarrier();   // the lanes are done with the previous matrix
        coopStoreT(sums[matrix], &sums_tile[own], SIDE);
        workgroupBarrier();
        if lane.subgroup < 4u {
            for (var quad = lane.subgroup_lane; quad < SIDE * SIDE / 4u; quad += lane.subgroup_size) {
                let row = tile_row + quarter_row + matrix / 4u * SIDE + quad / (SIDE / 4u);
                let feature = quarter_feature + matrix % 4u * SIDE + quad % (SIDE / 4u) * 4u;
                if row < n_rows() && tile_panel + feature / PANEL_FEATURES < PANELS_0 + PANELS_1 {
                    let start = own + 4u * quad;
                    let sums_of_4 =
                        vec4f(sums_tile[start], sums_tile[start + 1u], sums_tile[start + 2u], sums_tile[start + 3u]);
                    finish(row, (FIRST_PANEL + tile_panel) * PANEL_FEATURES + feature, sums_of_4);
                }
            }
        }
    }
}
