// half: f16 in memory, f32 in registers. This version is for adapters without native f16: two numbers share a u32, and
// the conversion is a built-in function of every WGSL implementation.

alias Half4 = vec2u;
alias Half8 = vec4u;

fn unpack_half4(half: Half4) -> vec4f {
    return vec4f(unpack2x16float(half.x), unpack2x16float(half.y));
}

fn unpack_low(half: Half8) -> vec4f {
    return unpack_half4(half.xy);
}

fn unpack_high(half: Half8) -> vec4f {
    return unpack_half4(half.zw);
}

// Saturates at the largest f16, so that an outlier never becomes an infinity.
fn pack_half8(low: vec4f, high: vec4f) -> Half8 {
    let largest = vec4f(65504.0);
    return vec4u(pack_half4(clamp(low, -largest, largest)), pack_half4(clamp(high, -largest, largest)));
}

fn pack_half4(value: vec4f) -> Half4 {
    return vec2u(pack2x16float(value.xy), pack2x16float(value.zw));
}
