// cache: where a token's keys and values lie, in chunks. The only addressing of the cache in any shader.
//
// One block's cache is one buffer: keys, then values. Both are f16 and grouped by slot and head. A value is one run of
// memory, (position, chunk), since lanes that mix values take a chunk each. Keys are blocked: (position / 32, chunk,
// position % 32), since lanes that score keys take a position each, and so read neighbouring chunks as well.

#import heads

override N_POSITIONS: u32;   // positions that a slot has room for, a multiple of KEY_BLOCK
override N_SLOTS: u32;

const KEY_BLOCK: u32 = 32u;

fn key_chunk(slot: u32, head: u32, position: u32, chunk: u32) -> u32 {
    let block = ((slot * N_HEAD + head) * N_POSITIONS + position) / KEY_BLOCK;
    return (block * HEAD_CHUNKS + chunk) * KEY_BLOCK + position % KEY_BLOCK;
}

fn value_chunk(slot: u32, head: u32, position: u32, chunk: u32) -> u32 {
    let keys = N_SLOTS * N_HEAD * N_POSITIONS * HEAD_CHUNKS;
    return keys + ((slot * N_HEAD + head) * N_POSITIONS + position) * HEAD_CHUNKS + chunk;
}
