// attention_weights: attentions[row, head, position] = softmax(q · keys / sqrt(HEAD_DIM)) over the positions up to the
// row's own
//
// The weights of the values in attention, for inspection; the forward pass stores none. One workgroup takes one head of
// one row, and a lane every WG_SIZE-th position: it reads back only what it wrote itself.

#import step
#import activations
#import cache
#import octet
#import reduce

// The reciprocal of sqrt(HEAD_DIM).
override SCALE: f32;

@group(0) @binding(0) var<storage, read> step: Step;                     // (rows)
@group(0) @binding(1) var<storage, read> input: array<vec4f>;            // (rows, attended | hidden | q)
@group(0) @binding(2) var<storage, read> cache: array<Octet>;            // (slots, keys | values, N_HEAD, positions)
@group(0) @binding(3) var<storage, read_write> attentions: array<f32>;   // (rows, N_HEAD, positions)

const LOWEST: f32 = -3.4028234e38;

@compute @workgroup_size(WG_SIZE)
fn attention_weights(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let head = workgroup.x;
    let row = workgroup.y;
    let row_info = step.rows[row];
    let n_positions = row_info.position + 1u;
    let q = q_quad(row, head);
    let start = (row * N_HEAD + head) * step.n_positions;

    var largest = LOWEST;
    for (var position = lane.index; position < n_positions; position += WG_SIZE) {
        var products = vec4f();
        for (var octet = 0u; octet < HEAD_OCTETS; octet++) {
            let key = cache[key_octet(row_info.slot, head, position, octet)];
            products = fma(unpack_low(key), input[q + 2u * octet], products);
            products = fma(unpack_high(key), input[q + 2u * octet + 1u], products);
        }
        let score = dot(products, vec4f(SCALE));
        attentions[start + position] = score;
        largest = max(largest, score);
    }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var position = lane.index; position < n_positions; position += WG_SIZE) {
        let weight = exp(attentions[start + position] - largest);
        attentions[start + position] = weight;
        sum += weight;
    }
    sum = workgroup_sum(sum, lane);
    for (var position = lane.index; position < n_positions; position += WG_SIZE) {
        attentions[start + position] /= sum;
    }
}
