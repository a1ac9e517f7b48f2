// attention_weights: attentions[row, head, position] = softmax(q · keys / sqrt(HEAD_DIM)) over the positions up to the
// row's own
//
// What attention mixes the values by, for those who want to look at it; the pass itself stores no weights. One
// workgroup takes one head of one row, and a lane every so many positions: it reads back only what it wrote itself.

#import step
#import activations
#import cache
#import chunk
#import reduce

// The reciprocal of sqrt(HEAD_DIM).
override SCALE: f32;

@group(0) @binding(0) var<storage, read> step: Step;                     // (rows)
@group(0) @binding(1) var<storage, read> input: array<vec4f>;            // (rows, attended | hidden | q)
@group(0) @binding(2) var<storage, read> cache: array<Chunk>;            // (keys | values, slots, N_HEAD, N_POSITIONS)
@group(0) @binding(3) var<storage, read_write> attentions: array<f32>;   // (rows, N_HEAD, N_POSITIONS)

const LOWEST: f32 = -3.4028234e38;

@compute @workgroup_size(WG_SIZE)
fn attention_weights(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let head = workgroup.x;
    let row = workgroup.y;
    let place = step.rows[row];
    let n_positions = place.position + 1u;
    let q = q_quad(row, head);
    let start = (row * N_HEAD + head) * N_POSITIONS;

    var largest = LOWEST;
    for (var position = lane.index; position < n_positions; position += WG_SIZE) {
        var products = vec4f();
        for (var chunk = 0u; chunk < HEAD_CHUNKS; chunk++) {
            let key = cache[key_chunk(place.slot, head, position, chunk)];
            products = fma(unpack_low(key), input[q + 2u * chunk], products);
            products = fma(unpack_high(key), input[q + 2u * chunk + 1u], products);
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
