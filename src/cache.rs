//! The persistent cache of keys and values, and the sequences that live in it.
//!
//! A slot holds one sequence. The cache is allocated once, for as many positions a slot as the model can use; what a
//! sequence has not reached yet is never read. `shaders/shared/cache.wgsl` is the kernels' side of the layout.

use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Tensor, padded};

/// Keys and values of every block, for every slot.
pub struct Cache {
    /// One pair of keys and values a block, each (slots * n_head * n_positions, head_dim) f16.
    layers: Vec<[Tensor; 2]>,
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
        let rows = n_slots * config.n_head * n_positions;
        let mut layers = Vec::new();
        for layer in 0..config.n_layer {
            let [keys, values] = ["keys", "values"].map(|what| format!("{what} of block {layer}"));
            layers.push([
                Tensor::whole(gpu, &keys, rows, config.head_dim(), Format::F16).await?,
                Tensor::whole(gpu, &values, rows, config.head_dim(), Format::F16).await?,
            ]);
        }
        Ok(Self { layers, n_positions, lengths: vec![0; n_slots] })
    }

    /// Bytes of a cache of this size.
    pub fn bytes(config: &Config, n_slots: usize, n_positions: usize) -> u64 {
        let vector = padded(config.head_dim()) as u64 * Format::F16.bytes();
        let vectors = 2 * config.n_layer * config.n_head * n_slots;
        vector * vectors as u64 * n_positions as u64
    }

    /// The keys and values of one block.
    pub fn layer(&self, layer: usize) -> [&Tensor; 2] {
        self.layers[layer].each_ref()
    }

    /// Positions that a slot has room for.
    pub fn n_positions(&self) -> usize {
        self.n_positions
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
