// rotary: turns the pairs (2i, 2i + 1) of the first ROTARY_DIM dimensions of a head by an angle that grows with the
// position (Su et al. 2021, arXiv:2104.09864). GPT-J's pairs are neighbours; the other dimensions pass.
//
// The angles come from a table made on the host: GPU sines are inexact for the large arguments that late positions
// have.

override ROTARY_DIM: u32;

// Turns the four dimensions from `dim` on. The importing kernel binds `angles`: (positions, ROTARY_DIM / 2) cosine and
// sine.
fn rotate(four: vec4f, dim: u32, position: u32) -> vec4f {
    var turned = four;
    let pair = position * (ROTARY_DIM / 2u) + dim / 2u;
    if dim < ROTARY_DIM {
        let angle = angles[pair];
        turned.x = four.x * angle.x - four.y * angle.y;
        turned.y = four.y * angle.x + four.x * angle.y;
    }
    if dim + 2u < ROTARY_DIM {
        let angle = angles[pair + 1u];
        turned.z = four.z * angle.x - four.w * angle.y;
        turned.w = four.w * angle.x + four.z * angle.y;
    }
    return turned;
}
