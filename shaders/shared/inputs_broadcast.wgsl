// inputs: numbers that eight neighbouring lanes all need. This version is for subgroups of exactly eight lanes, as
// software adapters have: they load lane by lane, so each lane loads one number and broadcasts it to the others.
//
// The importing kernel binds `input`, in vec4s. Numbers come in groups of eight; `quad` is the first vec4 of a group.

fn input_low(quad: u32, lane: Lane) -> vec4f {
    let own = own_input(quad, lane);
    return vec4f(
        subgroupBroadcast(own, 0u),
        subgroupBroadcast(own, 1u),
        subgroupBroadcast(own, 2u),
        subgroupBroadcast(own, 3u),
    );
}

fn input_high(quad: u32, lane: Lane) -> vec4f {
    let own = own_input(quad, lane);
    return vec4f(
        subgroupBroadcast(own, 4u),
        subgroupBroadcast(own, 5u),
        subgroupBroadcast(own, 6u),
        subgroupBroadcast(own, 7u),
    );
}

// The lane's number of a group. Both halves load it; compilers merge the two loads.
fn own_input(quad: u32, lane: Lane) -> f32 {
    return input[quad + lane.subgroup_lane / 4u][lane.subgroup_lane % 4u];
}

// The slice of the inputs that a lane begins with: there is only one, since a matmul's workgroup is one subgroup here.
// If it depended on the lane, a compiler could not know that a subgroup's lanes stay together.
fn first_slice(lane: Lane) -> u32 {
    return 0u;
}
