// cache: the addresses of a token's keys and values, in octets. The only addressing of the cache in any shader.
//
// One block's cache is one buffer, f16: for each slot its keys, then its values, grouped by head. A value is one run,
// (position, octet), since lanes that sum values take an octet each. Keys are blocked, (position / 32, octet,
// position % 32), since lanes that score keys take a position each and so read neighbouring octets as well.
//
// The importing kernel binds `step`, which gives the positions of a slot: they are data, so that one compiled kernel
// serves every size of cache.

#import heads

const KEY_BLOCK: u32 = 32u;

fn key_octet(slot: u32, head: u32, position: u32, octet: u32) -> u32 {
    let block = (2u * slot * N_HEAD + head) * (step.n_positions / KEY_BLOCK) + position / KEY_BLOCK;
    return (block * HEAD_OCTETS + octet) * KEY_BLOCK + position % KEY_BLOCK;
}

fn value_octet(slot: u32, head: u32, position: u32, octet: u32) -> u32 {
    return (((2u * slot + 1u) * N_HEAD + head) * step.n_positions + position) * HEAD_OCTETS + octet;
}
