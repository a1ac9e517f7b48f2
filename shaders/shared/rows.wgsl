// rows: what a step works on.
//
// A row is one token's work: its id, the sequence (slot) it belongs to and its place in it. A step is
// any list of rows; they may belong to one sequence (a prompt) or to many (a batch), in any mixture.

struct Row {
    token: u32,
    slot: u32,
    position: u32,
}
