//! Weights of a model that was never trained: of any size, from a seed, made where they are used.
//!
//! A step takes the same time whatever the weights are, so that benchmarks need no checkpoint. Matrices are random and small
//! enough for activations to stay finite, layer norms are the identity, and biases are zero.

use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Plan, StepSize, Submission, Tensor};
use crate::kernels::Kernels;
use crate::regime::Geometry;
use crate::weights::{Block, LayerNorm, Linear, Matrix, Weights};

/// The largest weight; a deviation of 0.018, near that of GPT-J-6B's own matrices.
pub const SCALE: f32 = 1.0 / 32.0;

/// Makes all weights of a model of this configuration.
///
/// # Errors
/// Where the GPU cannot hold them.
pub async fn weights(gpu: &Gpu, config: &Config, seed: u32) -> Result<Weights> {
    let Config { vocab_size, n_embd, n_inner, n_layer, .. } = *config;
    let mut maker = Maker::new(gpu, config, seed).await?;
    let wte = Tensor::new(gpu, "wte", vocab_size, n_embd, Format::F16).await?;
    maker.fill(&wte, SCALE);
    let mut blocks = Vec::new();
    for _ in 0..n_layer {
        blocks.push(Block {
            ln_1: maker.layer_norm(n_embd).await?,
            block_in: maker.linear("block_in", [config.block_in_features(), n_embd], n_inner).await?,
            block_out: maker.linear("block_out", [n_embd, config.block_out_inputs()], n_embd).await?,
        });
    }
    let ln_f = maker.layer_norm(n_embd).await?;
    let lm_head = maker.linear("lm_head", [vocab_size, n_embd], vocab_size).await?;
    gpu.check()?;
    Ok(Weights { wte, blocks, ln_f, lm_head })
}

/// Makes tensors one after another, each from a seed of its own.
pub struct Maker {
    gpu: Gpu,
    kernels: Kernels,
    next_seed: u32,
    seed: Tensor,
}

impl Maker {
    /// The first tensor is made from `first_seed`, the next from the number after it, and so on.
    ///
    /// # Errors
    /// Where the GPU has no room for the seed.
    pub async fn new(gpu: &Gpu, config: &Config, first_seed: u32) -> Result<Self> {
        let seed = Tensor::whole(gpu, "seed", 1, 1, Format::U32).await?;
        let kernels = Kernels::new(gpu, config, config.n_positions, Geometry::for_adapter(gpu.info()));
        Ok(Self { gpu: gpu.clone(), kernels, next_seed: first_seed, seed })
    }

    /// Fills an f16 tensor and returns the seed that it was filled from, for [`fill_random`].
    ///
    /// [`fill_random`]: crate::reference::fill_random
    pub fn fill(&mut self, tensor: &Tensor, scale: f32) -> u32 {
        let seed = self.next_seed;
        self.next_seed = seed.wrapping_add(1);
        self.seed.write_elements(&self.gpu, &[seed]);
        let mut plan = Plan::default();
        plan.run(self.kernels.fill_random(&self.seed, scale, tensor));
        let mut submission = Submission::new(&self.gpu, tensor.name());
        submission.run([&plan], StepSize { rows: 0, outputs: 0, positions: 0 });
        submission.submit();
        seed
    }

    async fn linear(&mut self, name: &str, [out, width]: [usize; 2], biases: usize) -> Result<Linear> {
        let weight = Matrix::new(&self.gpu, name, out, width).await?;
        self.fill(weight.panels(), SCALE);
        Ok(Linear { weight, bias: self.vector("bias", biases, 0.0).await? })
    }

    async fn layer_norm(&self, width: usize) -> Result<LayerNorm> {
        Ok(LayerNorm { gain: self.vector("gain", width, 1.0).await?, bias: self.vector("bias", width, 0.0).await? })
    }

    async fn vector(&self, name: &str, width: usize, value: f32) -> Result<Tensor> {
        let tensor = Tensor::whole(&self.gpu, name, 1, width, Format::F32).await?;
        tensor.write_elements(&self.gpu, &vec![value; width]);
        Ok(tensor)
    }
}
