//! What LoRA adapters add to a model's matrices, merged into them on the GPU once they are there.
//!
//! A merged model is as fast as any other. Each number is rounded to f16 once, however many adapters there are.

use crate::checkpoint::{BlockTensor, Checkpoint, LowRank, TensorName};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{Format, Gpu, Plan, StepSize, Submission, Tensor};
use crate::kernels::Kernels;
use crate::regime::Geometry;
use crate::weights::{Block, Matrix, PANEL_FEATURES};

/// Merges a checkpoint's adapters into its blocks.
///
/// # Errors
/// [`Error::Tensor`] where a number of an adapter is not finite, or f16 cannot hold one that a matrix would get;
/// [`Error::OutOfMemory`] where the GPU cannot hold an adapter's matrix.
pub async fn merge(gpu: &Gpu, checkpoint: &Checkpoint, blocks: &[Block]) -> Result<()> {
    if checkpoint.adapters().is_empty() {
        return Ok(());
    }
    let config = checkpoint.config();
    let kernels = Kernels::new(gpu, config, config.n_positions, Geometry::for_adapter(gpu.info()));
    let overflow = Tensor::whole(gpu, "overflow", 1, 1, Format::U32).await?;
    let merger = Merger { gpu, kernels, config, overflow };
    let heads = config.heads_width();
    for (layer, block) in blocks.iter().enumerate() {
        // Where each begins among the features of the one matrix and the inputs of the other.
        let features = [
            (BlockTensor::QProj, 0),
            (BlockTensor::KProj, heads),
            (BlockTensor::VProj, 2 * heads),
            (BlockTensor::FcInWeight, 3 * heads),
        ];
        for (tensor, start) in features {
            if let Some(product) = checkpoint.low_rank(layer, tensor)? {
                let feature = |output| start + merger.place(tensor, output);
                merger.add_features(&block.block_in.weight, &product, feature).await?;
                merger.check(checkpoint, layer, tensor).await?;
            }
        }
        for (tensor, start) in [(BlockTensor::OutProj, 0), (BlockTensor::FcOutWeight, heads)] {
            if let Some(product) = checkpoint.low_rank(layer, tensor)? {
                let input = |input| start + merger.place(tensor, input);
                merger.add_inputs(&block.block_out.weight, &product, input).await?;
                merger.check(checkpoint, layer, tensor).await?;
            }
        }
    }
    Ok(())
}

struct Merger<'a> {
    gpu: &'a Gpu,
    kernels: Kernels,
    config: &'a Config,
    /// One number: whether f16 could not hold a sum.
    overflow: Tensor,
}

impl Merger<'_> {
    /// Where a dimension of a tensor is in the matrix, counted from where the tensor begins: heads are padded.
    fn place(&self, tensor: BlockTensor, dim: usize) -> usize {
        if matches!(tensor, BlockTensor::FcInWeight | BlockTensor::FcOutWeight) {
            return dim;
        }
        let (head, dim) = (dim / self.config.head_dim(), dim % self.config.head_dim());
        head * self.config.head_width() + dim
    }

    /// Waits for what was just added, so that only one product takes memory, and fails where it made numbers that f16
    /// cannot hold.
    async fn check(&self, checkpoint: &Checkpoint, layer: usize, tensor: BlockTensor) -> Result<()> {
        if self.overflow.read::<u32>(self.gpu, 1).await? == [0] {
            return Ok(());
        }
        let view = checkpoint.tensor(TensorName::Block(layer, tensor))?;
        let reason =
            "with its adapters, it has numbers that F16 cannot hold (at most ±65504); give them a smaller scale";
        Err(Error::tensor(view.name(), view.path(), reason))
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
        plan.run(self.kernels.merge_lora([&b, &a], first_panel, matrix, &self.overflow));
        let mut submission = Submission::new(self.gpu, "merge_lora");
        submission.run([&plan], StepSize { rows: 0, outputs: 0, positions: 0 });
        submission.submit();
        Ok(())
    }
}
