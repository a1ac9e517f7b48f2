// argmax: tokens[output] = the token with the largest logit, the first of equals
//
// One workgroup an output. Each lane keeps the best of its share, then a tree in workgroup memory finds the best of
// the lanes.

#import widths

override WG_SIZE: u32;
override VOCAB_SIZE: u32;

@group(0) @binding(0) var<storage, read> logits: array<f32>;         // (outputs, VOCAB_SIZE)
@group(0) @binding(1) var<storage, read_write> tokens: array<u32>;   // (outputs)

var<workgroup> best_logit: array<f32, WG_SIZE>;
var<workgroup> best_token: array<u32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn argmax(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let start = workgroup.x * padded(VOCAB_SIZE);
    // A lane without a share repeats the last token, which can only tie with the lane that owns it.
    var token = min(lane, VOCAB_SIZE - 1u);
    var logit = logits[start + token];
    for (var i = lane + WG_SIZE; i < VOCAB_SIZE; i += WG_SIZE) {
        if logits[start + i] > logit {
            logit = logits[start + i];
            token = i;
        }
    }
    best_logit[lane] = logit;
    best_token[lane] = token;
    workgroupBarrier();
    for (var stride = WG_SIZE / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            let other = lane + stride;
            let larger = best_logit[other] > best_logit[lane];
            let first_of_equals = best_logit[other] == best_logit[lane] && best_token[other] < best_token[lane];
            if larger || first_of_equals {
                best_logit[lane] = best_logit[other];
                best_token[lane] = best_token[other];
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        tokens[workgroup.x] = best_token[0];
    }
}
