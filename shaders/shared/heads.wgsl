// heads: how the vectors of attention lie in a row. Each head is padded with zeros to a whole number of chunks.

override N_HEAD: u32;
override HEAD_DIM: u32;
override HEAD_CHUNKS: u32 = (HEAD_DIM + 7u) / 8u;
override HEAD_QUADS: u32 = 2u * HEAD_CHUNKS;
override HEADS_QUADS: u32 = N_HEAD * HEAD_QUADS;   // of all heads
