//! The persistent cache of keys and values, and the sequences that live in it.
//!
//! A slot holds one sequence. The cache is allocated once, for as many positions a slot as the model can use. What a
//! sequence has not reached yet, and what is of other slots, has no weight in its attention; that some kernels read it
//! all the same makes no difference because packing keeps what is written here finite.
//! `shaders/shared/cache.wgsl` is the kernels' side of the layout.

use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Tensor};

/// Positions that keys are blocked by.
const KEY_BLOCK: usize = 32;

/// Keys and values of every block, for every slot.
pub struct Cache {
    /// One tensor a block: keys, then values, each (n_slots * n_head * room, head_dim) f16.
    layers: Vec<Tensor>,
    n_positions: usize,
    /// Positions in use, by slot.
    lengths: Vec<usize>,
}

impl Cache {
    /// Allocates an empty cache of `n_slots` slots of `n_positions` positions.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where the GPU cannot hold it.
    pub async fn new(gpu: &Gpu, config: &Config, n_slots: usize, n_positions: usize) -> Result<Self> {
        let rows = 2 * n_slots * config.n_head * n_positions.next_multiple_of(KEY_BLOCK);
        let mut layers = Vec::new();
        for layer in 0..config.n_layer {
            let name = format!("cache of block {layer}");
            layers.push(Tensor::whole(gpu, &name, rows, config.head_dim(), Format::F16).await?);
        }
        Ok(Self { layers, n_positions, lengths: vec![0; n_slots] })
    }

    /// Bytes of a cache of this size.
    pub fn bytes(config: &Config, n_slots: usize, n_positions: usize) -> u64 {
        let factors = [n_slots, n_positions.next_multiple_of(KEY_BLOCK)];
        factors.iter().fold(Self::bytes_per_position(config), |bytes, &factor| bytes.saturating_mul(factor as u64))
    }

    /// Bytes that a position of one sequence takes.
    pub fn bytes_per_position(config: &Config) -> u64 {
        (2 * config.n_layer * config.heads_width()) as u64 * Format::F16.bytes()
    }

    /// The keys and values of one block: (2, slots, n_head, [`Cache::room`], head_dim) f16. Values lie in that order;
    /// of the keys, 32 positions are grouped, and interleaved by chunks of eight dimensions.
    pub fn layer(&self, layer: usize) -> &Tensor {
        &self.layers[layer]
    }

    /// How many sequences there is room for.
    pub fn n_slots(&self) -> usize {
        self.lengths.len()
    }

    /// Positions that a slot may use.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Positions that are allocated for a slot.
    pub fn room(&self) -> usize {
        self.n_positions.next_multiple_of(KEY_BLOCK)
    }

    /// Positions of a slot that are in use.
    pub fn length(&self, slot: usize) -> usize {
        self.lengths[slot]
    }

    /// Takes the next position of a slot.
    ///
    /// # Panics
    /// Where the slot is full; callers know its length.
    pub fn push(&mut self, slot: usize) -> usize {
        let position = self.lengths[slot];
        assert!(position < self.n_positions, "slot {slot} is full");
        self.lengths[slot] += 1;
        position
    }

    /// Takes the next `count` positions of a slot.
    ///
    /// # Panics
    /// As [`Cache::push`].
    pub fn skip(&mut self, slot: usize, count: usize) {
        assert!(self.lengths[slot] + count <= self.n_positions, "slot {slot} has room for {count} more positions");
        self.lengths[slot] += count;
    }

    /// Forgets what follows the first `length` positions of a slot.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        self.lengths[slot] = self.lengths[slot].min(length);
    }
}
