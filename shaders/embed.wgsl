// embed: x[row] = wte[token[row]]
//
// One workgroup a row. Where wte is too large for one binding it comes in parts, and the kernel is launched once a
// part: each launch fills the rows whose token lies in its part.

#import rows
#import widths
#import half

override WG_SIZE: u32;
override N_EMBD: u32;
override FIRST_TOKEN: u32;   // the first token of this part of wte
override N_TOKENS: u32;      // tokens in this part

@group(0) @binding(0) var<storage, read> rows: array<Row>;        // (rows)
@group(0) @binding(1) var<storage, read> wte: array<Half8>;       // (N_TOKENS, N_EMBD) f16
@group(0) @binding(2) var<storage, read_write> x: array<vec4f>;   // (rows, N_EMBD)

@compute @workgroup_size(WG_SIZE)
fn embed(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.x;
    let token = rows[row].token - FIRST_TOKEN;   // wraps to a huge number below the part
    if token >= N_TOKENS {
        return;
    }
    let n_groups = groups_of_8(N_EMBD);
    for (var group = lane; group < n_groups; group += WG_SIZE) {
        let embedding = wte[token * n_groups + group];
        let index = 2u * (row * n_groups + group);
        x[index] = unpack_low(embedding);
        x[index + 1u] = unpack_high(embedding);
    }
}
