// half: four f16, as kernels write them. This version is for adapters with native f16, which rounds to nearest.

enable f16;

alias Half4 = vec4<f16>;

// Saturates at the largest f16, so that an outlier never becomes an infinity.
fn pack_half4(value: vec4f) -> Half4 {
    return vec4<f16>(clamp(value, vec4f(-65504.0), vec4f(65504.0)));
}

fn unpack_half4(half: Half4) -> vec4f {
    return vec4f(half);
}
