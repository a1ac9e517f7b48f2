// splits: the division of a row's history among workgroups of attention.
//
// The importing kernel binds `step`.

override SPLIT: u32;   // positions of a split

// Splits that a row may have in the buffers between attention and merge_attention.
fn n_splits() -> u32 {
    return (step.n_positions + SPLIT - 1u) / SPLIT;
}
