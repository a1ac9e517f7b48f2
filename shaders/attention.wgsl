// attention: for each row and head, softmax(q · keys / sqrt(HEAD_DIM)) · values over the positions up to the row's own
//
// For few rows, which fill a GPU only if the history of a row is split. One workgroup takes one head of one row over
// one split of SPLIT positions. The lanes score the positions; then each lane sums eight dimensions of the weighted
// values. If there are more lanes than octets in a head, N_SHARES lanes sum the same octet, each over every N_SHARES-th
// position. The result is relative to the split's own maximum and not yet divided by the sum; merge_attention combines
// the splits.

#import step
#import activations
#import cache
#import octet
#import reduce
#import inputs
#import splits

override N_SHARES: u32;        // lanes that sum the same dimensions; divides WG_SIZE
// The reciprocal of sqrt(HEAD_DIM).
override SCALE: f32;

@group(0) @binding(0) var<storage, read> step: Step;                    // (rows)
@group(0) @binding(1) var<storage, read> input: array<vec4f>;           // (rows, attended | hidden | q)
@group(0) @binding(2) var<storage, read> cache: array<Octet>;           // (slots, keys | values, N_HEAD, positions)
@group(0) @binding(3) var<storage, read_write> partial_out: array<vec4f>;       // (rows, N_HEAD, splits, HEAD_QUADS)
@group(0) @binding(4) var<storage, read_write> partial_max_sum: array<vec2f>;   // (rows, N_HEAD, splits) maximum, sum

const LOWEST: f32 = -3.4028234e38;

var<workgroup> weights: array<f32, SPLIT>;           // first scores, then exp(score - maximum)
var<workgroup> shares: array<vec4f, 2u * WG_SIZE>;   // of partial_out, by lane

@compute @workgroup_size(WG_SIZE)
fn attention(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let head = workgroup.x;
    let row = workgroup.y;
    let split = workgroup.z;
    let row_info = step.rows[row];
    let first = split * SPLIT;
    // Rows of one step differ in length: this one may have fewer splits than the longest.
    if first > row_info.position {
        return;
    }
    let n_positions = min(SPLIT, row_info.position + 1u - first);

    let q = q_quad(row, head);
    var largest = LOWEST;
    for (var start = 0u; start < n_positions; start += WG_SIZE) {
        let index = start + lane.index;
        // Lanes past the end take the last position; its score is discarded.
        let position = first + min(index, n_positions - 1u);
        var products = vec4f();
        for (var octet = 0u; octet < HEAD_OCTETS; octet++) {
            let key = cache[key_octet(row_info.slot, head, position, octet)];
            products = fma(unpack_low(key), input_low(q + 2u * octet, lane), products);
            products = fma(unpack_high(key), input_high(q + 2u * octet, lane), products);
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

    // Lanes past the last share repeat it; their sums are not read.
    let share = min(lane.index / HEAD_OCTETS, N_SHARES - 1u);
    var low = vec4f();
    var high = vec4f();
    for (var start = 0u; start < n_positions; start += WG_SIZE) {
        // A fixed number of iterations lets a compiler have many loads in flight; weights past the end are zero.
        for (var i = 0u; i < WG_SIZE / N_SHARES; i++) {
            let index = start + i * N_SHARES + share;
            let position = min(first + index, step.n_positions - 1u);
            let value = cache[value_octet(row_info.slot, head, position, lane.index % HEAD_OCTETS)];
            low = fma(unpack_low(value), vec4f(weights[index]), low);
            high = fma(unpack_high(value), vec4f(weights[index]), high);
        }
    }
    shares[2u * lane.index] = low;
    shares[2u * lane.index + 1u] = high;
    workgroupBarrier();

    let index = (row * N_HEAD + head) * n_splits() + split;
    for (var quad = lane.index; quad < HEAD_QUADS; quad += WG_SIZE) {
        var out = shares[quad];
        for (var i = 1u; i < N_SHARES; i++) {
            out += shares[i * HEAD_QUADS + quad];
        }
        partial_out[index * HEAD_QUADS + quad] = out;
    }
    if lane.index == 0u {
        partial_max_sum[index] = vec2f(largest, sum);
    }
}
