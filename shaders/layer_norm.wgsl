// layer_norm: normed[row] = (x[row] - mean) / sqrt(variance + EPS) * gain + bias
//
// One workgroup per row. The variance is summed around the mean in a second pass: the one-pass form
// E[x^2] - E[x]^2 loses digits when the mean is large against the spread.

#import reduce
#import widths

override N_EMBD: u32;
override EPS: f32;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;              // (rows, N_EMBD)
@group(0) @binding(1) var<storage, read> gain: array<vec4f>;           // (N_EMBD)
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;           // (N_EMBD)
@group(0) @binding(3) var<storage, read_write> normed: array<vec4f>;   // (rows or outputs, N_EMBD)
@group(0) @binding(4) var<storage, read> outputs: array<u32>;          // (outputs) indices of rows

// Every row.
@compute @workgroup_size(WG_SIZE)
fn layer_norm(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    normalise(workgroup.x, workgroup.x, lane);
}

// Only the rows whose logits are computed, packed together.
@compute @workgroup_size(WG_SIZE)
fn layer_norm_outputs(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    normalise(outputs[workgroup.x], workgroup.x, lane);
}

fn normalise(from_row: u32, to_row: u32, lane: Lane) {
    let quads = padded(N_EMBD) / 4u;
    let from_start = from_row * quads;
    let to_start = to_row * quads;

    // The padding is zero and adds nothing to the sum.
    var sums = vec4f();
    for (var i = lane.index; i < quads; i += WG_SIZE) {
        sums += x[from_start + i];
    }
    let mean = workgroup_sum(dot(sums, vec4f(1.0)), lane) / f32(N_EMBD);

    var squares = vec4f();
    for (var i = lane.index; i < quads; i += WG_SIZE) {
        let centred = without_padding(x[from_start + i] - mean, i);
        squares += centred * centred;
    }
    let scale = inverseSqrt(workgroup_sum(dot(squares, vec4f(1.0)), lane) / f32(N_EMBD) + EPS);

    // The padding of gain and bias is zero, and so is that of the result.
    for (var i = lane.index; i < quads; i += WG_SIZE) {
        normed[to_start + i] = (x[from_start + i] - mean) * scale * gain[i] + bias[i];
    }
}

fn without_padding(values: vec4f, quad: u32) -> vec4f {
    return select(vec4f(), values, 4u * quad + vec4u(0u, 1u, 2u, 3u) < vec4u(N_EMBD));
}
