//! Random weights for a model of any size, generated on the GPU from a seed.
//!
//! A step takes the same time whatever the weights are, so that benchmarks need no checkpoint. Matrices are random and
//! small enough for activations to stay finite, layer norms are the identity, and biases are zero.

use crate::error::Result;
use crate::gpu::{Dtype, Gpu, Plan, Submission, Tensor};
use crate::kernels::{Kernels, StepSize, Tuning};
use crate::weights::{Block, Weights};
use gptj_checkpoint::Config;

/// The largest weight; the standard deviation is 0.018, near that of GPT-J-6B's matrices.
pub const SCALE: f32 = 1.0 / 32.0;

/// Makes all weights of a model of this configuration.
///
/// # Errors
/// If the GPU cannot hold them.
pub async fn weights(gpu: &Gpu, config: &Config, seed: u32) -> Result<Weights> {
    let weights = Weights::new(gpu, config).await?;
    let mut maker = Maker::new(gpu, config, seed).await?;
    maker.fill(&weights.wte, SCALE);
    for Block { ln_1, block_in, block_out } in &weights.blocks {
        ln_1.gain.write_elements(gpu, &vec![1.0f32; config.n_embd]);
        maker.fill(block_in.weight.panels(), SCALE);
        maker.fill(block_out.weight.panels(), SCALE);
    }
    weights.ln_f.gain.write_elements(gpu, &vec![1.0f32; config.n_embd]);
    if let Some(head) = &weights.head {
        maker.fill(head.weight.panels(), SCALE);
    }
    gpu.check()?;
    Ok(weights)
}

/// Fills tensors one after another, each from its own seed.
pub struct Maker {
    gpu: Gpu,
    kernels: Kernels,
    next_seed: u32,
    seed: Tensor,
}

impl Maker {
    /// The first tensor is filled from `first_seed`, the next from the number after it, and so on.
    ///
    /// # Errors
    /// If the GPU has no memory for the seed.
    pub async fn new(gpu: &Gpu, config: &Config, first_seed: u32) -> Result<Self> {
        let seed = Tensor::whole(gpu, "seed", 1, 1, Dtype::U32).await?;
        let kernels = Kernels::new(gpu, config, Tuning::for_adapter(gpu.info()));
        Ok(Self { gpu: gpu.clone(), kernels, next_seed: first_seed, seed })
    }

    /// Fills an f16 tensor and returns the seed that it was filled from, for [`fill_random`].
    ///
    /// [`fill_random`]: crate::kernels::reference::fill_random
    pub fn fill(&mut self, tensor: &Tensor, scale: f32) -> u32 {
        let seed = self.next_seed;
        self.next_seed = seed.wrapping_add(1);
        self.seed.write_elements(&self.gpu, &[seed]);
        let mut plan = Plan::default();
        plan.run(self.kernels.fill_random(&self.seed, scale, tensor));
        let mut submission = Submission::new(&self.gpu, tensor.name());
        submission.run([&plan], StepSize::NONE);
        submission.submit();
        seed
    }
}
