// reduce: one value from all lanes of a workgroup. This version is for adapters without subgroups: a tree in
// workgroup memory, which halves the number of active lanes at each step. WG_SIZE is a power of two.

override WG_SIZE: u32;

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> partial_results: array<vec4f, WG_SIZE>;

fn share_partial(value: vec4f, lane: Lane) {
    // Lanes may still be reading the result of an earlier reduction.
    workgroupBarrier();
    partial_results[lane.index] = value;
    workgroupBarrier();
}

fn workgroup_sum(value: f32, lane: Lane) -> f32 {
    share_partial(vec4f(value), lane);
    for (var stride = WG_SIZE / 2u; stride > 0u; stride /= 2u) {
        if lane.index < stride {
            partial_results[lane.index] += partial_results[lane.index + stride];
        }
        workgroupBarrier();
    }
    return partial_results[0].x;
}

fn workgroup_max(value: f32, lane: Lane) -> f32 {
    share_partial(vec4f(value), lane);
    for (var stride = WG_SIZE / 2u; stride > 0u; stride /= 2u) {
        if lane.index < stride {
            partial_results[lane.index] = max(partial_results[lane.index], partial_results[lane.index + stride]);
        }
        workgroupBarrier();
    }
    return partial_results[0].x;
}

// The sum over all lanes whose index has the same remainder by eight, in the first eight lanes.
fn sum_slices(value: vec4f, lane: Lane) -> vec4f {
    var sum = value;
    if WG_SIZE > 8u {
        share_partial(value, lane);
        if lane.index < 8u {
            for (var i = 8u; i < WG_SIZE; i += 8u) {
                sum += partial_results[lane.index + i];
            }
        }
    }
    return sum;
}
