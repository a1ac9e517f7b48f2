// matmul: a kernel's weights times its input rows. This version is for few rows.
//
// Few rows are bound by how fast the weights stream in, so each is read once, 16 bytes at a time, and used for up to
// ROWS rows. A workgroup takes one panel: 32 features, four to each of eight lanes. If it has more lanes, each eight of
// them take another slice of the inputs, and the slices' sums are added at the end. More rows than ROWS are taken in
// passes; the passes of one panel run side by side and find its weights in the GPU's cache.
//
// The kernel binds `input`; its `n_rows` returns the number of input rows, and its `finish` gets the sums of four
// neighbouring features at a time.

#import weights
#import reduce
#import inputs

override INPUT_QUADS: u32;   // of a row of the input
override ROWS: u32;          // of a pass: 1, 2, 4 or 8
override DEPTH: u32;         // groups that a lane takes per iteration; divides its number of groups

fn multiply(workgroup: vec3u, lane: Lane) {
    let first_row = workgroup.x * ROWS;
    let panel = workgroup.y;
    var sums: array<vec4f, 8>;
    if PANELS_1 == 0u || panel < PANELS_0 {
        sums = sum_slice(0u, panel, first_row, lane);
    } else {
        sums = sum_slice(1u, panel, first_row, lane);
    }

    let feature = (FIRST_PANEL + panel) * PANEL_FEATURES + 4u * (lane.index % 8u);
    for (var row = 0u; row < ROWS; row++) {
        let sum = sum_slices(sums[row], lane);
        if lane.index < 8u && first_row + row < n_rows() {
            finish(first_row + row, feature, sum);
        }
    }
}

// The sums of a lane's four features over its slice of the inputs, by row.
fn sum_slice(segment: u32, panel: u32, first_row: u32, lane: Lane) -> array<vec4f, 8> {
    let i = lane.index % 8u;
    let slices = WG_SIZE / 8u;
    var sums: array<vec4f, 8>;
    for (var row = 0u; row < ROWS; row++) {
        sums[row] = vec4f();
    }
    for (var start = first_slice(lane); start < IN_GROUPS; start += slices * DEPTH) {
        for (var depth = 0u; depth < DEPTH; depth++) {
            let group = start + depth * slices;
            let w = weights_of_4(segment, panel, group, i);
            let low = array(decode_low(w[0]), decode_low(w[1]), decode_low(w[2]), decode_low(w[3]));
            let high = array(decode_high(w[0]), decode_high(w[1]), decode_high(w[2]), decode_high(w[3]));
            for (var row = 0u; row < ROWS; row++) {
                let quad = (first_row + row) * INPUT_QUADS + 2u * group;
                sums[row] = multiply_add(low, input_low(quad, lane), sums[row]);
                sums[row] = multiply_add(high, input_high(quad, lane), sums[row]);
            }
        }
    }
    return sums;
}

// Four inputs times the weights of four features. A chain of fused operations: one instruction per weight.
fn multiply_add(weights: array<Quad, 4>, x: vec4f, sums: vec4f) -> vec4f {
    let w = weights;
    var sum = fma(vec4f(w[0].x, w[1].x, w[2].x, w[3].x), vec4f(x.x), sums);
    sum = fma(vec4f(w[0].y, w[1].y, w[2].y, w[3].y), vec4f(x.y), sum);
    sum = fma(vec4f(w[0].z, w[1].z, w[2].z, w[3].z), vec4f(x.z), sum);
    return fma(vec4f(w[0].w, w[1].w, w[2].w, w[3].w), vec4f(x.w), sum);
}
