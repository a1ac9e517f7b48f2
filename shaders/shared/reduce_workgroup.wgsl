// reduce: one value from all lanes of a workgroup. This version is for adapters without subgroups: a tree in
// workgroup memory, which halves the number of active lanes at each step. WG_SIZE is a power of two.

override WG_SIZE: u32;

struct Invocation {
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partial_results: array<vec4f, WG_SIZE>;

fn share_partial(value: vec4f, at: Invocation) {
    // Lanes may still be reading the result of an earlier reduction.
    workgroupBarrier();
    partial_results[at.lane] = value;
    workgroupBarrier();
}

fn workgroup_sum4(value: vec4f, at: Invocation) -> vec4f {
    share_partial(value, at);
    for (var stride = WG_SIZE / 2u; stride > 0u; stride /= 2u) {
        if at.lane < stride {
            partial_results[at.lane] += partial_results[at.lane + stride];
        }
        workgroupBarrier();
    }
    return partial_results[0];
}

fn workgroup_sum(value: f32, at: Invocation) -> f32 {
    return workgroup_sum4(vec4f(value, 0.0, 0.0, 0.0), at).x;
}

fn workgroup_max(value: f32, at: Invocation) -> f32 {
    share_partial(vec4f(value), at);
    for (var stride = WG_SIZE / 2u; stride > 0u; stride /= 2u) {
        if at.lane < stride {
            partial_results[at.lane] = max(partial_results[at.lane], partial_results[at.lane + stride]);
        }
        workgroupBarrier();
    }
    return partial_results[0].x;
}
