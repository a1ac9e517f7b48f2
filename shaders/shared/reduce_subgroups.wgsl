// reduce: one value from all lanes of a workgroup. This version is for adapters with subgroups, of any size:
// each subgroup reduces in registers, then every lane combines the few results.
//
// Standard WGSL wants `enable subgroups;` before this, which naga does not know; for other compilers it is put there.

override WG_SIZE: u32;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

// One element a subgroup is used; a subgroup may be as small as one lane.
var<workgroup> partial_results: array<vec4f, WG_SIZE>;

fn share_partial(value: vec4f, lane: Lane) {
    // Lanes may still be reading the partial results of an earlier reduction.
    workgroupBarrier();
    if lane.subgroup_lane == 0u {
        partial_results[lane.subgroup] = value;
    }
    workgroupBarrier();
}

fn workgroup_sum4(value: vec4f, lane: Lane) -> vec4f {
    share_partial(subgroupAdd(value), lane);
    var sum = vec4f();
    for (var i = 0u; i < lane.n_subgroups; i++) {
        sum += partial_results[i];
    }
    return sum;
}

fn workgroup_sum(value: f32, lane: Lane) -> f32 {
    share_partial(vec4f(subgroupAdd(value)), lane);
    var sum = 0.0;
    for (var i = 0u; i < lane.n_subgroups; i++) {
        sum += partial_results[i].x;
    }
    return sum;
}

fn workgroup_max(value: f32, lane: Lane) -> f32 {
    share_partial(vec4f(subgroupMax(value)), lane);
    var largest = partial_results[0].x;
    for (var i = 1u; i < lane.n_subgroups; i++) {
        largest = max(largest, partial_results[i].x);
    }
    return largest;
}
