// fma_ceiling: sums[lane] = s + t after ROUNDS * 64 steps s = s * factor + term, t = t * factor + term
//
// How fast the GPU multiplies and adds: benchmarks compare the other kernels with it. Two vectors of four are eight
// independent chains per lane; more would not fit the registers of a software driver.

override WG_SIZE: u32;
override ROUNDS: u32;

const STEPS: u32 = 64u;

@group(0) @binding(0) var<storage, read> chain: array<vec2f>;          // (1) factor and term
@group(0) @binding(1) var<storage, read_write> sums: array<vec4f>;     // (lanes, 4)

@compute @workgroup_size(WG_SIZE)
fn fma_ceiling(@builtin(global_invocation_id) lane: vec3u) {
    let factor = vec4f(chain[0].x);
    let term = vec4f(chain[0].y);
    let start = f32(lane.x % 64u) / 64.0;
    var s = vec4f(start, start + 1.0, start + 2.0, start + 3.0);
    var t = -s;
    for (var round = 0u; round < ROUNDS; round++) {
        // Unrolled by eight: few drivers unroll 64 steps by themselves.
        for (var i = 0u; i < STEPS; i += 8u) {
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
            s = fma(s, factor, term);
            t = fma(t, factor, term);
        }
    }
    sums[lane.x] = s + t;
}
