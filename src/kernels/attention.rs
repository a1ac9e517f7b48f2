//! The launchers of attention: with each row's history split among workgroups, or with rows in tiles.

use super::{Kernels, LANES, per_position, per_row};
use crate::gpu::{Axis, Dispatch, Tensor};
use crate::kernels::attention_lanes;
use crate::kernels::shaders;
use crate::kv_cache::LayerCache;
use crate::weights::BlockWidths;

impl Kernels {
    /// Attention of every row over its history, from `q` to `attended`, both in `activations`: by the variant,
    /// [`Kernels::attention`] and [`Kernels::merge_attention`] or [`Kernels::flash_attention`].
    ///
    /// Shapes: as in [`Kernels::attention`].
    pub fn attend(
        &self,
        step: &Tensor,
        activations: &Tensor,
        cache: LayerCache<'_>,
        partial_out: &Tensor,
        partial_max_sum: &Tensor,
    ) -> Vec<Dispatch> {
        if self.variant.flash {
            return self.flash_attention(step, activations, cache);
        }
        let mut launches = self.attention(step, activations, cache, partial_out, partial_max_sum);
        launches.extend(self.merge_attention(step, partial_out, partial_max_sum, activations));
        launches
    }

    /// For each row, head and split of the row's history: softmax(q · keys / sqrt(head_dim)) · values, not yet
    /// divided by the softmax's sum
    ///
    /// `step`: the rows; `activations`: (rows, [`BlockWidths::activation_width`]), reads q; `cache`: the block's keys
    /// and values; `partial_out`: (rows, n_head, n_splits, [`BlockWidths::head_width`]) flat, with n_splits up to
    /// [`most_splits`](super::most_splits); `partial_max_sum`: (rows, n_head, n_splits) maxima and sums, flat.
    pub fn attention(
        &self,
        step: &Tensor,
        activations: &Tensor,
        cache: LayerCache<'_>,
        partial_out: &Tensor,
        partial_max_sum: &Tensor,
    ) -> Vec<Dispatch> {
        let (lanes, split) = (attention_lanes(&self.config), self.split());
        let shares = lanes / (self.config.head_width() / 8);
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend([
            ("WG_SIZE", lanes as f64),
            ("SPLIT", split as f64),
            ("N_SHARES", f64::from(1u32 << shares.ilog2())),
            ("SCALE", self.score_scale()),
        ]);
        let grid = [Axis::Fixed(self.config.n_head as u32), per_row(1), per_position(split as u32)];
        let bindings =
            [step.into(), activations.into(), cache.tensor.into(), partial_out.into(), partial_max_sum.into()];
        vec![self.dispatch(shaders::attention, "attention", &constants, &bindings, grid)]
    }

    /// `attended[row, head]` = the splits of [`Kernels::attention`] combined, divided by the softmax's sum
    ///
    /// Shapes: as there; of `activations` it writes `attended`.
    pub fn merge_attention(
        &self,
        step: &Tensor,
        partial_out: &Tensor,
        partial_max_sum: &Tensor,
        activations: &Tensor,
    ) -> Vec<Dispatch> {
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend([("WG_SIZE", f64::from(LANES)), ("SPLIT", self.split() as f64)]);
        let grid = [Axis::Fixed(self.config.n_head as u32), per_row(1), Axis::Fixed(1)];
        let bindings = [step.into(), partial_out.into(), partial_max_sum.into(), activations.into()];
        vec![self.dispatch(shaders::merge_attention, "merge_attention", &constants, &bindings, grid)]
    }

    /// For each row and head: softmax(q · keys / sqrt(head_dim)) · values, for many rows
    ///
    /// `step`: the rows; `activations`: (rows, [`BlockWidths::activation_width`]), reads q and writes `attended`;
    /// `cache`: the block's keys and values.
    pub fn flash_attention(&self, step: &Tensor, activations: &Tensor, cache: LayerCache<'_>) -> Vec<Dispatch> {
        let mut constants = self.activation_constants(activations).to_vec();
        // A workgroup has at most 256 lanes; tiles are powers of two, so that they divide the rows of every buffer.
        let most_lane_rows: usize = 256 / (self.config.head_width() / 8);
        let lane_rows = 1 << most_lane_rows.clamp(1, 8).ilog2();
        constants.extend([("LANE_ROWS", f64::from(lane_rows)), ("SCALE", self.score_scale())]);
        let tile_rows: u32 = 4 * lane_rows;
        assert!(activations.rows().is_multiple_of(tile_rows as usize), "{} has whole tiles", activations.name());
        let grid = [Axis::Fixed(self.config.n_head as u32), per_row(tile_rows), Axis::Fixed(1)];
        let bindings = [step.into(), cache.tensor.into(), activations.into()];
        vec![self.dispatch(shaders::flash_attention, "flash_attention", &constants, &bindings, grid)]
    }

    /// Positions of a split of attention.
    pub fn split(&self) -> usize {
        attention_lanes(&self.config) * self.tuning.lane_positions
    }
}
