//! The launchers of kernels with one workgroup per row or output: embedding, layer norms, argmax.

use super::{Kernels, ROW_LANES, per_output, per_row};
use crate::gpu::{Axis, Dispatch, Segment, Tensor};
use crate::kernels::shaders;
use crate::weights::LayerNorm;

impl Kernels {
    /// `x[row] = wte[tokens[row]]`
    ///
    /// `tokens`: (rows) flat; `wte`: (vocab_size, n_embd) f16; `x`: (rows, n_embd).
    pub fn token_embedding(&self, tokens: &Tensor, wte: &Tensor, x: &Tensor) -> Vec<Dispatch> {
        assert_eq!(wte.width(), x.width(), "token_embedding copies rows of wte to x");
        let launch = |segment: &Segment| {
            let constants = [
                ("WG_SIZE", f64::from(ROW_LANES)),
                ("N_EMBD", x.width() as f64),
                ("FIRST_TOKEN", segment.first_row as f64),
                ("N_TOKENS", segment.rows as f64),
            ];
            let grid = [per_row(1), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(
                shaders::token_embedding,
                "token_embedding",
                &constants,
                &[tokens.into(), segment.into(), x.into()],
                grid,
            )
        };
        wte.segments().iter().map(launch).collect()
    }

    /// `normed[row] = (x[row] - mean) / sqrt(variance + epsilon) * gain + bias`
    ///
    /// `x`, `normed`: (rows, n_embd).
    pub fn layer_norm(&self, x: &Tensor, norm: &LayerNorm, normed: &Tensor) -> Vec<Dispatch> {
        assert_eq!(x.width(), normed.width(), "layer_norm keeps the width");
        let grid = [per_row(1), Axis::Fixed(1), Axis::Fixed(1)];
        let bindings = [x.into(), (&norm.gain).into(), (&norm.bias).into(), normed.into()];
        vec![self.dispatch(shaders::layer_norm, "layer_norm", &self.layer_norm_constants(x), &bindings, grid)]
    }

    /// The same for the rows whose logits are computed, packed together: row `outputs[i]` of `x` becomes row `i`.
    ///
    /// `x`: (rows, n_embd); `outputs`: indices of rows; `normed`: (outputs, n_embd).
    pub fn layer_norm_outputs(&self, x: &Tensor, norm: &LayerNorm, normed: &Tensor, outputs: &Tensor) -> Vec<Dispatch> {
        assert_eq!(x.width(), normed.width(), "layer_norm_outputs keeps the width");
        let grid = [per_output(1), Axis::Fixed(1), Axis::Fixed(1)];
        let bindings = [x.into(), (&norm.gain).into(), (&norm.bias).into(), normed.into(), outputs.into()];
        vec![self.dispatch(shaders::layer_norm, "layer_norm_outputs", &self.layer_norm_constants(x), &bindings, grid)]
    }

    fn layer_norm_constants(&self, x: &Tensor) -> [(&'static str, f64); 3] {
        let epsilon = f64::from(self.config.layer_norm_epsilon);
        [("WG_SIZE", f64::from(self.tuning.norm_lanes)), ("N_EMBD", x.width() as f64), ("EPS", epsilon)]
    }

    /// `tokens[output]` = the index of the largest logit, the first of equals
    ///
    /// `logits`: (outputs, vocab_size); `tokens`: (outputs) flat.
    pub fn argmax(&self, logits: &Tensor, tokens: &Tensor) -> Vec<Dispatch> {
        let constants = [("WG_SIZE", f64::from(ROW_LANES)), ("VOCAB_SIZE", logits.width() as f64)];
        let grid = [per_output(1), Axis::Fixed(1), Axis::Fixed(1)];
        vec![self.dispatch(shaders::argmax, "argmax", &constants, &[logits.into(), tokens.into()], grid)]
    }
}
