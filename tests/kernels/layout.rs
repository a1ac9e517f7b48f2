//! What a block works on, from plain numbers to the GPU's layout of it and back.

use gptj::Config;
use gptj::internals::gpu::{Gpu, Tensor};
use gptj::internals::kernels::reference::{BlockWeights, LayerCache};
use gptj::internals::kv_cache::{KvCache, LayerCache as GpuLayer};
use gptj::internals::weights::{BlockWidths, Linear};
use half::f16;
use half::slice::HalfFloatSliceExt;
use pollster::block_on;

use crate::cases::{N_ROWS, N_SLOTS};
use crate::common::numbers::numbers;
use crate::gpu_data::{f32_tensor, matrix, read};

pub fn block_weights(config: &Config) -> BlockWeights {
    let Config { n_embd, n_inner, .. } = *config;
    BlockWeights {
        qkv: [20, 21, 22].map(|seed| numbers(seed, n_embd * n_embd)),
        out_proj: numbers(23, n_embd * n_embd),
        fc_in: numbers(24, n_inner * n_embd),
        fc_in_bias: numbers(25, n_inner),
        fc_out: numbers(26, n_embd * n_inner),
        fc_out_bias: numbers(27, n_embd),
    }
}

/// Where dimension `dim` of all heads, counted with the heads' padding, is without it; `None` for the padding.
pub fn without_padding(config: &Config, dim: usize) -> Option<usize> {
    let (head, dim) = (dim / config.head_width(), dim % config.head_width());
    (dim < config.head_dim()).then_some(head * config.head_dim() + dim)
}

pub fn block_in_linear(gpu: &Gpu, config: &Config, block: &BlockWeights) -> Linear {
    let heads = config.heads_width();
    let weight = matrix(gpu, "block_in", config.block_in_features(), config.n_embd, |feature, input| {
        if feature >= 3 * heads {
            return block.fc_in[(feature - 3 * heads) * config.n_embd + input];
        }
        let row = without_padding(config, feature % heads);
        row.map_or(0.0, |row| block.qkv[feature / heads][row * config.n_embd + input])
    });
    Linear { weight, bias: f32_tensor(gpu, "bias", 1, config.n_inner, &block.fc_in_bias) }
}

pub fn block_out_linear(gpu: &Gpu, config: &Config, block: &BlockWeights) -> Linear {
    let heads = config.heads_width();
    let weight = matrix(gpu, "block_out", config.n_embd, config.block_out_inputs(), |feature, input| {
        if input < heads {
            let input = without_padding(config, input);
            return input.map_or(0.0, |input| block.out_proj[feature * config.n_embd + input]);
        }
        let hidden = input - heads;
        if hidden < config.n_inner { block.fc_out[feature * config.n_inner + hidden] } else { 0.0 }
    });
    Linear { weight, bias: f32_tensor(gpu, "bias", 1, config.n_embd, &block.fc_out_bias) }
}

/// Rows of activations from attention's results, the hidden layer and q, each dense, or zeros.
pub fn activations(gpu: &Gpu, config: &Config, attended: &[f32], hidden: &[f32], q: &[f32]) -> Tensor {
    let mut values = vec![0.0; N_ROWS * config.activation_width()];
    for (row, values) in values.chunks_exact_mut(config.activation_width()).enumerate() {
        let (heads, q_start) = (config.heads_width(), config.block_out_inputs());
        for dim in 0..heads {
            let Some(dense) = without_padding(config, dim) else { continue };
            values[dim] = attended.get(row * config.n_embd + dense).copied().unwrap_or(0.0);
            values[q_start + dim] = q.get(row * config.n_embd + dense).copied().unwrap_or(0.0);
        }
        for dim in 0..config.n_inner {
            values[heads + dim] = hidden.get(row * config.n_inner + dim).copied().unwrap_or(0.0);
        }
    }
    f32_tensor(gpu, "activations", N_ROWS, config.activation_width(), &values)
}

/// Attention's results, the hidden layer and q of the first rows of activations, each dense; their padding is zero.
pub fn read_activations(gpu: &Gpu, config: &Config, activations: &Tensor, n_rows: usize) -> [Vec<f32>; 3] {
    let (heads, q_start) = (config.heads_width(), config.block_out_inputs());
    let mut parts = [const { Vec::new() }; 3];
    for row in read(gpu, activations, n_rows).chunks_exact(config.activation_width()) {
        for (part, start) in [(0, 0), (2, q_start)] {
            for dim in 0..heads {
                match without_padding(config, dim) {
                    Some(_) => parts[part].push(row[start + dim]),
                    None => assert_eq!(row[start + dim], 0.0, "the padding of a head"),
                }
            }
        }
        parts[1].extend(&row[heads..heads + config.n_inner]);
        assert!(row[heads + config.n_inner..q_start].iter().all(|&value| value == 0.0), "the padding of hidden");
    }
    parts
}

/// A cache on the GPU, and where it has things.
pub struct GpuCache {
    cache: KvCache,
    head_octets: usize,
    n_head: usize,
}

impl GpuCache {
    pub fn new(gpu: &Gpu, config: &Config) -> Self {
        let cache = block_on(KvCache::new(gpu, config, N_SLOTS, config.n_positions)).expect("room");
        Self { cache, head_octets: config.head_width() / 8, n_head: config.n_head }
    }

    pub fn layer(&self) -> GpuLayer<'_> {
        self.cache.layer(0)
    }

    /// Positions that a slot has memory for.
    pub fn capacity(&self) -> usize {
        self.cache.capacity()
    }

    /// The element of dimension `dim` of the key or the value of a place.
    fn index(&self, value: bool, [slot, head, position, dim]: [usize; 4]) -> usize {
        let heads = (2 * slot + usize::from(value)) * self.n_head + head;
        let vector = heads * self.cache.capacity() + position;
        let octet = if value {
            vector * self.head_octets + dim / 8
        } else {
            (vector / 32 * self.head_octets + dim / 8) * 32 + vector % 32
        };
        8 * octet + dim % 8
    }

    /// Calls `visit` with the index of every element in the GPU's cache and in the reference's.
    fn for_each(&self, config: &Config, mut visit: impl FnMut(bool, usize, usize)) {
        for value in [false, true] {
            let mut dense = 0;
            for slot in 0..N_SLOTS {
                for head in 0..config.n_head {
                    for position in 0..config.n_positions {
                        for dim in 0..config.head_dim() {
                            visit(value, self.index(value, [slot, head, position, dim]), dense);
                            dense += 1;
                        }
                    }
                }
            }
        }
    }

    pub fn write(&self, gpu: &Gpu, config: &Config, references: [&LayerCache; 2]) {
        let tensor = self.cache.layer(0).tensor;
        let mut padded = vec![0.0; tensor.rows() * config.head_width()];
        self.for_each(config, |value, index, dense| padded[index] = references[usize::from(value)].vectors()[dense]);
        let mut halves = vec![f16::ZERO; padded.len()];
        halves.convert_from_f32_slice(&padded);
        tensor.write(gpu, 0, bytemuck::cast_slice(&halves));
    }

    pub fn read(&self, gpu: &Gpu, config: &Config) -> [Vec<f32>; 2] {
        let tensor = self.cache.layer(0).tensor;
        let halves: Vec<f16> = block_on(tensor.read_padded(gpu, tensor.rows())).expect("the GPU works");
        let padded = halves.to_f32_vec();
        let mut vectors = [const { Vec::new() }; 2];
        self.for_each(config, |value, index, _| vectors[usize::from(value)].push(padded[index]));
        vectors
    }
}
