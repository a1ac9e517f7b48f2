// matvec: output[row] = weight · input[row], for few rows
//
// Few rows are bound by how fast the weights stream in, so nothing is staged: a workgroup takes four output
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
@group(0) @binding(2) var<storage, read_write> output: array<vec4f>;   // (rows, OUT_WIDTH)
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;           // (OUT_WIDTH)

@compute @workgroup_size(WG_SIZE)
fn matvec(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let sums = dot_products(workgroup, lane);
    if lane.index == 0u {
        output[output_index(workgroup)] = sums;
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_bias(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let sums = dot_products(workgroup, lane);
    if lane.index == 0u {
        output[output_index(workgroup)] = sums + bias[bias_index(workgroup)];
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_bias_gelu(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let sums = dot_products(workgroup, lane);
    if lane.index == 0u {
        output[output_index(workgroup)] = gelu(sums + bias[bias_index(workgroup)]);
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_residual(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let sums = dot_products(workgroup, lane);
    if lane.index == 0u {
        output[output_index(workgroup)] += sums;
    }
}

@compute @workgroup_size(WG_SIZE)
fn matvec_bias_residual(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let sums = dot_products(workgroup, lane);
    if lane.index == 0u {
        output[output_index(workgroup)] += sums + bias[bias_index(workgroup)];
    }
}

// The workgroup's four features, counted in fours over the whole weight.
fn bias_index(workgroup: vec3u) -> u32 {
    return FIRST_OUT / 4u + workgroup.x;
}

fn output_index(workgroup: vec3u) -> u32 {
    return workgroup.y * (padded(OUT_WIDTH) / 4u) + bias_index(workgroup);
}

fn dot_products(workgroup: vec3u, lane: Lane) -> vec4f {
    let n_groups = groups_of_8(IN);
    let features = workgroup.x * 4u + vec4u(0u, 1u, 2u, 3u);
    // Features past the end have no weights: they take the last one's, and their sums, which would land in the
    // output's padding, become zero.
    let weight_rows = min(features, vec4u(OUT - 1u)) * n_groups;
    let input_row = workgroup.y * n_groups;

    var sums = vec4f();
    for (var group = lane.index; group < n_groups; group += WG_SIZE) {
        let low = input[2u * (input_row + group)];
        let high = input[2u * (input_row + group) + 1u];
        sums += vec4f(
            dot_group(weight_group(weight_rows.x + group), low, high),
            dot_group(weight_group(weight_rows.y + group), low, high),
            dot_group(weight_group(weight_rows.z + group), low, high),
            dot_group(weight_group(weight_rows.w + group), low, high),
        );
    }
    return select(vec4f(), workgroup_sum4(sums, lane), features < vec4u(OUT));
}

fn dot_group(weights: Group, low: vec4f, high: vec4f) -> f32 {
    return dot(weights.low, low) + dot(weights.high, high);
}
