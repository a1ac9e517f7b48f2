// matvec: output[row] = weight · input[row], for few rows
//
// A few rows are bound by how fast the weights stream in, so nothing is staged: a workgroup takes four output
// features of one row, its lanes walk along the four weight rows in 16-byte steps, and the four sums are reduced
// at the end. The entry points differ only in what happens to a finished sum.

#import reduce
#import widths
#import weights
#import gelu

override IN: u32;              // width of an input row
override OUT: u32;             // output features in this part of the weight
override FIRST_OUT: u32;       // the part's first feature
override OUT_WIDTH: u32;       // width of an output row

@group(0) @binding(1) var<storage, read> input: array<vec4f>;          // (rows, IN)
@group(0) @binding(2) var<storage, read_write> output: array<f32>;     // (rows, OUT_WIDTH)
@group(0) @binding(3) var<storage, read> bias: array<f32>;             // (OUT_WIDTH)

const FEATURES: u32 = 4u;      // output features of one workgroup

@compute @workgroup_size(WG_SIZE)
fn matvec(at: Invocation) {
    let sums = dot_products(at);
    if owns_feature(at) {
        output[output_index(at)] = sums[at.lane];
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_bias(at: Invocation) {
    let sums = dot_products(at);
    if owns_feature(at) {
        output[output_index(at)] = sums[at.lane] + bias[feature(at)];
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_bias_gelu(at: Invocation) {
    let sums = dot_products(at);
    if owns_feature(at) {
        output[output_index(at)] = gelu(sums[at.lane] + bias[feature(at)]);
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_residual(at: Invocation) {
    let sums = dot_products(at);
    if owns_feature(at) {
        output[output_index(at)] += sums[at.lane];
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_bias_residual(at: Invocation) {
    let sums = dot_products(at);
    if owns_feature(at) {
        output[output_index(at)] += sums[at.lane] + bias[feature(at)];
    }
}

// The first lanes store one feature each.
fn owns_feature(at: Invocation) -> bool {
    return at.lane < FEATURES && at.workgroup.x * FEATURES + at.lane < OUT;
}

fn feature(at: Invocation) -> u32 {
    return FIRST_OUT + at.workgroup.x * FEATURES + at.lane;
}

fn output_index(at: Invocation) -> u32 {
    return at.workgroup.y * padded(OUT_WIDTH) + feature(at);
}

fn dot_products(at: Invocation) -> vec4f {
    let n_groups = groups_of_8(IN);
    // Features past the end repeat the last one; their sums are not stored.
    let features = min(at.workgroup.x * FEATURES + vec4u(0u, 1u, 2u, 3u), vec4u(OUT - 1u)) * n_groups;
    let input_row = at.workgroup.y * n_groups;

    var sums = vec4f();
    for (var group = at.lane; group < n_groups; group += WG_SIZE) {
        let low = input[2u * (input_row + group)];
        let high = input[2u * (input_row + group) + 1u];
        sums += vec4f(
            dot_group(weight_group(features.x + group), low, high),
            dot_group(weight_group(features.y + group), low, high),
            dot_group(weight_group(features.z + group), low, high),
            dot_group(weight_group(features.w + group), low, high),
        );
    }
    return workgroup_sum4(sums, at);
}

fn dot_group(weights: Group, low: vec4f, high: vec4f) -> f32 {
    return dot(weights.low, low) + dot(weights.high, high);
}
