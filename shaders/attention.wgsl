// attention: for each row and head, softmax(q · keys / sqrt(HEAD_DIM)) · values over the positions up to the row's own
//
// For few rows, which fill a GPU only if the history of a row is split. One workgroup takes one head of one row over
// one split: LANE_POSITIONS positions a lane. Each lane scores its own; then each lane mixes eight dimensions of the
// values, and where there are more lanes than that takes, several mix every so many positions. What a workgroup leaves
// is relative to its own maximum and not yet divided by the sum; merge_attention combines the splits.

#import step
#import activations
#import cache
#import chunk
#import reduce
#import inputs

override LANE_POSITIONS: u32;
override N_SHARES: u32;        // lanes that mix the same dimensions; divides WG_SIZE
override N_SPLITS: u32;        // splits that a row has room for
// The reciprocal of sqrt(HEAD_DIM).
override SCALE: f32;

override SPLIT: u32 = WG_SIZE * LANE_POSITIONS;

@group(0) @binding(0) var<storage, read> step: Step;                    // (rows)
@group(0) @binding(1) var<storage, read> input: array<vec4f>;           // (rows, attended | hidden | q)
@group(0) @binding(2) var<storage, read> cache: array<Chunk>;           // (keys | values, slots, N_HEAD, N_POSITIONS)
@group(0) @binding(3) var<storage, read_write> mixtures: array<vec4f>;  // (rows, N_HEAD, N_SPLITS, HEAD_QUADS)
@group(0) @binding(4) var<storage, read_write> softmaxes: array<vec2f>; // (rows, N_HEAD, N_SPLITS) maximum and sum

const LOWEST: f32 = -3.4028234e38;

var<workgroup> weights: array<f32, SPLIT>;           // first scores, then the weights that come of them
var<workgroup> shares: array<vec4f, 2u * WG_SIZE>;   // of the mixture, by lane

@compute @workgroup_size(WG_SIZE)
fn attention(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let head = workgroup.x;
    let row = workgroup.y;
    let split = workgroup.z;
    let place = step.rows[row];
    let first = split * SPLIT;
    // Rows of one step differ in length: this one may have fewer splits than the longest.
    if first > place.position {
        return;
    }
    let n_positions = min(SPLIT, place.position + 1u - first);

    let q = q_quad(row, head);
    var largest = LOWEST;
    for (var start = 0u; start < n_positions; start += WG_SIZE) {
        let index = start + lane.index;
        // Lanes without a position score the last one, in vain.
        let position = first + min(index, n_positions - 1u);
        var products = vec4f();
        for (var chunk = 0u; chunk < HEAD_CHUNKS; chunk++) {
            let key = cache[key_chunk(place.slot, head, position, chunk)];
            products = fma(unpack_low(key), input_low(q + 2u * chunk, lane), products);
            products = fma(unpack_high(key), input_high(q + 2u * chunk, lane), products);
        }
        let score = select(LOWEST, dot(products, vec4f(SCALE)), index < n_positions);
        weights[index] = score;
        largest = max(largest, score);
    }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var start = 0u; start < n_positions; start += WG_SIZE) {
        let index = start + lane.index;
        let weight = select(0.0, exp(weights[index] - largest), index < n_positions);
        weights[index] = weight;
        sum += weight;
    }
    sum = workgroup_sum(sum, lane);

    // Lanes that are left over repeat the last share, in vain.
    let share = min(lane.index / HEAD_CHUNKS, N_SHARES - 1u);
    var low = vec4f();
    var high = vec4f();
    for (var start = 0u; start < n_positions; start += WG_SIZE) {
        // A fixed number of turns, so that a compiler can have many loads under way; the weights past the end are zero.
        for (var turn = 0u; turn < WG_SIZE / N_SHARES; turn++) {
            let index = start + turn * N_SHARES + share;
            let position = min(first + index, N_POSITIONS - 1u);
            let value = cache[value_chunk(place.slot, head, position, lane.index % HEAD_CHUNKS)];
            low = fma(unpack_low(value), vec4f(weights[index]), low);
            high = fma(unpack_high(value), vec4f(weights[index]), high);
        }
    }
    shares[2u * lane.index] = low;
    shares[2u * lane.index + 1u] = high;
    workgroupBarrier();

    let index = (row * N_HEAD + head) * N_SPLITS + split;
    for (var quad = lane.index; quad < HEAD_QUADS; quad += WG_SIZE) {
        var mixture = shares[quad];
        for (var i = 1u; i < N_SHARES; i++) {
            mixture += shares[i * HEAD_QUADS + quad];
        }
        mixtures[index * HEAD_QUADS + quad] = mixture;
    }
    if lane.index == 0u {
        softmaxes[index] = vec2f(largest, sum);
    }
}
