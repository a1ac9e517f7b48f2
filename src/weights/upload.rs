//! The upload of a checkpoint's tensors to the GPU, a panel at a time: host memory never holds the model.

use std::ops::{ControlFlow, Range};

use gptj_checkpoint::{BlockTensor, Checkpoint, IntoFlow, Progress, TensorName, TensorView};
use half::f16;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Tensor, Uploader, padded};
use crate::weights::matrix::Matrix;
use crate::weights::storage::{OCTET, PANEL_FEATURES};
use crate::weights::{Block, BlockWidths, LayerNorm, Linear, Weights};

impl Weights {
    /// Allocates the parameters and uploads a checkpoint to them, a panel at a time, without its adapters.
    ///
    /// # Errors
    /// If a number is not finite or f16 cannot hold it, or if the GPU cannot hold the parameters.
    pub async fn load<F: IntoFlow>(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        progress: &mut impl FnMut(Progress) -> F,
    ) -> Result<Self> {
        let mut total = 0;
        for name in TensorName::all(checkpoint.config()) {
            total += checkpoint.tensor(name)?.bytes() as u64;
        }
        if TensorName::head_weight(checkpoint.config()) == Some(TensorName::Wte) {
            // It is read a second time for the head.
            total += checkpoint.tensor(TensorName::Wte)?.bytes() as u64;
        }
        let weights = Self::new(gpu, checkpoint.config()).await?;
        let mut loader = Loader { gpu, checkpoint, uploader: Uploader::new(gpu), progress, done: 0, total };
        loader.fill_all(&weights).await?;
        loader.uploader.finish().await?;
        Ok(weights)
    }
}

/// The embedding is uploaded in batches of about this many bytes, as many as still fit a processor's cache.
const EMBEDDING_BATCH_BYTES: usize = 8 << 20;

/// The sources of a matrix's row: runs of elements of the checkpoint's tensors, each padded to whole octets.
type Runs<'v, 'a> = Vec<(&'v TensorView<'a>, Range<usize>)>;

struct Loader<'a, P> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    uploader: Uploader,
    progress: &'a mut P,
    done: u64,
    total: u64,
}

impl<F: IntoFlow, P: FnMut(Progress) -> F> Loader<'_, P> {
    async fn fill_all(&mut self, weights: &Weights) -> Result<()> {
        self.fill_embedding(&weights.wte).await?;
        for (layer, block) in weights.blocks.iter().enumerate() {
            self.fill_block(layer, block).await?;
        }
        self.fill_layer_norm(&weights.ln_f, [TensorName::LnFWeight, TensorName::LnFBias]).await?;
        match (&weights.head, TensorName::head_weight(self.checkpoint.config())) {
            (Some(head), Some(weight)) => self.fill_head(head, weight).await,
            _ => Ok(()),
        }
    }

    async fn fill_block(&mut self, layer: usize, block: &Block) -> Result<()> {
        let name = |tensor| TensorName::Block(layer, tensor);
        self.fill_layer_norm(&block.ln_1, [name(BlockTensor::Ln1Weight), name(BlockTensor::Ln1Bias)]).await?;
        self.fill_block_in(layer, &block.block_in.weight).await?;
        self.fill_vector(&block.block_in.bias, name(BlockTensor::FcInBias)).await?;
        self.fill_block_out(layer, &block.block_out.weight).await?;
        self.fill_vector(&block.block_out.bias, name(BlockTensor::FcOutBias)).await
    }

    async fn fill_block_in(&mut self, layer: usize, matrix: &Matrix) -> Result<()> {
        let config = self.checkpoint.config();
        let tensor = |tensor| self.checkpoint.tensor(TensorName::Block(layer, tensor));
        let qkv = [tensor(BlockTensor::QProj)?, tensor(BlockTensor::KProj)?, tensor(BlockTensor::VProj)?];
        let fc_in = tensor(BlockTensor::FcInWeight)?;
        let row = |view, row: usize| vec![(view, row * config.n_embd..(row + 1) * config.n_embd)];
        let runs = |feature: usize| {
            if let Some(hidden) = feature.checked_sub(3 * config.heads_width()) {
                return row(&fc_in, hidden);
            }
            let (view, feature) = (&qkv[feature / config.heads_width()], feature % config.heads_width());
            let (head, dim) = (feature / config.head_width(), feature % config.head_width());
            if dim < config.head_dim() { row(view, head * config.head_dim() + dim) } else { Vec::new() }
        };
        self.fill(matrix, runs).await
    }

    async fn fill_block_out(&mut self, layer: usize, matrix: &Matrix) -> Result<()> {
        let config = self.checkpoint.config();
        let tensor = |tensor| self.checkpoint.tensor(TensorName::Block(layer, tensor));
        let (out_proj, fc_out) = (tensor(BlockTensor::OutProj)?, tensor(BlockTensor::FcOutWeight)?);
        let runs = |feature: usize| {
            let start = feature * config.n_embd;
            let head = |head: usize| start + head * config.head_dim()..start + (head + 1) * config.head_dim();
            let mut runs: Vec<_> = (0..config.n_head).map(|index| (&out_proj, head(index))).collect();
            runs.push((&fc_out, feature * config.n_inner..(feature + 1) * config.n_inner));
            runs
        };
        self.fill(matrix, runs).await
    }

    async fn fill_head(&mut self, head: &Linear, weight: TensorName) -> Result<()> {
        let config = self.checkpoint.config();
        let view = self.checkpoint.tensor(weight)?;
        let runs = |row: usize| vec![(&view, row * config.n_embd..(row + 1) * config.n_embd)];
        self.fill(&head.weight, runs).await?;
        // A head without a bias adds zeros.
        match TensorName::head_bias(config.class) {
            Some(bias) => self.fill_vector(&head.bias, bias).await,
            None => Ok(()),
        }
    }

    async fn fill_layer_norm(&mut self, norm: &LayerNorm, [gain, bias]: [TensorName; 2]) -> Result<()> {
        self.fill_vector(&norm.gain, gain).await?;
        self.fill_vector(&norm.bias, bias).await
    }

    /// Uploads a matrix panel by panel; `runs` gives the sources of a feature's row.
    async fn fill<'v, 'a: 'v>(&mut self, matrix: &Matrix, runs: impl Fn(usize) -> Runs<'v, 'a>) -> Result<()> {
        let width = padded(matrix.inputs());
        let mut rows = Vec::with_capacity(PANEL_FEATURES * width);
        let mut panel = Vec::with_capacity(PANEL_FEATURES * width * size_of::<f16>());
        let mut read: Runs<'v, 'a> = Vec::new();
        for first in (0..matrix.features()).step_by(PANEL_FEATURES) {
            rows.clear();
            read.clear();
            for feature in first..(first + PANEL_FEATURES).min(matrix.features()) {
                for (view, range) in runs(feature) {
                    view.fetch(range.clone()).await?;
                    view.append_f16(range.clone(), &mut rows)?;
                    rows.resize(rows.len().next_multiple_of(OCTET), f16::ZERO);
                    self.advance(view, range.len())?;
                    // Rows of one tensor are neighbours in the file.
                    match read.iter_mut().find(|(other, _)| std::ptr::eq(*other, view)) {
                        Some((_, read)) => read.end = range.end,
                        None => read.push((view, range)),
                    }
                }
                // A feature that only pads a head has no runs.
                rows.resize((feature - first + 1) * width, f16::ZERO);
            }
            rows.resize(PANEL_FEATURES * width, f16::ZERO);
            matrix.encode_panel(&rows, &mut panel);
            self.uploader.write(matrix.panels(), first / PANEL_FEATURES, &panel).await?;
            for (view, range) in &read {
                view.release(range.clone());
            }
        }
        Ok(())
    }

    async fn fill_vector(&mut self, tensor: &Tensor, name: TensorName) -> Result<()> {
        let view = self.checkpoint.tensor(name)?;
        view.fetch(0..view.elements()).await?;
        let numbers = view.to_f32()?;
        tensor.write_elements(self.gpu, &numbers);
        self.advance(&view, numbers.len())?;
        Ok(())
    }

    async fn fill_embedding(&mut self, tensor: &Tensor) -> Result<()> {
        let view = self.checkpoint.tensor(TensorName::Wte)?;
        let (rows, width) = (tensor.rows(), tensor.width());
        let batch_rows = (EMBEDDING_BATCH_BYTES / tensor.row_bytes()).max(1);
        let mut batch = Vec::with_capacity(batch_rows * padded(width));
        for first_row in (0..rows).step_by(batch_rows) {
            let end = (first_row + batch_rows).min(rows);
            let elements = first_row * width..end * width;
            batch.clear();
            view.fetch(elements.clone()).await?;
            if padded(width) == width {
                view.append_f16(elements.clone(), &mut batch)?;
            } else {
                for row in first_row..end {
                    view.append_f16(row * width..(row + 1) * width, &mut batch)?;
                    batch.resize(batch.len().next_multiple_of(padded(width)), f16::ZERO);
                }
            }
            self.uploader.write(tensor, first_row, bytemuck::cast_slice(&batch)).await?;
            view.release(elements.clone());
            self.advance(&view, elements.len())?;
        }
        Ok(())
    }

    fn advance(&mut self, view: &TensorView<'_>, elements: usize) -> Result<()> {
        self.done += view.bytes() as u64 * elements as u64 / view.elements() as u64;
        match (self.progress)(Progress { done: self.done, total: self.total }).into_flow() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}
