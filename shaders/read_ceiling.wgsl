// read_ceiling: how fast memory streams in; benchmarks compare the other kernels with it
//
// All lanes together walk through the data in 16-byte loads, each with four in flight. The exclusive or of a lane's
// loads is compared with NEEDLE, which it practically never is, so that no load can be left out and nothing is stored.

override WG_SIZE: u32;
override N_LOADS: u32;   // 16-byte loads in the data
override NEEDLE: u32;

@group(0) @binding(0) var<storage, read> data: array<vec4u>;         // (N_LOADS)
@group(0) @binding(1) var<storage, read_write> found: array<u32>;    // (1)

@compute @workgroup_size(WG_SIZE)
fn read_ceiling(
    @builtin(global_invocation_id) lane: vec3u,
    @builtin(num_workgroups) grid: vec3u,
) {
    let stride = grid.x * WG_SIZE;
    var seen = vec4u();
    var i = lane.x;
    for (; i + 3u * stride < N_LOADS; i += 4u * stride) {
        let a = data[i];
        let b = data[i + stride];
        let c = data[i + 2u * stride];
        let d = data[i + 3u * stride];
        seen ^= a ^ b ^ c ^ d;
    }
    for (; i < N_LOADS; i += stride) {
        seen ^= data[i];
    }
    if all(seen == vec4u(NEEDLE)) {
        found[0] = 1u;
    }
}
