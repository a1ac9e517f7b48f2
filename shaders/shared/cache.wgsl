// cache: where a token's keys and values lie. The only addressing of the cache in any shader.
//
// One block's keys (and, in a buffer of their own, its values) are f16 vectors laid out as
// (slot, head, position, HEAD_DIM), each padded with zeros to a whole number of 16-byte groups, so that one
// head's history is one contiguous run of memory.

#import widths

override N_HEAD: u32;
override HEAD_DIM: u32;
override N_POSITIONS: u32;   // positions that a slot has room for

// The index of a vector, counted in 16-byte groups.
fn cache_group(slot: u32, head: u32, position: u32) -> u32 {
    return ((slot * N_HEAD + head) * N_POSITIONS + position) * groups_of_8(HEAD_DIM);
}
