// reduce: one value from all lanes of a workgroup. This version is for adapters with subgroups, of any size:
// each subgroup reduces in registers, then every lane combines the few results.
//
// Standard WGSL requires `enable subgroups;`, which naga does not know; it is added for other compilers.

override WG_SIZE: u32;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroups: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

// One element per subgroup is used; a subgroup may be as small as one lane.
var<workgroup> partial_results: array<vec4f, WG_SIZE>;

fn share_partial(value: vec4f, lane: Lane) {
    // Lanes may still be reading the partial results of an earlier reduction.
    workgroupBarrier();
    if lane.subgroup_lane == 0u {
        partial_results[lane.subgroup] = value;
    }
    workgroupBarrier();
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

// The sum over all lanes whose index has the same remainder by eight, in the first eight lanes. Lanes of a subgroup are
// neighbours in the workgroup.
fn sum_slices(value: vec4f, lane: Lane) -> vec4f {
    var sum = value;
    if WG_SIZE > 8u {
        let active_size = min(lane.subgroup_size, WG_SIZE);
        // All lanes must shuffle; values from outside the subgroup are ignored.
        for (var distance = 8u; distance < min(WG_SIZE, 128u); distance *= 2u) {
            let other = subgroupShuffleXor(sum, distance);
            sum += select(vec4f(), other, distance < active_size);
        }
        workgroupBarrier();
        partial_results[lane.index] = sum;
        workgroupBarrier();
        if lane.index < 8u {
            for (var i = max(active_size, 8u); i < WG_SIZE; i += max(active_size, 8u)) {
                sum += partial_results[lane.index + i];
            }
        }
    }
    return sum;
}
