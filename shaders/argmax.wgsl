// argmax: tokens[output] = the token with the largest logit, the first of equals; NOT_A_TOKEN if it is not finite
//
// One workgroup per output. Each lane keeps the best of its share, then a tree in workgroup memory finds the best of
// the lanes. If a step computes the logits of every row, the tokens are in place for the next step.

#import widths

override WG_SIZE: u32;
override VOCAB_SIZE: u32;

@group(0) @binding(0) var<storage, read> logits: array<vec4f>;       // (outputs, VOCAB_SIZE)
@group(0) @binding(1) var<storage, read_write> tokens: array<u32>;   // (outputs)

const LOWEST: f32 = -3.4028234e38;
const NOT_A_TOKEN: u32 = 0xffffffffu;

var<workgroup> best_logit: array<f32, WG_SIZE>;
var<workgroup> best_token: array<u32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn argmax(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let start = workgroup.x * (padded(VOCAB_SIZE) / 4u);
    var logit = LOWEST;
    var token = 4u * lane;
    for (var quad = lane; quad < (VOCAB_SIZE + 3u) / 4u; quad += WG_SIZE) {
        let logits_of_4 = logits[start + quad];
        for (var i = 0u; i < 4u; i++) {
            if logits_of_4[i] > logit && 4u * quad + i < VOCAB_SIZE {
                logit = logits_of_4[i];
                token = 4u * quad + i;
            }
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
        let is_finite = best_logit[0] > LOWEST && best_logit[0] <= -LOWEST;
        tokens[workgroup.x] = select(NOT_A_TOKEN, best_token[0], is_finite);
    }
}
