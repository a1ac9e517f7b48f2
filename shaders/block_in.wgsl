// block_in: everything that a block computes from its normed input before attention
//
//     q = rotate(q_proj · normed)   keys[position] = rotate(k_proj · normed)   values[position] = v_proj · normed
//     hidden = gelu(fc_in · normed + bias)
//
// GPT-J's attention and MLP read the same input, so their first matrices are fused: [q_proj; k_proj; v_proj; fc_in],
// with the features of each head padded to whole octets.

#import step
#import activations
#import cache
#import rotary
#import gelu
#import half
#import matmul

@group(0) @binding(2) var<storage, read> input: array<vec4f>;              // (rows, n_embd) after the layer norm
@group(0) @binding(3) var<storage, read> step: Step;                       // (rows)
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;               // (n_inner) of fc_in
@group(0) @binding(5) var<storage, read> angles: array<vec2f>;             // (positions, ROTARY_DIM / 2) cosine, sine
@group(0) @binding(6) var<storage, read_write> activations: array<vec4f>;  // (rows, attended | hidden | q)
@group(0) @binding(7) var<storage, read_write> cache: array<Half4>;        // (slots, keys | values, N_HEAD, positions)

@compute @workgroup_size(WG_SIZE)
fn block_in(@builtin(workgroup_id) workgroup: vec3u, lane: Lane) {
    multiply(workgroup, lane);
}

fn n_rows() -> u32 {
    return step.n_rows;
}

fn finish(row: u32, feature: u32, sums: vec4f) {
    let quad = feature / 4u;
    let matrix = quad / HEADS_QUADS;
    if matrix >= 3u {
        let hidden = quad - 3u * HEADS_QUADS;
        // The last panel may reach beyond the last feature.
        if hidden < INNER_QUADS {
            activations[hidden_quad(row) + hidden] = gelu(sums + bias[hidden]);
        }
        return;
    }
    let head = quad % HEADS_QUADS / HEAD_QUADS;
    let head_quad = quad % HEAD_QUADS;
    let row_info = step.rows[row];
    if matrix == 2u {
        let octet = value_octet(row_info.slot, head, row_info.position, head_quad / 2u);
        cache[2u * octet + head_quad % 2u] = pack_half4(sums);
        return;
    }
    let rotated = rotate(sums, 4u * head_quad, row_info.position);
    if matrix == 0u {
        activations[q_quad(row, head) + head_quad] = rotated;
    } else {
        let octet = key_octet(row_info.slot, head, row_info.position, head_quad / 2u);
        cache[2u * octet + head_quad % 2u] = pack_half4(rotated);
    }
}
