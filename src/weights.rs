//! The parameters of a model in GPU memory, and their way there.

use std::ops::Range;

use half::f16;

use crate::checkpoint::{BlockTensor, Checkpoint, Progress, TensorName, TensorView};
use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Part, Tensor, Uploader, padded};
use crate::lora;

/// All parameters.
pub struct Weights {
    /// The token embedding, (vocab_size, n_embd) f16.
    pub wte: Tensor,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// The final layer norm.
    pub ln_f: LayerNorm,
    /// What makes logits of hidden states: lm_head, score or qa_outputs, as the model's class has it, or none.
    pub head: Option<Linear>,
}

/// The parameters of one block.
pub struct Block {
    /// The block's only layer norm; it feeds both branches.
    pub ln_1: LayerNorm,
    /// \[q_proj; k_proj; v_proj; fc_in\]: ([`Config::block_in_features`], n_embd), with the bias of fc_in. Each head's
    /// features are padded to whole chunks of eight.
    pub block_in: Linear,
    /// \[out_proj | fc_out\]: (n_embd, [`Config::block_out_inputs`]), with the bias of fc_out. Each head's inputs are
    /// padded to whole chunks of eight.
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
        let [gain, bias] = ["gain", "bias"].map(|what| format!("{what} of {name}"));
        Ok(Self {
            gain: Tensor::whole(gpu, &gain, 1, width, Format::F32).await?,
            bias: Tensor::whole(gpu, &bias, 1, width, Format::F32).await?,
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
            weight: Matrix::new(gpu, name, features, inputs).await?,
            bias: Tensor::whole(gpu, &format!("bias of {name}"), 1, biases, Format::F32).await?,
        })
    }
}

/// Features of a panel; `shaders/shared/weights_f16.wgsl` has the same number.
pub(crate) const PANEL_FEATURES: usize = 32;

/// Numbers of a chunk.
const CHUNK: usize = 8;

/// A matrix as products read it: in panels of 32 features, within which the features' chunks of eight inputs are
/// interleaved. `shaders/shared/weights_f16.wgsl` is the kernels' side of the layout.
pub struct Matrix {
    panels: Tensor,
    features: usize,
    inputs: usize,
}

impl Matrix {
    /// Allocates a matrix of zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where the GPU cannot hold it.
    pub async fn new(gpu: &Gpu, name: &str, features: usize, inputs: usize) -> Result<Self> {
        let width = PANEL_FEATURES * padded(inputs);
        let panels = Tensor::new(gpu, name, features.div_ceil(PANEL_FEATURES), width, Format::F16).await?;
        Ok(Self { panels, features, inputs })
    }

    /// Bytes of a matrix of this size.
    pub fn bytes(features: usize, inputs: usize) -> u64 {
        (features.next_multiple_of(PANEL_FEATURES) * padded(inputs)) as u64 * Format::F16.bytes()
    }

    /// What it holds.
    pub fn name(&self) -> &str {
        self.panels.name()
    }

    /// Output features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Inputs, with the padding between them.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Its panels, one a row.
    pub fn panels(&self) -> &Tensor {
        &self.panels
    }

    pub(crate) fn parts(&self) -> &[Part] {
        self.panels.parts()
    }

    /// Interleaves the rows of a panel, each padded.
    ///
    /// # Panics
    /// Where `panel` is not as long as the rows.
    pub fn interleave(rows: &[f16], panel: &mut [f16]) {
        assert_eq!(rows.len(), panel.len(), "a panel holds its rows");
        let width = rows.len() / PANEL_FEATURES;
        for (group, chunks) in panel.chunks_exact_mut(PANEL_FEATURES * CHUNK).enumerate() {
            for (index, chunk) in chunks.chunks_exact_mut(CHUNK).enumerate() {
                // Chunk 8 * j + i is that of feature 4 * i + j.
                let feature = index % 8 * 4 + index / 8;
                chunk.copy_from_slice(&rows[feature * width + group * CHUNK..][..CHUNK]);
            }
        }
    }
}

impl Weights {
    /// Allocates the parameters of a model of this configuration, all zero.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where the GPU cannot hold them.
    pub async fn new(gpu: &Gpu, config: &Config) -> Result<Self> {
        let Config { vocab_size, n_embd, n_inner, n_layer, .. } = *config;
        let wte = Tensor::new(gpu, "wte", vocab_size, n_embd, Format::F16).await?;
        let mut blocks = Vec::new();
        for layer in 0..n_layer {
            let name = |what: &str| format!("{what} of block {layer}");
            let [inner, outer] = [config.block_in_features(), config.block_out_inputs()];
            blocks.push(Block {
                ln_1: LayerNorm::new(gpu, &name("ln_1"), n_embd).await?,
                block_in: Linear::new(gpu, &name("block_in"), [inner, n_embd], n_inner).await?,
                block_out: Linear::new(gpu, &name("block_out"), [n_embd, outer], n_embd).await?,
            });
        }
        let ln_f = LayerNorm::new(gpu, "ln_f", n_embd).await?;
        let head = match config.head_features() {
            0 => None,
            features => Some(Linear::new(gpu, "head", [features, n_embd], features).await?),
        };
        Ok(Self { wte, blocks, ln_f, head })
    }

    /// Uploads a checkpoint, a panel at a time, into memory that is allocated before, and merges its adapters.
    ///
    /// # Errors
    /// Where a number is not finite or f16 cannot hold it, or the GPU cannot hold the parameters.
    pub async fn load(gpu: &Gpu, checkpoint: &Checkpoint, progress: &mut impl FnMut(Progress)) -> Result<Self> {
        let mut total = 0;
        for name in TensorName::all(checkpoint.config()) {
            total += checkpoint.tensor(name)?.bytes() as u64;
        }
        if TensorName::head_weight(checkpoint.config()) == Some(TensorName::Wte) {
            // It is read for the head once more.
            total += checkpoint.tensor(TensorName::Wte)?.bytes() as u64;
        }
        let weights = Self::new(gpu, checkpoint.config()).await?;
        let mut loader = Loader { gpu, checkpoint, uploader: Uploader::new(gpu), progress, done: 0, total };
        loader.fill_all(&weights).await?;
        loader.uploader.finish().await?;
        lora::merge(gpu, checkpoint, &weights.blocks).await?;
        Ok(weights)
    }

    /// Bytes of the weights of a model of this configuration.
    pub fn bytes(config: &Config) -> u64 {
        let Config { vocab_size, n_embd, n_layer, .. } = *config;
        let wte = vocab_size as u64 * padded(n_embd) as u64 * Format::F16.bytes();
        let vector = |width: usize| padded(width) as u64 * Format::F32.bytes();
        let block_in = Matrix::bytes(config.block_in_features(), n_embd) + vector(config.n_inner);
        let block_out = Matrix::bytes(n_embd, config.block_out_inputs()) + vector(n_embd);
        let block = 2 * vector(n_embd) + block_in + block_out;
        let head = Matrix::bytes(config.head_features(), n_embd) + vector(config.head_features());
        wte + n_layer as u64 * block + 2 * vector(n_embd) + head
    }

    /// Bytes of the weights that one decoded token reads: all but the embedding, of which it reads one row.
    pub fn bytes_per_token(config: &Config) -> u64 {
        let wte = config.vocab_size as u64 * padded(config.n_embd) as u64 * Format::F16.bytes();
        Self::bytes(config) - wte
    }
}

/// The embedding travels in blocks of about this many bytes, as many as still fit a processor's cache.
const BLOCK_BYTES: usize = 8 << 20;

/// What a row of a matrix is made of: runs of elements of the checkpoint's tensors, each padded to whole chunks.
type Runs<'v, 'a> = Vec<(&'v TensorView<'a>, Range<usize>)>;

struct Loader<'a, P> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    uploader: Uploader,
    progress: &'a mut P,
    done: u64,
    total: u64,
}

impl<P: FnMut(Progress)> Loader<'_, P> {
    async fn fill_all(&mut self, weights: &Weights) -> Result<()> {
        self.fill_embedding(&weights.wte).await?;
        for (layer, block) in weights.blocks.iter().enumerate() {
            self.fill_block(layer, block).await?;
        }
        self.fill_layer_norm(&weights.ln_f, [TensorName::LnFWeight, TensorName::LnFBias])?;
        match (&weights.head, TensorName::head_weight(self.checkpoint.config())) {
            (Some(head), Some(weight)) => self.fill_head(head, weight).await,
            _ => Ok(()),
        }
    }

    async fn fill_block(&mut self, layer: usize, block: &Block) -> Result<()> {
        let name = |tensor| TensorName::Block(layer, tensor);
        self.fill_layer_norm(&block.ln_1, [name(BlockTensor::Ln1Weight), name(BlockTensor::Ln1Bias)])?;
        self.fill_block_in(layer, &block.block_in.weight).await?;
        self.fill_vector(&block.block_in.bias, name(BlockTensor::FcInBias))?;
        self.fill_block_out(layer, &block.block_out.weight).await?;
        self.fill_vector(&block.block_out.bias, name(BlockTensor::FcOutBias))
    }

    async fn fill_block_in(&mut self, layer: usize, matrix: &Matrix) -> Result<()> {
        let config = self.checkpoint.config();
        let tensor = |tensor| self.checkpoint.tensor(TensorName::Block(layer, tensor));
        let heads = [tensor(BlockTensor::QProj)?, tensor(BlockTensor::KProj)?, tensor(BlockTensor::VProj)?];
        let fc_in = tensor(BlockTensor::FcInWeight)?;
        let row = |view, row: usize| vec![(view, row * config.n_embd..(row + 1) * config.n_embd)];
        let runs = |feature: usize| {
            if let Some(hidden) = feature.checked_sub(3 * config.heads_width()) {
                return row(&fc_in, hidden);
            }
            let (view, feature) = (&heads[feature / config.heads_width()], feature % config.heads_width());
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
        TensorName::head_bias(config.class).map_or(Ok(()), |bias| self.fill_vector(&head.bias, bias))
    }

    fn fill_layer_norm(&mut self, norm: &LayerNorm, [gain, bias]: [TensorName; 2]) -> Result<()> {
        self.fill_vector(&norm.gain, gain)?;
        self.fill_vector(&norm.bias, bias)
    }

    /// Uploads a matrix panel by panel; `runs` says where the checkpoint has the row of a feature.
    async fn fill<'v, 'a: 'v>(&mut self, matrix: &Matrix, runs: impl Fn(usize) -> Runs<'v, 'a>) -> Result<()> {
        let width = padded(matrix.inputs());
        let mut rows = Vec::with_capacity(PANEL_FEATURES * width);
        let mut panel = vec![f16::ZERO; PANEL_FEATURES * width];
        let mut read: Runs<'v, 'a> = Vec::new();
        for first in (0..matrix.features()).step_by(PANEL_FEATURES) {
            rows.clear();
            read.clear();
            for feature in first..(first + PANEL_FEATURES).min(matrix.features()) {
                for (view, range) in runs(feature) {
                    view.append_f16(range.clone(), &mut rows)?;
                    rows.resize(rows.len().next_multiple_of(CHUNK), f16::ZERO);
                    self.advance(view, range.len());
                    // Rows of one tensor are neighbours in the file.
                    match read.iter_mut().find(|(other, _)| std::ptr::eq(*other, view)) {
                        Some((_, read)) => read.end = range.end,
                        None => read.push((view, range)),
                    }
                }
                // A feature that only fills up a head has no runs.
                rows.resize((feature - first + 1) * width, f16::ZERO);
            }
            rows.resize(PANEL_FEATURES * width, f16::ZERO);
            Matrix::interleave(&rows, &mut panel);
            self.uploader.write(&matrix.panels, first / PANEL_FEATURES, bytemuck::cast_slice(&panel)).await?;
            for (view, range) in &read {
                view.release(range.clone());
            }
        }
        Ok(())
    }

    fn fill_vector(&mut self, tensor: &Tensor, name: TensorName) -> Result<()> {
        let view = self.checkpoint.tensor(name)?;
        let numbers = view.to_f32()?;
        tensor.write_elements(self.gpu, &numbers);
        self.advance(&view, numbers.len());
        Ok(())
    }

    async fn fill_embedding(&mut self, tensor: &Tensor) -> Result<()> {
        let view = self.checkpoint.tensor(TensorName::Wte)?;
        let (rows, width) = (tensor.rows(), tensor.width());
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
            self.uploader.write(tensor, first_row, bytemuck::cast_slice(&block)).await?;
            view.release(elements.clone());
            self.advance(&view, elements.len());
        }
        Ok(())
    }

    fn advance(&mut self, view: &TensorView<'_>, elements: usize) {
        self.done += view.bytes() as u64 * elements as u64 / view.elements() as u64;
        (self.progress)(Progress { done: self.done, total: self.total });
    }
}
