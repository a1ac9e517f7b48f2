// merge_attention: attended[row, head] = attention over a row's whole history, from the results of attention's splits
//
// The result and the sum of a split are relative to its own maximum; rescaled to the largest maximum, those of all
// splits add up. One workgroup per row and head.

#import step
#import activations
#import splits

override WG_SIZE: u32;

@group(0) @binding(0) var<storage, read> step: Step;                       // (rows)
@group(0) @binding(1) var<storage, read> partial_out: array<vec4f>;       // (rows, N_HEAD, splits, HEAD_QUADS)
@group(0) @binding(2) var<storage, read> partial_max_sum: array<vec2f>;   // (rows, N_HEAD, splits) maximum, sum
@group(0) @binding(3) var<storage, read_write> activations: array<vec4f>;  // (rows, attended | hidden | q)

@compute @workgroup_size(WG_SIZE)
fn merge_attention(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.x;
    let row = workgroup.y;
    let first = (row * N_HEAD + head) * n_splits();
    let end = first + step.rows[row].position / SPLIT + 1u;

    var largest = partial_max_sum[first].x;
    for (var split = first + 1u; split < end; split++) {
        largest = max(largest, partial_max_sum[split].x);
    }
    for (var quad = lane; quad < HEAD_QUADS; quad += WG_SIZE) {
        var out = vec4f();
        var sum = 0.0;
        for (var split = first; split < end; split++) {
            let max_sum = partial_max_sum[split];
            let rescale = exp(max_sum.x - largest);
            out = fma(partial_out[split * HEAD_QUADS + quad], vec4f(rescale), out);
            sum = fma(max_sum.y, rescale, sum);
        }
        activations[attended_quad(row, head) + quad] = out / sum;
    }
}
