// inputs: numbers that eight neighbouring lanes all need. In this version each lane loads them all: loads of the same
// address within a subgroup are one.
//
// The importing kernel binds `input`, in vec4s. Numbers come in groups of eight; `quad` is the first vec4 of a group.

fn input_low(quad: u32, lane: Lane) -> vec4f {
    return input[quad];
}

fn input_high(quad: u32, lane: Lane) -> vec4f {
    return input[quad + 1u];
}

// The slice of the inputs that a lane begins with: each eight lanes take one.
fn first_slice(lane: Lane) -> u32 {
    return lane.index / 8u;
}
