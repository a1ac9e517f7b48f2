//! What LoRA adapters add to a model's matrices, merged into them on the GPU once they are there.
//!
//! A merged model is as fast as any other. Each number is rounded to f16 once, however many adapters there are; one
//! that f16 cannot hold becomes the largest that it can.

use crate::checkpoint::{BlockTensor, Checkpoint, LowRank};
use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Plan, StepSize, Submission, Tensor};
use crate::kernels::Kernels;
use crate::regime::Geometry;
use crate::weights::{Block, Matrix, PANEL_FEATURES};

/// Merges a checkpoint's adapters into its blocks.
///
/// # Errors
/// Where a number of an adapter is not finite, or the GPU cannot hold an adapter's matrix.
pub async fn merge(gpu: &Gpu, checkpoint: &Checkpoint, blocks: &[Block]) -> Result<()> {
    if checkpoint.adapters().is_empty() {
        return Ok(());
    }
    let config = checkpoint.config();
    let kernels = Kernels::new(gpu, config, config.n_positions, Geometry::for_adapter(gpu.info()));
    let merger = Merger { gpu, kernels, config };
    let heads = config.heads_width();
    for (layer, block) in blocks.iter().enumerate() {
        let (block_in, block_out) = (&block.block_in.weight, &block.block_out.weight);
        let projections = [BlockTensor::QProj, BlockTensor::KProj, BlockTensor::VProj];
        for (index, tensor) in projections.into_iter().enumerate() {
            if let Some(product) = checkpoint.low_rank(layer, tensor)? {
                merger.add_features(block_in, &product, |output| index * heads + merger.in_heads(output)).await?;
            }
        }
        if let Some(product) = checkpoint.low_rank(layer, BlockTensor::FcInWeight)? {
            merger.add_features(block_in, &product, |output| 3 * heads + output).await?;
        }
        if let Some(product) = checkpoint.low_rank(layer, BlockTensor::OutProj)? {
            merger.add_inputs(block_out, &product, |input| merger.in_heads(input)).await?;
        }
        if let Some(product) = checkpoint.low_rank(layer, BlockTensor::FcOutWeight)? {
            merger.add_inputs(block_out, &product, |input| heads + input).await?;
        }
    }
    Ok(())
}

struct Merger<'a> {
    gpu: &'a Gpu,
    kernels: Kernels,
    config: &'a Config,
}

impl Merger<'_> {
    /// Where a dimension of the heads is once each head is padded.
    fn in_heads(&self, dim: usize) -> usize {
        let (head, dim) = (dim / self.config.head_dim(), dim % self.config.head_dim());
        head * self.config.head_width() + dim
    }

    /// Adds a product to neighbouring features of a matrix; `feature` says which of them is an output of the product,
    /// in rising order.
    async fn add_features(&self, matrix: &Matrix, product: &LowRank, feature: impl Fn(usize) -> usize) -> Result<()> {
        let outputs = product.b.len() / product.rank;
        let first_panel = feature(0) / PANEL_FEATURES;
        let features = (feature(outputs - 1) + 1).next_multiple_of(PANEL_FEATURES) - first_panel * PANEL_FEATURES;
        // Other matrices' features in these panels get zeros.
        let mut b = vec![0.0; features * product.rank];
        for (output, row) in product.b.chunks_exact(product.rank).enumerate() {
            let place = (feature(output) - first_panel * PANEL_FEATURES) * product.rank;
            b[place..place + product.rank].copy_from_slice(row);
        }
        self.add(matrix, first_panel, product.rank, [&b, &product.a]).await
    }

    /// Adds a product to neighbouring inputs of a matrix, which has the product's features; `input` says which of them
    /// is an input of the product.
    async fn add_inputs(&self, matrix: &Matrix, product: &LowRank, input: impl Fn(usize) -> usize) -> Result<()> {
        let inputs = product.a.len() / product.rank;
        let mut a = vec![0.0; product.rank * matrix.inputs()];
        for (to, from) in a.chunks_exact_mut(matrix.inputs()).zip(product.a.chunks_exact(inputs)) {
            for (index, &number) in from.iter().enumerate() {
                to[input(index)] = number;
            }
        }
        let mut b = product.b.clone();
        b.resize(matrix.features().next_multiple_of(PANEL_FEATURES) * product.rank, 0.0);
        self.add(matrix, 0, product.rank, [&b, &a]).await
    }

    async fn add(&self, matrix: &Matrix, first_panel: usize, rank: usize, [b, a]: [&[f32]; 2]) -> Result<()> {
        let tensor = async |name, numbers: &[f32], width: usize| {
            let tensor = Tensor::whole(self.gpu, name, numbers.len() / width, width, Format::F32).await?;
            tensor.write_elements(self.gpu, numbers);
            Result::Ok(tensor)
        };
        let (b, a) = (tensor("lora_B", b, rank).await?, tensor("lora_A", a, matrix.inputs()).await?);
        let mut plan = Plan::default();
        plan.run(self.kernels.merge_lora([&b, &a], first_panel, matrix));
        let mut submission = Submission::new(self.gpu, "merge_lora");
        submission.run([&plan], StepSize { rows: 0, outputs: 0, positions: 0 });
        // One after another, so that only one product takes memory.
        submission.submit().wait().await
    }
}
