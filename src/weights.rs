//! The parameters of a model in GPU memory, and their way there.

use half::f16;

use crate::checkpoint::{BlockTensor, Checkpoint, TensorName, TensorView};
use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Tensor, Uploader, padded};

/// All parameters.
pub struct Weights {
    /// The token embedding, (vocab_size, n_embd) f16.
    pub wte: Tensor,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// The final layer norm.
    pub ln_f: LayerNorm,
    /// The classifier over the vocabulary.
    pub lm_head: Linear,
}

/// The parameters of one block.
pub struct Block {
    /// The block's only layer norm; it feeds both branches.
    pub ln_1: LayerNorm,
    /// (n_embd, n_embd)
    pub q_proj: Linear,
    /// (n_embd, n_embd)
    pub k_proj: Linear,
    /// (n_embd, n_embd)
    pub v_proj: Linear,
    /// (n_embd, n_embd)
    pub out_proj: Linear,
    /// (n_inner, n_embd)
    pub fc_in: Linear,
    /// (n_embd, n_inner)
    pub fc_out: Linear,
}

/// A layer norm's parameters, f32.
pub struct LayerNorm {
    /// The checkpoint's `weight`, (n_embd).
    pub gain: Tensor,
    /// (n_embd)
    pub bias: Tensor,
}

/// A linear layer's parameters.
pub struct Linear {
    /// (out, in) f16.
    pub weight: Tensor,
    /// (out) f32.
    pub bias: Option<Tensor>,
}

/// How far loading is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of the checkpoint that are on the GPU.
    pub done: u64,
    /// Bytes of the checkpoint that will be.
    pub total: u64,
}

impl Weights {
    /// Uploads a checkpoint, a tensor at a time.
    ///
    /// # Errors
    /// Where a number is not finite or f16 cannot hold it, or the GPU cannot hold a tensor.
    pub async fn load(gpu: &Gpu, checkpoint: &Checkpoint, progress: &mut impl FnMut(Progress)) -> Result<Self> {
        let mut total = 0;
        for name in TensorName::all(checkpoint.config()) {
            total += checkpoint.tensor(name)?.bytes() as u64;
        }
        let mut loader = Loader { gpu, checkpoint, uploader: Uploader::new(gpu), progress, done: 0, total };
        let weights = loader.weights().await?;
        loader.uploader.finish().await?;
        Ok(weights)
    }

    /// Bytes of the weights of a model of this configuration.
    pub fn bytes(config: &Config) -> u64 {
        let row = |width: usize, format: Format| padded(width) as u64 * format.bytes();
        let tensor = |name: TensorName| match name.shape(config)[..] {
            [rows, width] => rows as u64 * row(width, Format::F16),
            [width] => row(width, Format::F32),
            _ => unreachable!("GPT-J's parameters are matrices and vectors"),
        };
        let tied = if config.tie_word_embeddings { tensor(TensorName::LmHeadWeight) } else { 0 };
        TensorName::all(config).into_iter().map(tensor).sum::<u64>() + tied
    }

    /// Bytes of the weights that one decoded token reads: all but the embedding, of which it reads one row.
    pub fn bytes_per_token(config: &Config) -> u64 {
        let wte = config.vocab_size as u64 * padded(config.n_embd) as u64 * Format::F16.bytes();
        Self::bytes(config) - wte
    }
}

/// A matrix travels in blocks of about this many bytes, as many as still fit a processor's cache.
const BLOCK_BYTES: usize = 8 << 20;

struct Loader<'a, P> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    uploader: Uploader,
    progress: &'a mut P,
    done: u64,
    total: u64,
}

impl<P: FnMut(Progress)> Loader<'_, P> {
    async fn weights(&mut self) -> Result<Weights> {
        let wte = self.matrix(TensorName::Wte).await?;
        let mut blocks = Vec::new();
        for layer in 0..self.checkpoint.config().n_layer {
            blocks.push(self.block(layer).await?);
        }
        let ln_f = self.layer_norm(TensorName::LnFWeight, TensorName::LnFBias).await?;
        let tied = self.checkpoint.config().tie_word_embeddings;
        let lm_head = if tied { TensorName::Wte } else { TensorName::LmHeadWeight };
        let lm_head = self.linear(lm_head, Some(TensorName::LmHeadBias)).await?;
        Ok(Weights { wte, blocks, ln_f, lm_head })
    }

    async fn block(&mut self, layer: usize) -> Result<Block> {
        let name = |tensor| TensorName::Block(layer, tensor);
        Ok(Block {
            ln_1: self.layer_norm(name(BlockTensor::Ln1Weight), name(BlockTensor::Ln1Bias)).await?,
            q_proj: self.linear(name(BlockTensor::QProj), None).await?,
            k_proj: self.linear(name(BlockTensor::KProj), None).await?,
            v_proj: self.linear(name(BlockTensor::VProj), None).await?,
            out_proj: self.linear(name(BlockTensor::OutProj), None).await?,
            fc_in: self.linear(name(BlockTensor::FcInWeight), Some(name(BlockTensor::FcInBias))).await?,
            fc_out: self.linear(name(BlockTensor::FcOutWeight), Some(name(BlockTensor::FcOutBias))).await?,
        })
    }

    async fn layer_norm(&mut self, gain: TensorName, bias: TensorName) -> Result<LayerNorm> {
        Ok(LayerNorm { gain: self.vector(gain).await?, bias: self.vector(bias).await? })
    }

    async fn linear(&mut self, weight: TensorName, bias: Option<TensorName>) -> Result<Linear> {
        let weight = self.matrix(weight).await?;
        let bias = match bias {
            Some(bias) => Some(self.vector(bias).await?),
            None => None,
        };
        Ok(Linear { weight, bias })
    }

    async fn vector(&mut self, name: TensorName) -> Result<Tensor> {
        let view = self.checkpoint.tensor(name)?;
        let numbers = view.to_f32()?;
        let tensor = Tensor::whole(self.gpu, view.name(), 1, numbers.len(), Format::F32).await?;
        tensor.write_elements(self.gpu, &numbers);
        self.advance(&view, numbers.len());
        Ok(tensor)
    }

    async fn matrix(&mut self, name: TensorName) -> Result<Tensor> {
        let view = self.checkpoint.tensor(name)?;
        let &[rows, width] = view.shape() else { unreachable!("the checkpoint made sure that it is a matrix") };
        let tensor = Tensor::new(self.gpu, view.name(), rows, width, Format::F16).await?;
        let block_rows = (BLOCK_BYTES / tensor.row_bytes()).max(1);
        let mut block = Vec::with_capacity(block_rows * padded(width));
        for first_row in (0..rows).step_by(block_rows) {
            let end = (first_row + block_rows).min(rows);
            let elements = first_row * width..end * width;
            block.clear();
            if padded(width) == width {
                view.append_f16(elements.clone(), &mut block)?;
            } else {
                for row in first_row..end {
                    view.append_f16(row * width..(row + 1) * width, &mut block)?;
                    block.resize(block.len().next_multiple_of(padded(width)), f16::ZERO);
                }
            }
            self.uploader.write(&tensor, first_row, bytemuck::cast_slice(&block)).await?;
            view.release(elements.clone());
            self.advance(&view, elements.len());
        }
        Ok(tensor)
    }

    fn advance(&mut self, view: &TensorView<'_>, elements: usize) {
        self.done += (elements * view.format().bytes()) as u64;
        (self.progress)(Progress { done: self.done, total: self.total });
    }
}
