// half: f16 in memory, f32 in registers. This version is for adapters with native f16.

enable f16;

alias Half4 = vec4<f16>;

struct Half8 {
    low: vec4<f16>,
    high: vec4<f16>,
}

fn unpack_half4(half: Half4) -> vec4f {
    return vec4f(half);
}

fn unpack_low(half: Half8) -> vec4f {
    return vec4f(half.low);
}

fn unpack_high(half: Half8) -> vec4f {
    return vec4f(half.high);
}

// Saturates at the largest f16, so that an outlier never becomes an infinity.
fn pack_half8(low: vec4f, high: vec4f) -> Half8 {
    let largest = vec4f(65504.0);
    return Half8(vec4<f16>(clamp(low, -largest, largest)), vec4<f16>(clamp(high, -largest, largest)));
}
