// attention: for each row and head, softmax(q · keys / sqrt(HEAD_DIM)) · values over the positions up to the row's own
//
// One workgroup takes one head of one row over one split: SPLIT positions of the row's history. It walks through
// them a tile of WG_SIZE positions at a time with a running maximum and sum (online softmax: Milakov & Gimelshein
// 2018, arXiv:1805.02867), so no row of scores is ever stored. What it leaves is not yet normalised; merge_attention
// combines the splits. Scores, softmax and sums are f32.

#import rows
#import half
#import reduce
#import cache

override SPLIT: u32;           // positions of a split
override N_SPLITS: u32;        // splits that a row has room for
// The reciprocal of sqrt(HEAD_DIM).
override SCALE: f32;
override HEAD_QUADS: u32 = (HEAD_DIM + 3u) / 4u;

@group(0) @binding(0) var<storage, read> rows: array<Row>;              // (rows)
@group(0) @binding(1) var<storage, read> q: array<f32>;                 // (rows, N_HEAD * HEAD_DIM)
@group(0) @binding(2) var<storage, read> keys: array<Half8>;            // (slots, N_HEAD, N_POSITIONS, HEAD_DIM) f16
@group(0) @binding(3) var<storage, read> values: array<Half4>;          // (slots, N_HEAD, N_POSITIONS, HEAD_DIM) f16
@group(0) @binding(4) var<storage, read_write> mixtures: array<vec4f>;  // (rows, N_HEAD, N_SPLITS, HEAD_DIM)
@group(0) @binding(5) var<storage, read_write> softmaxes: array<vec2f>; // (rows, N_HEAD, N_SPLITS) maximum and sum

const LOWEST: f32 = -3.4028234e38;

var<workgroup> query: array<vec4f, 2u * ((HEAD_DIM + 7u) / 8u)>;
var<workgroup> tile_weights: array<f32, WG_SIZE>;
var<workgroup> mixture: array<vec4f, HEAD_QUADS>;   // each element belongs to one lane

@compute @workgroup_size(WG_SIZE)
fn attention(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    let head = workgroup.x;
    let row = workgroup.y;
    let split = workgroup.z;
    let slot = rows[row].slot;
    let first = split * SPLIT;
    let end = min(first + SPLIT, rows[row].position + 1u);
    // Rows of one step differ in length: this one may have fewer splits than the longest.
    if first >= end {
        return;
    }

    let n_groups = groups_of_8(HEAD_DIM);
    let q_start = row * padded(N_HEAD * HEAD_DIM) + head * HEAD_DIM;
    for (var i = lane.index; i < 2u * n_groups; i += WG_SIZE) {
        var part = vec4f();
        for (var j = 0u; j < 4u; j++) {
            if 4u * i + j < HEAD_DIM {
                part[j] = q[q_start + 4u * i + j] * SCALE;
            }
        }
        query[i] = part;
    }
    for (var quad = lane.index; quad < HEAD_QUADS; quad += WG_SIZE) {
        mixture[quad] = vec4f();
    }
    workgroupBarrier();

    var running_max = LOWEST;
    var running_sum = 0.0;
    for (var tile = first; tile < end; tile += WG_SIZE) {
        // Each lane scores one position.
        let position = tile + lane.index;
        var score = LOWEST;
        if position < end {
            score = 0.0;
            let key = cache_group(slot, head, position);
            for (var group = 0u; group < n_groups; group++) {
                let part = keys[key + group];
                score += dot(query[2u * group], unpack_low(part)) + dot(query[2u * group + 1u], unpack_high(part));
            }
        }
        let new_max = max(running_max, workgroup_max(score, lane));
        let weight = select(0.0, exp(score - new_max), position < end);
        tile_weights[lane.index] = weight;
        let rescale = exp(running_max - new_max);
        running_sum = running_sum * rescale + workgroup_sum(weight, lane);
        running_max = new_max;

        // Each lane mixes four dimensions of all positions of the tile.
        let n_tile = min(WG_SIZE, end - tile);
        for (var quad = lane.index; quad < HEAD_QUADS; quad += WG_SIZE) {
            var mixed = mixture[quad] * rescale;
            for (var i = 0u; i < n_tile; i++) {
                let value = 2u * cache_group(slot, head, tile + i) + quad;
                mixed += tile_weights[i] * unpack_half4(values[value]);
            }
            mixture[quad] = mixed;
        }
    }

    let index = (row * N_HEAD + head) * N_SPLITS + split;
    for (var quad = lane.index; quad < HEAD_QUADS; quad += WG_SIZE) {
        mixtures[index * HEAD_QUADS + quad] = mixture[quad];
    }
    if lane.index == 0u {
        softmaxes[index] = vec2f(running_max, running_sum);
    }
}
