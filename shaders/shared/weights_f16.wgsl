// weights: how a matrix of the model is stored. This version is f16.
//
// A matrix is cut into panels of 32 output features. Within a panel lie, for each group of eight inputs, 32 chunks: one
// for each feature. Chunk 8 * j + i belongs to feature 4 * i + j, so that eight neighbouring lanes read 128 contiguous
// bytes and each of them ends with four neighbouring features. What fills up the last panel is zero.
//
// A launch sees one or two parts of the matrix, since an adapter may bind no more than 128 MiB at once.

#import chunk

@group(0) @binding(0) var<storage, read> weight_0: array<Chunk>;   // (PANELS_0, IN_GROUPS, 32) chunks
@group(0) @binding(1) var<storage, read> weight_1: array<Chunk>;   // (PANELS_1, IN_GROUPS, 32) chunks

override IN_GROUPS: u32;     // inputs in groups of eight
override PANELS_0: u32;
override PANELS_1: u32;      // zero where one part is all
override FIRST_PANEL: u32;   // the launch's first panel in the whole matrix

const PANEL_FEATURES: u32 = 32u;

fn weight_chunk(panel: u32, group: u32, chunk: u32) -> Chunk {
    if PANELS_1 == 0u || panel < PANELS_0 {
        return weight_0[(panel * IN_GROUPS + group) * PANEL_FEATURES + chunk];
    }
    return weight_1[((panel - PANELS_0) * IN_GROUPS + group) * PANEL_FEATURES + chunk];
}

// The chunks of features 4 * i to 4 * i + 3 of a panel, which lies in this part. A part that is a constant where this
// is called leaves no branch to take at each load.
fn weight_chunks(part: u32, panel: u32, group: u32, i: u32) -> array<Chunk, 4> {
    if part == 0u {
        let index = (panel * IN_GROUPS + group) * PANEL_FEATURES + i;
        return array(weight_0[index], weight_0[index + 8u], weight_0[index + 16u], weight_0[index + 24u]);
    }
    let index = ((panel - PANELS_0) * IN_GROUPS + group) * PANEL_FEATURES + i;
    return array(weight_1[index], weight_1[index + 8u], weight_1[index + 16u], weight_1[index + 24u]);
}
