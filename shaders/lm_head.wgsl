// lm_head: logits[output] = weight · ln_f[output] + bias, for the rows whose logits are computed

#import step
#import matmul

override VOCAB_QUADS: u32;   // of a row of logits

@group(0) @binding(2) var<storage, read> input: array<vec4f>;           // (outputs, n_embd) after ln_f
@group(0) @binding(3) var<storage, read> step: Step;                    // (rows)
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;            // (vocab_size)
@group(0) @binding(5) var<storage, read_write> logits: array<vec4f>;    // (outputs, vocab_size)

@compute @workgroup_size(WG_SIZE)
fn lm_head(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    multiply(workgroup, lane);
}

fn n_rows() -> u32 {
    return step.n_outputs;
}

fn finish(row: u32, feature: u32, sums: vec4f) {
    let quad = feature / 4u;
    // The last panel may reach beyond the last feature.
    if quad < VOCAB_QUADS {
        logits[row * VOCAB_QUADS + quad] = sums + bias[quad];
    }
}
