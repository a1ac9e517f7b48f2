// layer_norm: normed[row] = (x[row] - mean) / sqrt(variance + EPS) * gain + bias
//
// One workgroup a row. The variance is summed around the mean in a second pass: the one-pass form
// E[x^2] - E[x]^2 loses digits when the mean is large against the spread.

#import reduce
#import widths

override N_EMBD: u32;
override EPS: f32;

@group(0) @binding(0) var<storage, read> x: array<f32>;               // (rows, N_EMBD)
@group(0) @binding(1) var<storage, read> gain: array<f32>;            // (N_EMBD)
@group(0) @binding(2) var<storage, read> bias: array<f32>;            // (N_EMBD)
@group(0) @binding(3) var<storage, read_write> normed: array<f32>;    // (rows or outputs, N_EMBD)
@group(0) @binding(4) var<storage, read> outputs: array<u32>;         // (outputs) indices of rows

// Every row.
@compute @workgroup_size(WG_SIZE)
fn layer_norm(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    normalise(workgroup.x, workgroup.x, lane);
}

// Only the rows whose logits are wanted, packed together.
@compute @workgroup_size(WG_SIZE)
fn layer_norm_outputs(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    normalise(outputs[workgroup.x], workgroup.x, lane);
}

fn normalise(from_row: u32, to_row: u32, lane: Lane) {
    let from_start = from_row * padded(N_EMBD);
    let to_start = to_row * padded(N_EMBD);

    var sum = 0.0;
    for (var i = lane.index; i < N_EMBD; i += WG_SIZE) {
        sum += x[from_start + i];
    }
    let mean = workgroup_sum(sum, lane) / f32(N_EMBD);

    var squares = 0.0;
    for (var i = lane.index; i < N_EMBD; i += WG_SIZE) {
        let centred = x[from_start + i] - mean;
        squares += centred * centred;
    }
    let scale = inverseSqrt(workgroup_sum(squares, lane) / f32(N_EMBD) + EPS);

    for (var i = lane.index; i < N_EMBD; i += WG_SIZE) {
        normed[to_start + i] = (x[from_start + i] - mean) * scale * gain[i] + bias[i];
    }
}
