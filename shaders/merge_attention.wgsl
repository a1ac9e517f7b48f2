// merge_attention: attended[row, head] = the softmax over a row's whole history, from the splits of it
//
// A split's mixture is relative to its own maximum; rescaled to the largest maximum of all splits they add up, and so
// do their sums. One workgroup a row and head.

#import step
#import activations

override WG_SIZE: u32;
override SPLIT: u32;           // positions of a split
override N_SPLITS: u32;        // splits that a row has room for

@group(0) @binding(0) var<storage, read> step: Step;                       // (rows)
@group(0) @binding(1) var<storage, read> mixtures: array<vec4f>;           // (rows, N_HEAD, N_SPLITS, HEAD_QUADS)
@group(0) @binding(2) var<storage, read> softmaxes: array<vec2f>;          // (rows, N_HEAD, N_SPLITS) maximum and sum
@group(0) @binding(3) var<storage, read_write> activations: array<vec4f>;  // (rows, attended | hidden | q)

@compute @workgroup_size(WG_SIZE)
fn merge_attention(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.x;
    let row = workgroup.y;
    let first = (row * N_HEAD + head) * N_SPLITS;
    let end = first + step.rows[row].position / SPLIT + 1u;

    var largest = softmaxes[first].x;
    for (var split = first + 1u; split < end; split++) {
        largest = max(largest, softmaxes[split].x);
    }
    for (var quad = lane; quad < HEAD_QUADS; quad += WG_SIZE) {
        var mixed = vec4f();
        var sum = 0.0;
        for (var split = first; split < end; split++) {
            let softmax = softmaxes[split];
            let rescale = exp(softmax.x - largest);
            mixed = fma(mixtures[split * HEAD_QUADS + quad], vec4f(rescale), mixed);
            sum = fma(softmax.y, rescale, sum);
        }
        activations[attended_quad(row, head) + quad] = mixed / sum;
    }
}
