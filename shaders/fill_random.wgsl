// fill_random: values[row, i] = a multiple of SCALE / 1024 between -SCALE and SCALE, from the seed and the index alone
//
// A stand-in for weights whose values do not matter. The hash is PCG-RXS-M-XS (Jarzynski & Olano 2020, Hash functions
// for GPU rendering). If SCALE is a power of two, f16 holds every value exactly. Of n workgroups, each takes every n-th
// row; a lane packs an octet at a time.

#import widths

override WG_SIZE: u32;
override WIDTH: u32;
override N_ROWS: u32;        // rows in this segment
override FIRST_ROW: u32;     // the first of them
override SCALE: f32;

@group(0) @binding(0) var<storage, read> seed: array<u32>;            // (1)
@group(0) @binding(1) var<storage, read_write> values: array<vec4u>;  // (N_ROWS, WIDTH) f16

@compute @workgroup_size(WG_SIZE)
fn fill_random(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let n_octets = groups_of_8(WIDTH);
    for (var row = workgroup.x; row < N_ROWS; row += grid.x) {
        for (var octet = lane; octet < n_octets; octet += WG_SIZE) {
            var packed = vec4u();
            for (var i = 0u; i < 4u; i++) {
                let column = 8u * octet + 2u * i;
                packed[i] = pack2x16float(vec2f(value(row, column), value(row, column + 1u)));
            }
            values[row * n_octets + octet] = packed;
        }
    }
}

fn value(row: u32, column: u32) -> f32 {
    let bits = pcg((FIRST_ROW + row) * WIDTH + column + pcg(seed[0]));
    // The padding stays zero.
    return select(0.0, (f32(bits >> 21u) - 1024.0) / 1024.0 * SCALE, column < WIDTH);
}

fn pcg(number: u32) -> u32 {
    let state = number * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}
