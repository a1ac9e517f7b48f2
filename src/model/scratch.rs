//! What a step works on, from its tokens to its logits.

use crate::config::Config;
use crate::error::Result;
use crate::gpu::{Format, Gpu, Tensor, padded};
use crate::kernels::{Row, StepHeader};
use crate::regime::{SPLIT_ROWS, TILE_ROWS, most_splits};

use super::LoadOptions;

/// Everything between the weights and the logits, allocated once and used again by every block and step.
pub(super) struct Scratch {
    /// The rows' tokens; where every row's next token is chosen here, they are those of the next step.
    pub(super) tokens: Tensor,
    /// The step's [`StepHeader`] and [`Row`]s.
    pub(super) step: Tensor,
    /// Indices of the rows whose logits are wanted.
    pub(super) outputs: Tensor,
    /// Cosines and sines of all positions.
    pub(super) angles: Tensor,
    /// The residual stream, (rows, n_embd).
    pub(super) x: Tensor,
    /// `ln_1(x)`, what both branches of a block read, (rows, n_embd).
    pub(super) normed: Tensor,
    /// Attention's results, the MLP's hidden layer, and q, (rows, [`Config::activation_width`]).
    pub(super) activations: Tensor,
    /// Attention's unfinished results, (rows, n_head, n_splits, head_width).
    pub(super) mixtures: Tensor,
    /// Their maxima and sums, (rows, n_head, n_splits).
    pub(super) softmaxes: Tensor,
    /// `ln_f(x)` of the rows whose logits are wanted, (outputs, n_embd).
    pub(super) ln_f: Tensor,
    /// (outputs, [`Config::head_features`])
    pub(super) logits: Tensor,
}

/// A tensor to be: its name, rows, width and format.
type Layout = (&'static str, usize, usize, Format);

fn layout_bytes((_, rows, width, format): Layout) -> u64 {
    (rows * padded(width)) as u64 * format.bytes()
}

impl Scratch {
    /// Every tensor, in the order of the fields.
    fn layout(config: &Config, options: &LoadOptions) -> [Layout; 11] {
        let chunk = options.chunk.next_multiple_of(TILE_ROWS);
        let Config { n_positions, n_embd, n_head, rotary_dim, .. } = *config;
        let splits = SPLIT_ROWS * n_head * most_splits(config, n_positions);
        let step_bytes = size_of::<StepHeader>() + chunk * size_of::<Row>();
        [
            ("tokens", 1, chunk, Format::U32),
            ("step", 1, step_bytes / size_of::<u32>(), Format::U32),
            ("outputs", 1, SPLIT_ROWS, Format::U32),
            ("angles", 1, n_positions * rotary_dim, Format::F32),
            ("x", chunk, n_embd, Format::F32),
            ("normed", chunk, n_embd, Format::F32),
            ("activations", chunk, config.activation_width(), Format::F32),
            ("mixtures", 1, splits * config.head_width(), Format::F32),
            ("softmaxes", 1, splits * 2, Format::F32),
            ("ln_f", SPLIT_ROWS, n_embd, Format::F32),
            // Without a head there are none, but a tensor has a size.
            ("logits", SPLIT_ROWS, config.head_features().max(1), Format::F32),
        ]
    }

    /// Bytes of all of it.
    pub(super) fn bytes(config: &Config, options: &LoadOptions) -> u64 {
        Self::layout(config, options).into_iter().map(layout_bytes).sum()
    }

    /// Its largest tensor and the bytes of it.
    pub(super) fn largest(config: &Config, options: &LoadOptions) -> (&'static str, u64) {
        let sized = Self::layout(config, options).map(|layout| (layout.0, layout_bytes(layout)));
        sized.into_iter().max_by_key(|(_, bytes)| *bytes).expect("there are some")
    }

    pub(super) async fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        let mut tensors = Vec::new();
        for (name, rows, width, format) in Self::layout(config, options) {
            tensors.push(Tensor::whole(gpu, name, rows, width, format).await?);
        }
        let tensors: [Tensor; 11] = tensors.try_into().ok().expect("one a layout");
        let [tokens, step, outputs, angles, x, normed, activations, mixtures, softmaxes, ln_f, logits] = tensors;
        angles.write_elements(gpu, config.rotary_angles(config.n_positions).as_flattened());
        Ok(Self { tokens, step, outputs, angles, x, normed, activations, mixtures, softmaxes, ln_f, logits })
    }

    /// Rows of a step at most.
    pub(super) fn chunk(&self) -> usize {
        self.x.rows()
    }
}
