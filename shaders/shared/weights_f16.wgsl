// weights: how a matrix of the model is stored. This version is f16, a row an output feature.
//
// Kernels see weights only through `weight_group`, so another storage format is another file with this function.

#import half

@group(0) @binding(0) var<storage, read> weight: array<Half8>;   // (OUT, IN) f16

struct Group {
    low: vec4f,    // weights 0 to 3 of the group
    high: vec4f,   // weights 4 to 7
}

// Eight neighbouring weights of one row.
fn weight_group(index: u32) -> Group {
    let group = weight[index];
    return Group(unpack_low(group), unpack_high(group));
}
