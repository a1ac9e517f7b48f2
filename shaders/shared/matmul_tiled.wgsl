// matmul: a kernel's weights times its input rows. This version is for many rows, on any adapter.
//
// A workgroup computes a tile of 64 rows by four panels of features. It walks along the inputs in slices of 16: the
// lanes stage a slice of both operands in workgroup memory, as f16, then each lane adds to its own 8 x 8 sums from
// there. Meanwhile the next slice is on its way from memory to registers.
//
// The kernel binds `input`; its `n_rows` returns the number of input rows, and its `finish` gets the sums of four
// neighbouring features at a time.

#import weights
#import half

override INPUT_QUADS: u32;     // of a row of the input

const TILE_ROWS: u32 = 64u;
const TILE_PANELS: u32 = 4u;
const SLICE_GROUPS: u32 = 2u;  // groups of eight inputs in a slice
const WG_SIZE: u32 = 128u;     // 8 lanes for the rows by 16 for the features

// A row of a staged slice is four Half4s and one of padding, so that lanes which read neighbouring rows hit different
// banks of workgroup memory; panels are padded for the same reason.
const STRIDE: u32 = 5u;
const PANEL_STRIDE: u32 = PANEL_FEATURES * STRIDE + 8u;

var<workgroup> input_tile: array<Half4, TILE_ROWS * STRIDE>;
var<workgroup> weight_tile: array<Half4, TILE_PANELS * PANEL_STRIDE>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

// One lane's part of a staged slice: eight inputs of one row, and two octets of weights.
struct Staged {
    input_low: vec4f,
    input_high: vec4f,
    weights: array<StoredWeights, 2>,
}

fn fetch(tile_row: u32, tile_panel: u32, slice: u32, lane: u32) -> Staged {
    // If the inputs end in the middle of a slice, its second half is zero.
    let group = slice + lane % SLICE_GROUPS;
    let inside = group < IN_GROUPS;
    let index = (tile_row + lane / SLICE_GROUPS) * INPUT_QUADS + 2u * min(group, IN_GROUPS - 1u);
    var staged: Staged;
    staged.input_low = select(vec4f(), input[index], inside);
    staged.input_high = select(vec4f(), input[index + 1u], inside);
    for (var i = 0u; i < 2u; i++) {
        let item = lane + i * WG_SIZE;
        // Panels past the end load the last panel's weights; their sums are discarded.
        let panel = min(tile_panel + item / (PANEL_FEATURES * SLICE_GROUPS), PANELS_0 + PANELS_1 - 1u);
        let weight_group = slice + item / PANEL_FEATURES % SLICE_GROUPS;
        staged.weights[i] = stored_weights(panel, min(weight_group, IN_GROUPS - 1u), item % PANEL_FEATURES);
    }
    return staged;
}

fn store(staged: Staged, lane: u32) {
    let input_start = lane / SLICE_GROUPS * STRIDE + lane % SLICE_GROUPS * 2u;
    input_tile[input_start] = pack_half4(staged.input_low);
    input_tile[input_start + 1u] = pack_half4(staged.input_high);
    for (var i = 0u; i < 2u; i++) {
        let item = lane + i * WG_SIZE;
        let panel = item / (PANEL_FEATURES * SLICE_GROUPS);
        let group = item / PANEL_FEATURES % SLICE_GROUPS;
        let weight_start = panel * PANEL_STRIDE + item % PANEL_FEATURES * STRIDE + group * 2u;
        weight_tile[weight_start] = pack_half4(decode_low(staged.weights[i]));
        weight_tile[weight_start + 1u] = pack_half4(decode_high(staged.weights[i]));
    }
}

fn multiply(workgroup: vec3u, lane: Lane) {
    let tile_row = workgroup.x * TILE_ROWS;
    let tile_panel = workgroup.y * TILE_PANELS;
    // The lane's rows are lane_row + 8 * r; its features, four neighbours in each of two panels.
    let lane_row = lane.index / 16u;
    let lane_panel = lane.index % 16u / 8u;
    let i = lane.index % 8u;

    var sums: array<array<vec4f, 2>, 8>;   // (row, panel)
    for (var r = 0u; r < 8u; r++) {
        sums[r] = array(vec4f(), vec4f());
    }
    var staged = fetch(tile_row, tile_panel, 0u, lane.index);
    for (var slice = 0u; slice < IN_GROUPS; slice += SLICE_GROUPS) {
        workgroupBarrier();   // the lanes are done with the previous slice
        store(staged, lane.index);
        workgroupBarrier();
        staged = fetch(tile_row, tile_panel, min(slice + SLICE_GROUPS, IN_GROUPS - 1u), lane.index);

        for (var quad = 0u; quad < 2u * SLICE_GROUPS; quad++) {
            var x: array<vec4f, 8>;
            for (var r = 0u; r < 8u; r++) {
                x[r] = unpack_half4(input_tile[(lane_row + 8u * r) * STRIDE + quad]);
            }
            for (var p = 0u; p < 2u; p++) {
                let start = (lane_panel + 2u * p) * PANEL_STRIDE + i * STRIDE + quad;
                let w0 = unpack_half4(weight_tile[start]);
                let w1 = unpack_half4(weight_tile[start + 8u * STRIDE]);
                let w2 = unpack_half4(weight_tile[start + 16u * STRIDE]);
                let w3 = unpack_half4(weight_tile[start + 24u * STRIDE]);
                for (var r = 0u; r < 8u; r++) {
                    var sum = fma(vec4f(w0.x, w1.x, w2.x, w3.x), vec4f(x[r].x), sums[r][p]);
                    sum = fma(vec4f(w0.y, w1.y, w2.y, w3.y), vec4f(x[r].y), sum);
                    sum = fma(vec4f(w0.z, w1.z, w2.z, w3.z), vec4f(x[r].z), sum);
                    sums[r][p] = fma(vec4f(w0.w, w1.w, w2.w, w3.w), vec4f(x[r].w), sum);
                }
            }
        }
    }

    for (var p = 0u; p < 2u; p++) {
        let panel = tile_panel + lane_panel + 2u * p;
        if panel < PANELS_0 + PANELS_1 {
            let feature = (FIRST_PANEL + panel) * PANEL_FEATURES + 4u * i;
            for (var r = 0u; r < 8u; r++) {
                let row = tile_row + lane_row + 8u * r;
                if row < n_rows() {
                    finish(row, feature, sums[r][p]);
                }
            }
        }
    }
}
