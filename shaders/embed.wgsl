// embed: x[row] = wte[tokens[row]]
//
// One workgroup a row. Where wte is too large for one binding it comes in parts, and the kernel is launched once a
// part: each launch fills the rows whose token lies in its part.

#import chunk
#import widths

override WG_SIZE: u32;
override N_EMBD: u32;
override FIRST_TOKEN: u32;   // the first token of this part of wte
override N_TOKENS: u32;      // tokens in this part

@group(0) @binding(0) var<storage, read> tokens: array<u32>;      // (rows)
@group(0) @binding(1) var<storage, read> wte: array<Chunk>;       // (N_TOKENS, N_EMBD) f16
@group(0) @binding(2) var<storage, read_write> x: array<vec4f>;   // (rows, N_EMBD)

@compute @workgroup_size(WG_SIZE)
fn embed(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.x;
    let token = tokens[row] - FIRST_TOKEN;   // wraps to a huge number below the part
    if token >= N_TOKENS {
        return;
    }
    let n_chunks = groups_of_8(N_EMBD);
    for (var chunk = lane; chunk < n_chunks; chunk += WG_SIZE) {
        let embedding = wte[token * n_chunks + chunk];
        let index = 2u * (row * n_chunks + chunk);
        x[index] = unpack_low(embedding);
        x[index + 1u] = unpack_high(embedding);
    }
}
