// weights: the storage of a matrix of the model, and its decoding. This version is f16.
//
// Matmuls do not depend on the format: they load `StoredWeights` and decode them to two Quads.
//
// A matrix is cut into panels of 32 output features. Within a panel lie, for each group of eight inputs, 32 octets: one
// for each feature. Octet 8 * j + i belongs to feature 4 * i + j, so that eight neighbouring lanes read 128 contiguous
// bytes and each of them ends with four neighbouring features. The padding of the last panel is zero.
//
// A launch sees one or two segments of the matrix, since an adapter may bind no more than 128 MiB at once.

#import octet

@group(0) @binding(0) var<storage, read> weight_0: array<Octet>;   // (PANELS_0, IN_GROUPS, 32) octets
@group(0) @binding(1) var<storage, read> weight_1: array<Octet>;   // (PANELS_1, IN_GROUPS, 32) octets

override IN_GROUPS: u32;     // inputs in groups of eight
override PANELS_0: u32;
override PANELS_1: u32;      // zero if there is one segment
override FIRST_PANEL: u32;   // the launch's first panel in the whole matrix

const PANEL_FEATURES: u32 = 32u;

// Eight weights of one feature, as they are stored.
alias StoredWeights = Octet;

fn decode_low(stored: StoredWeights) -> Quad {
    return unpack_low(stored);
}

fn decode_high(stored: StoredWeights) -> Quad {
    return unpack_high(stored);
}

// One of the 32 octets of a group, from the segment of the matrix that holds the panel.
fn stored_weights(panel: u32, group: u32, octet: u32) -> StoredWeights {
    if PANELS_1 == 0u || panel < PANELS_0 {
        return weight_0[(panel * IN_GROUPS + group) * PANEL_FEATURES + octet];
    }
    return weight_1[((panel - PANELS_0) * IN_GROUPS + group) * PANEL_FEATURES + octet];
}

// The weights of features 4 * i to 4 * i + 3 of a panel in this segment. Pass `segment` as a literal, so that the
// branch folds away.
fn weights_of_4(segment: u32, panel: u32, group: u32, i: u32) -> array<StoredWeights, 4> {
    if segment == 0u {
        let index = (panel * IN_GROUPS + group) * PANEL_FEATURES + i;
        return array(weight_0[index], weight_0[index + 8u], weight_0[index + 16u], weight_0[index + 24u]);
    }
    let index = ((panel - PANELS_0) * IN_GROUPS + group) * PANEL_FEATURES + i;
    return array(weight_1[index], weight_1[index + 8u], weight_1[index + 16u], weight_1[index + 24u]);
}
