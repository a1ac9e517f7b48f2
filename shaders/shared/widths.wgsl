// widths: every vector in memory is padded with zeros to a multiple of eight elements, which is 16 bytes of
// f16 (one load) and 32 bytes of f32 (two loads). No kernel writes the padding; it stays zero from allocation on.

fn groups_of_8(width: u32) -> u32 {
    return (width + 7u) / 8u;
}

fn padded(width: u32) -> u32 {
    return groups_of_8(width) * 8u;
}
