//! The buffers of a step, from its tokens to its logits.

use crate::error::Result;
use crate::gpu::{Dtype, Gpu, Tensor, padded};
use crate::kernels::{Row, SPLIT_ROWS, StepHeader, TILE_ROWS, most_splits, rotary_angles};
use crate::weights::BlockWidths;
use gptj_checkpoint::Config;

use super::LoadOptions;

/// Everything between the weights and the logits, allocated once and shared by all blocks and steps.
pub(super) struct Scratch {
    /// Input tokens; argmax overwrites them with the next step's.
    pub(super) tokens: Tensor,
    /// The step's [`StepHeader`] and [`Row`]s.
    pub(super) step: Tensor,
    /// Indices of the output rows: those whose logits are computed.
    pub(super) outputs: Tensor,
    /// Cosines and sines of all positions.
    pub(super) angles: Tensor,
    /// The residual stream, (rows, n_embd).
    pub(super) x: Tensor,
    /// `ln_1(x)`, the input of both branches of a block, (rows, n_embd).
    pub(super) normed: Tensor,
    /// Attended values, the MLP's hidden layer, and q, (rows, [`Config::activation_width`]).
    pub(super) activations: Tensor,
    /// Attended values of each split, (rows, n_head, n_splits, head_width).
    pub(super) partial_out: Tensor,
    /// Their maxima and sums, (rows, n_head, n_splits).
    pub(super) partial_max_sum: Tensor,
    /// `ln_f(x)` of the output rows, (outputs, n_embd).
    pub(super) ln_f: Tensor,
    /// (outputs, [`Config::head_features`])
    pub(super) logits: Tensor,
}

/// The name, rows, width and type of a tensor to allocate.
type Layout = (&'static str, usize, usize, Dtype);

fn layout_bytes((_, rows, width, dtype): Layout) -> u64 {
    (rows * padded(width)) as u64 * dtype.bytes()
}

impl Scratch {
    /// Every tensor, in the order of the fields.
    fn layout(config: &Config, options: &LoadOptions) -> [Layout; 11] {
        let chunk = options.chunk.next_multiple_of(TILE_ROWS);
        let Config { n_positions, n_embd, n_head, rotary_dim, .. } = *config;
        let splits = SPLIT_ROWS * n_head * most_splits(config, n_positions);
        let step_bytes = size_of::<StepHeader>() + chunk * size_of::<Row>();
        [
            ("tokens", 1, chunk, Dtype::U32),
            ("step", 1, step_bytes / size_of::<u32>(), Dtype::U32),
            ("outputs", 1, SPLIT_ROWS, Dtype::U32),
            ("angles", 1, n_positions * rotary_dim, Dtype::F32),
            ("x", chunk, n_embd, Dtype::F32),
            ("normed", chunk, n_embd, Dtype::F32),
            ("activations", chunk, config.activation_width(), Dtype::F32),
            ("partial_out", 1, splits * config.head_width(), Dtype::F32),
            ("partial_max_sum", 1, splits * 2, Dtype::F32),
            ("ln_f", SPLIT_ROWS, n_embd, Dtype::F32),
            // Without a head there are no logits, but a tensor cannot be empty.
            ("logits", SPLIT_ROWS, config.head_features().max(1), Dtype::F32),
        ]
    }

    /// Bytes of all of it.
    pub(super) fn bytes(config: &Config, options: &LoadOptions) -> u64 {
        Self::layout(config, options).into_iter().map(layout_bytes).sum()
    }

    /// The name and bytes of its largest tensor.
    pub(super) fn largest(config: &Config, options: &LoadOptions) -> (&'static str, u64) {
        let sized = Self::layout(config, options).map(|layout| (layout.0, layout_bytes(layout)));
        sized.into_iter().max_by_key(|(_, bytes)| *bytes).expect("the layout is not empty")
    }

    pub(super) async fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        let mut tensors = Vec::new();
        for (name, rows, width, dtype) in Self::layout(config, options) {
            tensors.push(Tensor::whole(gpu, name, rows, width, dtype).await?);
        }
        let tensors: [Tensor; 11] = tensors.try_into().ok().expect("one per layout");
        let [tokens, step, outputs, angles, x, normed, activations, partial_out, partial_max_sum, ln_f, logits] =
            tensors;
        angles.write_elements(gpu, rotary_angles(config, config.n_positions).as_flattened());
        Ok(Self { tokens, step, outputs, angles, x, normed, activations, partial_out, partial_max_sum, ln_f, logits })
    }

    /// The most rows of a step.
    pub(super) fn chunk(&self) -> usize {
        self.x.rows()
    }
}
