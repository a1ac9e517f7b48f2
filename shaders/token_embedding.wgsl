// token_embedding: x[row] = wte[tokens[row]]
//
// One workgroup per row. If wte is too large for one binding it comes in segments, and the kernel is launched once per
// segment: each launch fills the rows whose token lies in its segment.

#import octet
#import widths

override WG_SIZE: u32;
override N_EMBD: u32;
override FIRST_TOKEN: u32;   // the first token of this segment of wte
override N_TOKENS: u32;      // tokens in this segment

@group(0) @binding(0) var<storage, read> tokens: array<u32>;      // (rows)
@group(0) @binding(1) var<storage, read> wte: array<Octet>;       // (N_TOKENS, N_EMBD) f16
@group(0) @binding(2) var<storage, read_write> x: array<vec4f>;   // (rows, N_EMBD)

@compute @workgroup_size(WG_SIZE)
fn token_embedding(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.x;
    let token = tokens[row] - FIRST_TOKEN;   // wraps to a huge number below the segment
    if token >= N_TOKENS {
        return;
    }
    let n_octets = groups_of_8(N_EMBD);
    for (var octet = lane; octet < n_octets; octet += WG_SIZE) {
        let embedding = wte[token * n_octets + octet];
        let index = 2u * (row * n_octets + octet);
        x[index] = unpack_low(embedding);
        x[index + 1u] = unpack_high(embedding);
    }
}
