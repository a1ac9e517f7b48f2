//! The launchers outside the forward pass: kernels for inspection, for loading and for measuring.

use super::step::per_row;
use super::{Kernels, LANES, ROW_LANES, shaders, workgroups};
use crate::gpu::{Axis, Dispatch, Dtype, Segment, Tensor};
use crate::kv_cache::LayerCache;
use crate::weights::{Matrix, PANEL_FEATURES};

/// The most workgroups of the ceilings and of `fill_random`: enough for any GPU, and each still has work.
const MANY_WORKGROUPS: usize = 4096;

/// A number that the exclusive or of random numbers practically never is.
pub const NEEDLE: u32 = 0x5EED_0BAD;

impl Kernels {
    /// `weights[row, head, position]` = softmax(q · keys / sqrt(head_dim)) over the positions up to the row's own;
    /// later positions are not written
    ///
    /// `step`: the rows; `activations`: (rows,
    /// [`BlockWidths::activation_width`](crate::weights::BlockWidths::activation_width)), reads q; `cache`: the block's
    /// keys and values; `weights`: (rows, n_head, [`KvCache::capacity`](crate::kv_cache::KvCache::capacity)) flat, f32.
    pub fn attention_weights(
        &self,
        step: &Tensor,
        activations: &Tensor,
        cache: LayerCache<'_>,
        weights: &Tensor,
    ) -> Vec<Dispatch> {
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend([("WG_SIZE", f64::from(LANES)), ("SCALE", self.score_scale())]);
        let grid = [Axis::Fixed(self.config.n_head as u32), per_row(1), Axis::Fixed(1)];
        let bindings = [step.into(), activations.into(), cache.tensor.into(), weights.into()];
        vec![self.dispatch(shaders::attention_weights, "attention_weights", &constants, &bindings, grid)]
    }

    /// `matrix += b · a`, from panel `first_panel` on
    ///
    /// `b`: (features of whole panels, rank), f32; `a`: (rank, inputs), f32; `overflow`: one number, which becomes 1
    /// if f16 cannot hold a sum.
    pub fn merge_lora(
        &self,
        b: &Tensor,
        a: &Tensor,
        first_panel: usize,
        matrix: &Matrix,
        overflow: &Tensor,
    ) -> Vec<Dispatch> {
        assert_eq!(a.width(), matrix.inputs(), "merge_lora adds to all inputs of {}", matrix.name());
        assert_eq!(b.width(), a.rows(), "a and b have one rank");
        let end = first_panel + b.rows() / PANEL_FEATURES;
        let is_whole = b.rows().is_multiple_of(PANEL_FEATURES) && end <= matrix.panels().rows();
        assert!(is_whole, "merge_lora adds to whole panels of {}", matrix.name());
        let groups = matrix.inputs().div_ceil(8);
        let launch = |segment: &Segment| {
            let [first, last] = [segment.first_row.max(first_panel), end.min(segment.first_row + segment.rows)];
            let n_panels = last.checked_sub(first).filter(|&count| count > 0)? as u32;
            let constants = [
                ("IN_GROUPS", groups as f64),
                ("RANK", a.rows() as f64),
                ("PANEL", (first - segment.first_row) as f64),
                ("B_PANEL", (first - first_panel) as f64),
            ];
            // Enough for any GPU, and each has work.
            let per_panel = groups.div_ceil(2).min(64) as u32;
            let grid = [Axis::Fixed(n_panels), Axis::Fixed(per_panel), Axis::Fixed(1)];
            let bindings = [b.into(), a.into(), segment.into(), overflow.into()];
            Some(self.dispatch(shaders::merge_lora, "merge_lora", &constants, &bindings, grid))
        };
        matrix.segments().iter().filter_map(launch).collect()
    }

    /// `values[row, i]` = a pseudo-random multiple of `scale` / 1024 between `-scale` and `scale`, which depends on the
    /// seed, the row and `i` alone
    ///
    /// `seed`: one number; `values`: any rows, f16. If `scale` is a power of two, f16 holds every value exactly.
    pub fn fill_random(&self, seed: &Tensor, scale: f32, values: &Tensor) -> Vec<Dispatch> {
        assert_eq!(values.format(), Dtype::F16, "fill_random fills f16");
        let launch = |segment: &Segment| {
            let constants = [
                ("WG_SIZE", f64::from(LANES)),
                ("WIDTH", values.width() as f64),
                ("N_ROWS", segment.rows as f64),
                ("FIRST_ROW", segment.first_row as f64),
                ("SCALE", f64::from(scale)),
            ];
            let grid = [Axis::Fixed(segment.rows.min(MANY_WORKGROUPS) as u32), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(shaders::fill_random, "fill_random", &constants, &[seed.into(), segment.into()], grid)
        };
        values.segments().iter().map(launch).collect()
    }

    /// Reads all of `data` as fast as it can; `found[0]` becomes 1 if the exclusive or of a lane's 16-byte loads is
    /// [`NEEDLE`] four times.
    ///
    /// `data`: any rows; `found`: one number.
    pub fn read_ceiling(&self, data: &Tensor, found: &Tensor) -> Vec<Dispatch> {
        let launch = |segment: &Segment| {
            let n_loads = segment.rows * data.row_bytes() / 16;
            let constants =
                [("WG_SIZE", f64::from(ROW_LANES)), ("N_LOADS", n_loads as f64), ("NEEDLE", f64::from(NEEDLE))];
            let n_workgroups = n_loads.div_ceil(ROW_LANES as usize).min(MANY_WORKGROUPS);
            let grid = [Axis::Fixed(n_workgroups as u32), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(shaders::read_ceiling, "read_ceiling", &constants, &[segment.into(), found.into()], grid)
        };
        data.segments().iter().map(launch).collect()
    }

    /// `sums[lane]` = the sum of two chains of `rounds` * [`FMA_STEPS`] steps `s = s * factor + term`, four wide, which
    /// begin at plus and at minus (`lane` % 64) / 64 + (0, 1, 2, 3)
    ///
    /// `chain`: factor and term, f32; `sums`: (lanes, 4) flat, f32, for whole workgroups of 64 lanes.
    pub fn fma_ceiling(&self, rounds: u32, chain: &Tensor, sums: &Tensor) -> Vec<Dispatch> {
        let n_lanes = sums.width() / 4;
        assert!(n_lanes.is_multiple_of(LANES as usize), "fma_ceiling runs whole workgroups");
        let constants = [("WG_SIZE", f64::from(LANES)), ("ROUNDS", f64::from(rounds))];
        let grid = [workgroups(n_lanes, LANES as usize), Axis::Fixed(1), Axis::Fixed(1)];
        vec![self.dispatch(shaders::fma_ceiling, "fma_ceiling", &constants, &[chain.into(), sums.into()], grid)]
    }
}

/// Steps of a round of `fma_ceiling`.
pub const FMA_STEPS: u32 = 64;
