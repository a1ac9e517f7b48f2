//! The persistent cache of keys and values, and the sequences in it.
//!
//! A slot holds one sequence. The cache is allocated once, with as many positions per slot as the model can use.
//! Positions that a sequence has not reached, and those of other slots, have no weight in its attention; some kernels
//! read them all the same, which makes no difference because packing keeps everything written here finite.
//! `shaders/shared/cache.wgsl` is the kernels' side of the layout.

use gptj_checkpoint::Config;

use crate::error::Result;
use crate::gpu::{Dtype, Gpu, Tensor};
use crate::weights::BlockWidths;

/// Positions of a block of keys.
const KEY_BLOCK: usize = 32;

/// Keys and values of every block, for every slot.
pub struct KvCache {
    /// One tensor per block.
    layers: Vec<Tensor>,
    n_positions: usize,
    /// Positions in use, by slot.
    lengths: Vec<usize>,
}

/// The keys and values of one block.
#[derive(Clone, Copy)]
pub struct LayerCache<'a> {
    /// (n_slots, 2, n_head, [`KvCache::capacity`], head_dim) f16, keys before values. Values lie in that order; keys
    /// are blocked by 32 positions, within which octets of dimensions are interleaved.
    pub tensor: &'a Tensor,
}

impl KvCache {
    /// Allocates an empty cache of `n_slots` slots of `n_positions` positions.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the GPU cannot hold it.
    pub async fn new(gpu: &Gpu, config: &Config, n_slots: usize, n_positions: usize) -> Result<Self> {
        let rows = 2 * n_slots * config.n_head * n_positions.next_multiple_of(KEY_BLOCK);
        let mut layers = Vec::new();
        for layer in 0..config.n_layer {
            let name = format!("cache of block {layer}");
            layers.push(Tensor::whole(gpu, &name, rows, config.head_dim(), Dtype::F16).await?);
        }
        Ok(Self { layers, n_positions, lengths: vec![0; n_slots] })
    }

    /// Bytes of a cache of this size.
    pub fn bytes(config: &Config, n_slots: usize, n_positions: usize) -> u64 {
        let factors = [n_slots, n_positions.next_multiple_of(KEY_BLOCK)];
        factors.iter().fold(Self::bytes_per_position(config), |bytes, &factor| bytes.saturating_mul(factor as u64))
    }

    /// Bytes of one position of one sequence.
    pub fn bytes_per_position(config: &Config) -> u64 {
        (2 * config.n_layer * config.heads_width()) as u64 * Dtype::F16.bytes()
    }

    /// The keys and values of one block.
    pub fn layer(&self, layer: usize) -> LayerCache<'_> {
        LayerCache { tensor: &self.layers[layer] }
    }

    /// The number of slots.
    pub fn n_slots(&self) -> usize {
        self.lengths.len()
    }

    /// Positions that a slot may use.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Positions that a slot has memory for: whole blocks of keys.
    pub fn capacity(&self) -> usize {
        self.n_positions.next_multiple_of(KEY_BLOCK)
    }

    /// Positions of a slot that are in use.
    pub fn length(&self, slot: usize) -> usize {
        self.lengths[slot]
    }

    /// Takes the next position of a slot.
    ///
    /// # Panics
    /// If the slot is full; callers know its length.
    pub fn push(&mut self, slot: usize) -> usize {
        let position = self.lengths[slot];
        assert!(position < self.n_positions, "slot {slot} is full");
        self.lengths[slot] += 1;
        position
    }

    /// Takes the next `count` positions of a slot.
    ///
    /// # Panics
    /// As [`KvCache::push`].
    pub fn skip(&mut self, slot: usize, count: usize) {
        assert!(self.lengths[slot] + count <= self.n_positions, "slot {slot} has {count} free positions");
        self.lengths[slot] += count;
    }

    /// Forgets what follows the first `length` positions of a slot.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        self.lengths[slot] = self.lengths[slot].min(length);
    }
}
