// merge_attention: attended[row, head] = the softmax over a row's whole history, from the splits of it
//
// A split's mixture is relative to its own maximum; rescaled to the largest maximum of all splits they add up, and so
// do their sums. One workgroup a row and head.

#import rows
#import widths

override WG_SIZE: u32;
override N_HEAD: u32;
override HEAD_DIM: u32;
override SPLIT: u32;           // positions of a split
override N_SPLITS: u32;        // splits that a row has room for
override HEAD_QUADS: u32 = (HEAD_DIM + 3u) / 4u;

@group(0) @binding(0) var<storage, read> rows: array<Row>;              // (rows)
@group(0) @binding(1) var<storage, read> mixtures: array<vec4f>;        // (rows, N_HEAD, N_SPLITS, HEAD_DIM)
@group(0) @binding(2) var<storage, read> softmaxes: array<vec2f>;       // (rows, N_HEAD, N_SPLITS) maximum and sum
@group(0) @binding(3) var<storage, read_write> attended: array<f32>;    // (rows, N_HEAD * HEAD_DIM)

@compute @workgroup_size(WG_SIZE)
fn merge_attention(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.x;
    let row = workgroup.y;
    let first = (row * N_HEAD + head) * N_SPLITS;
    let end = first + rows[row].position / SPLIT + 1u;

    var largest = softmaxes[first].x;
    for (var split = first + 1u; split < end; split++) {
        largest = max(largest, softmaxes[split].x);
    }
    var sum = 0.0;
    for (var split = first; split < end; split++) {
        sum += softmaxes[split].y * exp(softmaxes[split].x - largest);
    }

    let start = row * padded(N_HEAD * HEAD_DIM) + head * HEAD_DIM;
    for (var quad = lane; quad < HEAD_QUADS; quad += WG_SIZE) {
        var mixed = vec4f();
        for (var split = first; split < end; split++) {
            mixed += mixtures[split * HEAD_QUADS + quad] * exp(softmaxes[split].x - largest);
        }
        for (var i = 0u; i < min(4u, HEAD_DIM - 4u * quad); i++) {
            attended[start + 4u * quad + i] = mixed[i] / sum;
        }
    }
}
