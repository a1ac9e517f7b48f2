//! Merges LoRA adapters into a model's matrices, on the GPU, after the upload.
//!
//! A merged model is as fast as any other. Each number is rounded to f16 once, however many adapters there are.

use crate::error::{Error, Result};
use crate::gpu::{Dtype, Gpu, Plan, Submission, Tensor};
use crate::kernels::{Kernels, StepSize, Tuning};
use crate::weights::{Block, BlockWidths, Matrix, PANEL_FEATURES};
use gptj_checkpoint::Config;
use gptj_checkpoint::{BlockTensor, Checkpoint, LowRank, TensorName};

/// Merges a checkpoint's adapters into its blocks.
///
/// # Errors
/// [`Error::Tensor`] if a number of an adapter is not finite, or f16 cannot hold one of the merged matrix;
/// [`Error::OutOfMemory`] if the GPU cannot hold an adapter's matrix.
pub async fn merge(gpu: &Gpu, checkpoint: &Checkpoint, blocks: &[Block]) -> Result<()> {
    if checkpoint.adapters().is_empty() {
        return Ok(());
    }
    let config = checkpoint.config();
    let kernels = Kernels::new(gpu, config, Tuning::for_adapter(gpu.info()));
    let overflow = Tensor::whole(gpu, "overflow", 1, 1, Dtype::U32).await?;
    let merger = Merger { gpu, kernels, config, overflow };
    let heads = config.heads_width();
    for (layer, block) in blocks.iter().enumerate() {
        // The first feature of each in `block_in`; below, the first input of each in `block_out`.
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
    /// One number, set if f16 could not hold a sum.
    overflow: Tensor,
}

impl Merger<'_> {
    /// A tensor's dimension as an offset from the tensor's start in the matrix, in which heads are padded.
    fn place(&self, tensor: BlockTensor, dim: usize) -> usize {
        if matches!(tensor, BlockTensor::FcInWeight | BlockTensor::FcOutWeight) {
            return dim;
        }
        let (head, dim) = (dim / self.config.head_dim(), dim % self.config.head_dim());
        head * self.config.head_width() + dim
    }

    /// Waits for the last product, so that only one takes memory, and fails if a sum was more than f16 can hold.
    async fn check(&self, checkpoint: &Checkpoint, layer: usize, tensor: BlockTensor) -> Result<()> {
        if self.overflow.read::<u32>(self.gpu, 1).await? == [0] {
            return Ok(());
        }
        let view = checkpoint.tensor(TensorName::Block(layer, tensor))?;
        let reason =
            "with its adapters, it has numbers that F16 cannot hold (at most ±65504); give them a smaller scale";
        Err(Error::tensor(view.name(), view.path(), reason))
    }

    /// Adds a product to neighbouring features of a matrix; `feature` maps an output of the product to a feature, in
    /// rising order.
    async fn add_features(&self, matrix: &Matrix, product: &LowRank, feature: impl Fn(usize) -> usize) -> Result<()> {
        let outputs = product.b.len() / product.rank;
        let first_panel = feature(0) / PANEL_FEATURES;
        let features = (feature(outputs - 1) + 1).next_multiple_of(PANEL_FEATURES) - first_panel * PANEL_FEATURES;
        // The other features of these panels get zeros.
        let mut b = vec![0.0; features * product.rank];
        for (output, row) in product.b.chunks_exact(product.rank).enumerate() {
            let place = (feature(output) - first_panel * PANEL_FEATURES) * product.rank;
            b[place..place + product.rank].copy_from_slice(row);
        }
        self.add(matrix, first_panel, product.rank, [&b, &product.a]).await
    }

    /// Adds a product to neighbouring inputs of a matrix with the product's features; `input` maps an input of the
    /// product to one of the matrix.
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
            let tensor = Tensor::whole(self.gpu, name, numbers.len() / width, width, Dtype::F32).await?;
            tensor.write_elements(self.gpu, numbers);
            Ok::<_, Error>(tensor)
        };
        let (b, a) = (tensor("lora_B", b, rank).await?, tensor("lora_A", a, matrix.inputs()).await?);
        let mut plan = Plan::default();
        plan.run(self.kernels.merge_lora(&b, &a, first_panel, matrix, &self.overflow));
        let mut submission = Submission::new(self.gpu, "merge_lora");
        submission.run([&plan], StepSize::NONE);
        submission.submit();
        Ok(())
    }
}
