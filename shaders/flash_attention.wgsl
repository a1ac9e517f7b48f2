// flash_attention: for each row and head, softmax(q · keys / sqrt(HEAD_DIM)) · values over the positions up to the
// row's own
//
// For many rows. One workgroup takes one head of a tile of rows and walks along the history 32 positions at a time,
// with a running maximum and sum for each row, so that no row of scores is ever stored (Dao et al. 2022,
// arXiv:2205.14135; the online softmax is Milakov & Gimelshein 2018, arXiv:1805.02867). Keys and values, once fetched,
// serve all rows of the tile that belong to the same slot; a tile of several slots takes them one after another.

#import step
#import activations
#import cache
#import octet

override LANE_ROWS: u32;       // groups of four rows in a tile; each has a lane for each octet of a head
// The reciprocal of sqrt(HEAD_DIM).
override SCALE: f32;

override WG_SIZE: u32 = LANE_ROWS * HEAD_OCTETS;
override TILE_ROWS: u32 = 4u * LANE_ROWS;

@group(0) @binding(0) var<storage, read> step: Step;                       // (rows)
@group(0) @binding(1) var<storage, read> cache: array<Octet>;              // (slots, keys | values, N_HEAD, positions)
@group(0) @binding(2) var<storage, read_write> activations: array<vec4f>;  // (rows, attended | hidden | q)

const LOWEST: f32 = -3.4028234e38;

var<workgroup> scores: array<f32, TILE_ROWS * KEY_BLOCK>;   // then exp(score - maximum)
var<workgroup> maxima: array<f32, TILE_ROWS>;
var<workgroup> sums: array<f32, TILE_ROWS>;
var<workgroup> rescales: array<f32, TILE_ROWS>;

@compute @workgroup_size(WG_SIZE)
fn flash_attention(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.x;
    let tile_row = workgroup.y * TILE_ROWS;
    let end_row = min(tile_row + TILE_ROWS, step.n_rows);
    for (var i = lane; i < TILE_ROWS; i += WG_SIZE) {
        maxima[i] = LOWEST;
        sums[i] = 0.0;
    }
    // Four rows by eight dimensions of the result.
    let octet = lane % HEAD_OCTETS;
    let lane_row = lane / HEAD_OCTETS * 4u;
    var out: array<array<vec4f, 2>, 4>;
    for (var r = 0u; r < 4u; r++) {
        out[r] = array(vec4f(), vec4f());
    }

    var run = tile_row;
    while run < end_row {
        // Neighbouring rows of one slot.
        let slot = step.rows[run].slot;
        var run_end = run;
        var n_positions = 0u;
        while run_end < end_row && step.rows[run_end].slot == slot {
            n_positions = max(n_positions, step.rows[run_end].position + 1u);
            run_end++;
        }
        for (var start = 0u; start < n_positions; start += KEY_BLOCK) {
            let end = min(start + KEY_BLOCK, n_positions);
            workgroupBarrier();   // the lanes are done with the previous weights
            for (var item = lane; item < LANE_ROWS * KEY_BLOCK; item += WG_SIZE) {
                score(head, tile_row, item / KEY_BLOCK * 4u, slot, start + item % KEY_BLOCK, end);
            }
            workgroupBarrier();
            for (var i = lane; i < TILE_ROWS; i += WG_SIZE) {
                let row = tile_row + i;
                // Rows of other slots, or past the last row, have no positions here.
                let history = select(0u, step.rows[min(row, end_row - 1u)].position + 1u, row >= run && row < run_end);
                online_softmax(i, min(end, history) - min(start, history));
            }
            workgroupBarrier();
            for (var r = 0u; r < 4u; r++) {
                let rescale = vec4f(rescales[lane_row + r]);
                out[r][0] *= rescale;
                out[r][1] *= rescale;
            }
            for (var position = start; position < end; position++) {
                let value = cache[value_octet(slot, head, position, octet)];
                let low = unpack_low(value);
                let high = unpack_high(value);
                for (var r = 0u; r < 4u; r++) {
                    let weight = vec4f(scores[(lane_row + r) * KEY_BLOCK + position - start]);
                    out[r][0] = fma(low, weight, out[r][0]);
                    out[r][1] = fma(high, weight, out[r][1]);
                }
            }
        }
        run = run_end;
    }

    for (var r = 0u; r < 4u; r++) {
        let row = tile_row + lane_row + r;
        if row < end_row {
            let attended = attended_quad(row, head) + 2u * octet;
            activations[attended] = out[r][0] / sums[lane_row + r];
            activations[attended + 1u] = out[r][1] / sums[lane_row + r];
        }
    }
}

// Scores one position for the four rows of the tile from `lane_row` on.
fn score(head: u32, tile_row: u32, lane_row: u32, slot: u32, position: u32, end: u32) {
    var products: array<vec4f, 4>;
    for (var r = 0u; r < 4u; r++) {
        products[r] = vec4f();
    }
    // Positions past the end clamp to the last one; their scores are discarded.
    let clamped = min(position, end - 1u);
    for (var octet = 0u; octet < HEAD_OCTETS; octet++) {
        let key = cache[key_octet(slot, head, clamped, octet)];
        let low = unpack_low(key);
        let high = unpack_high(key);
        for (var r = 0u; r < 4u; r++) {
            let q = q_quad(tile_row + lane_row + r, head) + 2u * octet;
            products[r] = fma(low, activations[q], products[r]);
            products[r] = fma(high, activations[q + 1u], products[r]);
        }
    }
    for (var r = 0u; r < 4u; r++) {
        scores[(lane_row + r) * KEY_BLOCK + position % KEY_BLOCK] = dot(products[r], vec4f(SCALE));
    }
}

// Turns the first `n` scores of a row into weights and the others into zeros, and updates the row's maximum and sum.
fn online_softmax(row: u32, n: u32) {
    let start = row * KEY_BLOCK;
    var largest = maxima[row];
    for (var i = 0u; i < n; i++) {
        largest = max(largest, scores[start + i]);
    }
    let rescale = exp(maxima[row] - largest);
    var sum = sums[row] * rescale;
    for (var i = 0u; i < KEY_BLOCK; i++) {
        let weight = select(0.0, exp(scores[start + i] - largest), i < n);
        scores[start + i] = weight;
        sum += weight;
    }
    maxima[row] = largest;
    sums[row] = sum;
    rescales[row] = rescale;
}
