// chunk: eight f16 in 16 bytes, as weights and the cache are read. This version is for arithmetic in f32: every driver
// makes one load of it, and the conversion is a built-in function of every WGSL implementation, native f16 or not.

alias Chunk = vec4u;

fn unpack_low(chunk: Chunk) -> vec4f {
    return vec4f(unpack2x16float(chunk.x), unpack2x16float(chunk.y));
}

fn unpack_high(chunk: Chunk) -> vec4f {
    return vec4f(unpack2x16float(chunk.z), unpack2x16float(chunk.w));
}
