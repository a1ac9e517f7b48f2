// chunk: eight f16 in 16 bytes, as weights and the cache are read. This version is for matrix units, which take the
// numbers as they are. As a struct of two halves, every driver still makes one load of it.

enable f16;

struct Chunk {
    low: vec4<f16>,
    high: vec4<f16>,
}
