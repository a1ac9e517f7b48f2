// activations: the vectors between the two matrices of a block. A row is, in vec4s,
//
//     attended (HEADS_QUADS) | hidden (INNER_QUADS) | q (HEADS_QUADS)
//
// so that the input of block_out, attention's results and the MLP's hidden layer, is contiguous.

#import heads

override INNER_QUADS: u32;   // of the MLP's hidden layer, padded to a multiple of two
override ACTIVATION_QUADS: u32 = 2u * HEADS_QUADS + INNER_QUADS;

fn attended_quad(row: u32, head: u32) -> u32 {
    return row * ACTIVATION_QUADS + head * HEAD_QUADS;
}

fn hidden_quad(row: u32) -> u32 {
    return row * ACTIVATION_QUADS + HEADS_QUADS;
}

fn q_quad(row: u32, head: u32) -> u32 {
    return row * ACTIVATION_QUADS + HEADS_QUADS + INNER_QUADS + head * HEAD_QUADS;
}
