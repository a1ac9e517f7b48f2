//! The parameters of a model in GPU memory: matrices, their storage, and the upload of a checkpoint's tensors.

mod matrix;
mod storage;
mod upload;
mod widths;

use gptj_checkpoint::Config;

pub use matrix::Matrix;
pub use storage::{PANEL_FEATURES, Storage};
pub use widths::BlockWidths;

use crate::error::Result;
use crate::gpu::{Dtype, Gpu, Tensor, padded};

/// All parameters.
pub struct Weights {
    /// The token embedding, (vocab_size, n_embd) f16.
    pub wte: Tensor,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// The final layer norm.
    pub ln_f: LayerNorm,
    /// From hidden states to logits: lm_head, score or qa_outputs, by the model's class; `None` if it has no head.
    pub head: Option<Linear>,
}

/// The parameters of one block.
pub struct Block {
    /// The block's only layer norm; it feeds both branches.
    pub ln_1: LayerNorm,
    /// \[q_proj; k_proj; v_proj; fc_in\]: ([`Config::block_in_features`], n_embd), with the bias of fc_in. Each head's
    /// features are padded to whole octets.
    pub block_in: Linear,
    /// \[out_proj | fc_out\]: (n_embd, [`Config::block_out_inputs`]), with the bias of fc_out. Each head's inputs are
    /// padded to whole octets.
    pub block_out: Linear,
}

/// A layer norm's parameters, f32.
pub struct LayerNorm {
    /// The checkpoint's `weight`, (n_embd).
    pub gain: Tensor,
    /// (n_embd)
    pub bias: Tensor,
}

impl LayerNorm {
    async fn new(gpu: &Gpu, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            gain: Tensor::whole(gpu, &format!("gain of {name}"), 1, width, Dtype::F32).await?,
            bias: Tensor::whole(gpu, &format!("bias of {name}"), 1, width, Dtype::F32).await?,
        })
    }
}

/// A linear layer's parameters.
pub struct Linear {
    /// (out, in) f16.
    pub weight: Matrix,
    /// f32.
    pub bias: Tensor,
}

impl Linear {
    async fn new(gpu: &Gpu, name: &str, [features, inputs]: [usize; 2], biases: usize) -> Result<Self> {
        Ok(Self {
            weight: Matrix::new(gpu, name, Storage::F16, features, inputs).await?,
            bias: Tensor::whole(gpu, &format!("bias of {name}"), 1, biases, Dtype::F32).await?,
        })
    }
}

impl Weights {
    /// Allocates the parameters of a model of this configuration, all zero.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the GPU cannot hold them.
    pub async fn new(gpu: &Gpu, config: &Config) -> Result<Self> {
        let Config { vocab_size, n_embd, n_inner, n_layer, .. } = *config;
        let wte = Tensor::new(gpu, "wte", vocab_size, n_embd, Dtype::F16).await?;
        let mut blocks = Vec::new();
        for layer in 0..n_layer {
            let name = |parameter: &str| format!("{parameter} of block {layer}");
            let (features, inputs) = (config.block_in_features(), config.block_out_inputs());
            blocks.push(Block {
                ln_1: LayerNorm::new(gpu, &name("ln_1"), n_embd).await?,
                block_in: Linear::new(gpu, &name("block_in"), [features, n_embd], n_inner).await?,
                block_out: Linear::new(gpu, &name("block_out"), [n_embd, inputs], n_embd).await?,
            });
        }
        let ln_f = LayerNorm::new(gpu, "ln_f", n_embd).await?;
        let head = match config.head_features() {
            0 => None,
            features => Some(Linear::new(gpu, "head", [features, n_embd], features).await?),
        };
        Ok(Self { wte, blocks, ln_f, head })
    }

    /// Bytes of the weights of a model of this configuration.
    pub fn bytes(config: &Config) -> u64 {
        let Config { vocab_size, n_embd, n_layer, .. } = *config;
        let wte = vocab_size as u64 * padded(n_embd) as u64 * Dtype::F16.bytes();
        let vector = |width: usize| padded(width) as u64 * Dtype::F32.bytes();
        let block_in = Matrix::bytes(Storage::F16, config.block_in_features(), n_embd) + vector(config.n_inner);
        let block_out = Matrix::bytes(Storage::F16, n_embd, config.block_out_inputs()) + vector(n_embd);
        let block = 2 * vector(n_embd) + block_in + block_out;
        let head = Matrix::bytes(Storage::F16, config.head_features(), n_embd) + vector(config.head_features());
        wte + n_layer as u64 * block + 2 * vector(n_embd) + head
    }

    /// Bytes of the weights that one decoded token reads: all but the embedding, of which it reads one row.
    pub fn bytes_per_token(config: &Config) -> u64 {
        let wte = config.vocab_size as u64 * padded(config.n_embd) as u64 * Dtype::F16.bytes();
        Self::bytes(config) - wte
    }
}
