// append_cache: keys[slot, head, position] = k[row, head]; values likewise
//
// One workgroup a row; a lane packs eight dimensions of one head at a time into f16.

#import rows
#import half
#import cache

override WG_SIZE: u32;

@group(0) @binding(0) var<storage, read> rows: array<Row>;             // (rows)
@group(0) @binding(1) var<storage, read> k: array<f32>;                // (rows, N_HEAD * HEAD_DIM)
@group(0) @binding(2) var<storage, read> v: array<f32>;                // (rows, N_HEAD * HEAD_DIM)
@group(0) @binding(3) var<storage, read_write> keys: array<Half8>;     // (slots, N_HEAD, N_POSITIONS, HEAD_DIM) f16
@group(0) @binding(4) var<storage, read_write> values: array<Half8>;   // (slots, N_HEAD, N_POSITIONS, HEAD_DIM) f16

@compute @workgroup_size(WG_SIZE)
fn append_cache(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = workgroup.x;
    let n_groups = groups_of_8(HEAD_DIM);
    for (var pack = lane; pack < N_HEAD * n_groups; pack += WG_SIZE) {
        let head = pack / n_groups;
        let group = pack % n_groups;
        let start = row * padded(N_HEAD * HEAD_DIM) + head * HEAD_DIM + 8u * group;
        var key: array<vec4f, 2>;
        var value: array<vec4f, 2>;
        // The last group of a head may be only partly filled.
        for (var i = 0u; i < min(8u, HEAD_DIM - 8u * group); i++) {
            key[i / 4u][i % 4u] = k[start + i];
            value[i / 4u][i % 4u] = v[start + i];
        }
        let index = cache_group(rows[row].slot, head, rows[row].position) + group;
        keys[index] = pack_half8(key[0], key[1]);
        values[index] = pack_half8(value[0], value[1]);
    }
}
