// rotary: rotates the pairs (2i, 2i + 1) of the first ROTARY_DIM dimensions of a head by an angle that grows with the
// position (Su et al. 2021, arXiv:2104.09864). GPT-J's pairs are neighbours; the other dimensions stay.
//
// The angles come from a table made on the host: GPU sines are inexact for the large arguments of late positions.

override ROTARY_DIM: u32;

// Rotates the four dimensions from `dim` on. The importing kernel binds `angles`: (positions, ROTARY_DIM / 2) cosine,
// sine.
fn rotate(x: vec4f, dim: u32, position: u32) -> vec4f {
    var rotated = x;
    let pair = position * (ROTARY_DIM / 2u) + dim / 2u;
    if dim < ROTARY_DIM {
        let angle = angles[pair];
        rotated.x = x.x * angle.x - x.y * angle.y;
        rotated.y = x.y * angle.x + x.x * angle.y;
    }
    if dim + 2u < ROTARY_DIM {
        let angle = angles[pair + 1u];
        rotated.z = x.z * angle.x - x.w * angle.y;
        rotated.w = x.w * angle.x + x.z * angle.y;
    }
    return rotated;
}
