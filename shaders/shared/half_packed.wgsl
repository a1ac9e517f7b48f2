// half: four f16, as kernels write them. This version is for adapters without native f16: two numbers share a u32, and
// drivers choose how to round.

alias Half4 = vec2u;

// Saturates at the largest f16, so that an outlier never becomes an infinity.
fn pack_half4(value: vec4f) -> Half4 {
    let finite = clamp(value, vec4f(-65504.0), vec4f(65504.0));
    return vec2u(pack2x16float(finite.xy), pack2x16float(finite.zw));
}

fn unpack_half4(half: Half4) -> vec4f {
    return vec4f(unpack2x16float(half.x), unpack2x16float(half.y));
}
