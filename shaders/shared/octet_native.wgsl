// octet: eight f16 in 16 bytes, as weights and the cache are read. This version is for matrix units, which take f16 as
// it is. As a struct of two halves, every driver still makes one load of it.

enable f16;

struct Octet {
    low: vec4<f16>,
    high: vec4<f16>,
}

alias Quad = vec4<f16>;   // four decoded numbers

fn unpack_low(octet: Octet) -> Quad {
    return octet.low;
}

fn unpack_high(octet: Octet) -> Quad {
    return octet.high;
}
