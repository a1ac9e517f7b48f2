// block_out: x[row] += out_proj · attended[row] + fc_out · hidden[row] + bias
//
// A block adds both branches to the residual stream at once, so their last matrices are fused as well, side by side:
// [out_proj | fc_out]. Attention's results and the MLP's hidden layer lie side by side in a row of activations.

#import step
#import matmul

override EMBD_QUADS: u32;   // of a row of x

@group(0) @binding(2) var<storage, read> input: array<vec4f>;      // (rows, attended | hidden | q)
@group(0) @binding(3) var<storage, read> step: Step;               // (rows)
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;       // (n_embd) of fc_out
@group(0) @binding(5) var<storage, read_write> x: array<vec4f>;    // (rows, n_embd)

@compute @workgroup_size(WG_SIZE)
fn block_out(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    multiply(workgroup, lane);
}

fn n_rows() -> u32 {
    return step.n_rows;
}

fn finish(row: u32, feature: u32, sums: vec4f) {
    let quad = feature / 4u;
    // The last panel may reach beyond the last feature.
    if quad < EMBD_QUADS {
        x[row * EMBD_QUADS + quad] += sums + bias[quad];
    }
}
