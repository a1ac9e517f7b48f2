//! The launchers of the three matmuls: two per block, and the head.

use super::{Kernels, Variant, per_output, per_row, quads, workgroups};
use crate::gpu::{Axis, Binding, Dispatch, Segment, Tensor, padded};
use crate::kernels::shaders::{self, Shader, stitch};
use crate::kv_cache::LayerCache;
use crate::weights::{BlockWidths, Linear, Matrix};

impl Kernels {
    /// From the normed input to the inputs of attention and of the MLP's second matrix:
    ///
    /// ```text
    /// q = rotate(q_proj · normed)   keys[position] = rotate(k_proj · normed)   values[position] = v_proj · normed
    /// hidden = gelu(fc_in · normed + bias)
    /// ```
    ///
    /// `normed`: (rows, n_embd); `step`: the rows; `matrix`: [`Block::block_in`](crate::weights::Block::block_in);
    /// `angles`: [`rotary_angles`](super::rotary_angles); `activations`: (rows, [`BlockWidths::activation_width`]);
    /// `cache`: the block's keys and values.
    pub fn block_in(
        &self,
        normed: &Tensor,
        step: &Tensor,
        matrix: &Linear,
        angles: &Tensor,
        activations: &Tensor,
        cache: LayerCache<'_>,
    ) -> Vec<Dispatch> {
        assert_eq!(matrix.weight.features(), self.config.block_in_features(), "block_in gives q, k, v and hidden");
        let mut constants = self.activation_constants(activations).to_vec();
        constants.push(("ROTARY_DIM", self.config.rotary_dim as f64));
        let rest = [step, &matrix.bias, angles, activations, cache.tensor];
        self.matmul(shaders::block_in, &constants, &matrix.weight, normed, &rest, per_row)
    }

    /// `x[row] += out_proj · attended[row] + fc_out · hidden[row] + bias`
    ///
    /// `activations`: (rows, [`BlockWidths::activation_width`]); `step`: the rows; `matrix`:
    /// [`Block::block_out`](crate::weights::Block::block_out); `x`: (rows, n_embd).
    pub fn block_out(&self, activations: &Tensor, step: &Tensor, matrix: &Linear, x: &Tensor) -> Vec<Dispatch> {
        assert_eq!(matrix.weight.inputs(), self.config.block_out_inputs(), "block_out takes attended and hidden");
        let constants = [("EMBD_QUADS", quads(x))];
        let rest = [step, &matrix.bias, x];
        self.matmul(shaders::block_out, &constants, &matrix.weight, activations, &rest, per_row)
    }

    /// `logits[output] = weight · ln_f[output] + bias`, for lm_head and the heads of other classes
    ///
    /// `ln_f`: (outputs, n_embd); `step`: the number of outputs; `logits`: (outputs,
    /// [`Config::head_features`](gptj_checkpoint::Config::head_features)).
    pub fn lm_head(&self, ln_f: &Tensor, step: &Tensor, matrix: &Linear, logits: &Tensor) -> Vec<Dispatch> {
        assert_eq!(matrix.weight.features(), logits.width(), "lm_head gives a logit for each token or label");
        let constants = [("VOCAB_QUADS", quads(logits))];
        let rest = [step, &matrix.bias, logits];
        self.matmul(shaders::lm_head, &constants, &matrix.weight, ln_f, &rest, per_output)
    }

    /// The launches of one matmul: each binds one or two segments of the matrix and computes their features. `rest` is
    /// bound after the input.
    fn matmul(
        &self,
        shader: Shader,
        constants: &[(&'static str, f64)],
        weight: &Matrix,
        input: &Tensor,
        rest: &[&Tensor],
        rows: impl Fn(u32) -> Axis,
    ) -> Vec<Dispatch> {
        let groups = weight.inputs().div_ceil(8);
        assert!(padded(input.width()) >= 8 * groups, "{} needs input rows of its width", weight.name());
        let tile_rows = self.tuning.tile_rows(self.variant);
        assert!(input.rows().is_multiple_of(tile_rows), "{} has whole tiles of {tile_rows} rows", input.name());
        let launch = |segments: &[Segment]| {
            let (first, second) = (&segments[0], segments.get(1));
            let n_panels = first.rows + second.map_or(0, |segment| segment.rows);
            let mut constants = constants.to_vec();
            constants.extend([
                ("IN_GROUPS", groups as f64),
                ("INPUT_QUADS", quads(input)),
                ("PANELS_0", first.rows as f64),
                ("PANELS_1", second.map_or(0.0, |segment| segment.rows as f64)),
                ("FIRST_PANEL", first.first_row as f64),
            ]);
            constants.extend(self.tuning.matmul_constants(self.variant, groups));
            let mut bindings = vec![first.into(), second.unwrap_or(first).into(), input.into()];
            bindings.extend(rest.iter().map(|&tensor| Binding::from(tensor)));
            let tile_panels = self.tuning.tile_panels(self.variant);
            let grid = [rows(tile_rows as u32), workgroups(n_panels, tile_panels), Axis::Fixed(1)];
            let (matmul, device) = (self.variant.matmul, self.pipelines.gpu().specialisation());
            let text = stitch(shader, Variant { matmul, weights: weight.storage(), device });
            Dispatch::new(&self.pipelines, &text, shader.name, &constants, &bindings, grid)
        };
        weight.segments().chunks(2).map(launch).collect()
    }
}
