// reduce: one value from all lanes of a workgroup. This version is for adapters with subgroups, of any size:
// each subgroup reduces in registers, then every lane combines the few results.
//
// Standard WGSL wants `enable subgroups;` before this, which naga does not know; for other compilers it is put there.

override WG_SIZE: u32;

struct Invocation {
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

// One element a subgroup is used; a subgroup may be as small as one lane.
var<workgroup> partial_results: array<vec4f, WG_SIZE>;

fn share_partial(value: vec4f, at: Invocation) {
    // Lanes may still be reading the partial results of an earlier reduction.
    workgroupBarrier();
    if at.subgroup_lane == 0u {
        partial_results[at.subgroup] = value;
    }
    workgroupBarrier();
}

fn workgroup_sum4(value: vec4f, at: Invocation) -> vec4f {
    share_partial(subgroupAdd(value), at);
    var sum = vec4f();
    for (var i = 0u; i < at.n_subgroups; i++) {
        sum += partial_results[i];
    }
    return sum;
}

fn workgroup_sum(value: f32, at: Invocation) -> f32 {
    share_partial(vec4f(subgroupAdd(value)), at);
    var sum = 0.0;
    for (var i = 0u; i < at.n_subgroups; i++) {
        sum += partial_results[i].x;
    }
    return sum;
}

fn workgroup_max(value: f32, at: Invocation) -> f32 {
    share_partial(vec4f(subgroupMax(value)), at);
    var largest = partial_results[0].x;
    for (var i = 1u; i < at.n_subgroups; i++) {
        largest = max(largest, partial_results[i].x);
    }
    return largest;
}
