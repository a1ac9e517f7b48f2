// rotary: turns each pair (2i, 2i + 1) of the first ROTARY_DIM dimensions of every head by an angle that grows with
// the position (Su et al. 2021, arXiv:2104.09864). GPT-J's pairs are neighbours; the other dimensions pass.
//
// One workgroup a row, in place. The angles come from a table made on the host: GPU sines are inexact for the large
// arguments that late positions have.

#import rows
#import widths

override WG_SIZE: u32;
override N_HEAD: u32;
override HEAD_DIM: u32;
override ROTARY_DIM: u32;

@group(0) @binding(0) var<storage, read> rows: array<Row>;            // (rows)
@group(0) @binding(1) var<storage, read> angles: array<vec2f>;        // (positions, ROTARY_DIM / 2) cosine and sine
@group(0) @binding(2) var<storage, read_write> vectors: array<f32>;   // (rows, N_HEAD * HEAD_DIM)

@compute @workgroup_size(WG_SIZE)
fn rotary(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.x;
    let n_pairs = ROTARY_DIM / 2u;
    let angle_row = rows[row].position * n_pairs;
    for (var i = lane; i < N_HEAD * n_pairs; i += WG_SIZE) {
        let head = i / n_pairs;
        let pair = i % n_pairs;
        let index = row * padded(N_HEAD * HEAD_DIM) + head * HEAD_DIM + 2u * pair;
        let cosine = angles[angle_row + pair].x;
        let sine = angles[angle_row + pair].y;
        let even = vectors[index];
        let odd = vectors[index + 1u];
        vectors[index] = even * cosine - odd * sine;
        vectors[index + 1u] = odd * cosine + even * sine;
    }
}
