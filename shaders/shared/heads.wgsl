// heads: the layout of attention's vectors in a row. Each head is padded with zeros to a whole number of octets.

override N_HEAD: u32;
override HEAD_DIM: u32;
override HEAD_OCTETS: u32 = (HEAD_DIM + 7u) / 8u;
override HEAD_QUADS: u32 = 2u * HEAD_OCTETS;
override HEADS_QUADS: u32 = N_HEAD * HEAD_QUADS;   // of all heads
