// step: the rows that the GPU works on at once.
//
// A row is one token's work: the sequence (slot) it belongs to and its position in it. A step is any list of rows; they
// may belong to one sequence (a prompt) or to many (a batch), in any mix. Kernels that take rows in tiles compute some
// rows past the step's last one; buffers are large enough for them, and their results are not read.

struct Row {
    slot: u32,
    position: u32,
}

struct Step {
    n_rows: u32,
    n_outputs: u32,     // rows whose logits are computed
    n_positions: u32,   // positions of a slot of the cache, a multiple of 32
    rows: array<Row>,
}
