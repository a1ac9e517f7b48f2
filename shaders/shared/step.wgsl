// step: what the GPU works on at once.
//
// A row is one token's work: the sequence (slot) it belongs to and its place in it. A step is any list of rows; they
// may belong to one sequence (a prompt) or to many (a batch), in any mixture. Kernels that take rows in tiles compute
// some rows past the step's last one; buffers have room for them, and nobody reads what they give.

struct Row {
    slot: u32,
    position: u32,
}

struct Step {
    n_rows: u32,
    n_outputs: u32,     // rows whose logits are wanted
    rows: array<Row>,
}
