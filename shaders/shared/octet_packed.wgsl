// octet: eight f16 in 16 bytes, as weights and the cache are read. This version is for arithmetic in f32: every driver
// makes one load of it, and the conversion is a built-in function of every WGSL implementation, native f16 or not.

alias Octet = vec4u;
alias Quad = vec4f;   // four decoded numbers

fn unpack_low(octet: Octet) -> Quad {
    return vec4f(unpack2x16float(octet.x), unpack2x16float(octet.y));
}

fn unpack_high(octet: Octet) -> Quad {
    return vec4f(unpack2x16float(octet.z), unpack2x16float(octet.w));
}
