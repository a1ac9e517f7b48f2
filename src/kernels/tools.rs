//! The launchers of what is not in the forward pass: kernels for looking into it, for loading and for measuring.

use super::{
    Kernels, LANES, ROW_LANES, attention_weights, cache_constants, fill_random, fma_ceiling, merge_lora, read_ceiling,
    workgroups,
};
use crate::cache::Cache;
use crate::gpu::{Axis, Dispatch, Format, Part, Tensor};
use crate::weights::{Matrix, PANEL_FEATURES};

/// Workgroups of the ceilings and of `fill_random` at most: enough for any GPU, and each has something to do.
const MANY_WORKGROUPS: usize = 4096;

/// What no exclusive or of random numbers is, all but surely.
pub const NEEDLE: u32 = 0x5EED_0BAD;

impl Kernels {
    /// `weights[row, head, position]` = softmax(q · keys / sqrt(head_dim)) over the positions up to the row's own; what
    /// is beyond is not written
    ///
    /// `step`: the rows; `activations`: (rows, [`Config::activation_width`](crate::Config::activation_width)), of which
    /// it reads q; `cache`: as in [`Cache::layer`]; `weights`: (rows, n_head, [`Cache::room`]) flat, f32.
    pub fn attention_weights(
        &self,
        step: &Tensor,
        activations: &Tensor,
        cache: (&Cache, &Tensor),
        weights: &Tensor,
    ) -> Vec<Dispatch> {
        let mut constants = self.activation_constants(activations).to_vec();
        constants.extend(cache_constants(cache.0));
        constants.extend([("WG_SIZE", f64::from(LANES)), ("SCALE", self.score_scale())]);
        let grid = [Axis::Fixed(self.config.n_head as u32), Axis::Rows(1), Axis::Fixed(1)];
        let bindings = [step.into(), activations.into(), cache.1.into(), weights.into()];
        vec![self.dispatch(attention_weights, "attention_weights", &constants, &bindings, grid)]
    }

    /// `matrix += b · a`, from panel `first_panel` on
    ///
    /// `b`: (features of whole panels, rank), f32; `a`: (rank, inputs), f32; `overflow`: one number, which becomes 1
    /// where f16 cannot hold a sum.
    pub fn merge_lora(
        &self,
        [b, a]: [&Tensor; 2],
        first_panel: usize,
        matrix: &Matrix,
        overflow: &Tensor,
    ) -> Vec<Dispatch> {
        assert_eq!(a.width(), matrix.inputs(), "merge_lora adds to all inputs of {}", matrix.name());
        assert_eq!(b.width(), a.rows(), "the product has one rank");
        let end = first_panel + b.rows() / PANEL_FEATURES;
        let is_whole = b.rows().is_multiple_of(PANEL_FEATURES) && end <= matrix.panels().rows();
        assert!(is_whole, "merge_lora adds to whole panels of {}", matrix.name());
        let groups = matrix.inputs().div_ceil(8);
        let launch = |part: &Part| {
            let [first, last] = [part.first_row.max(first_panel), end.min(part.first_row + part.rows)];
            let n_panels = last.checked_sub(first).filter(|&count| count > 0)? as u32;
            let constants = [
                ("IN_GROUPS", groups as f64),
                ("RANK", a.rows() as f64),
                ("PANEL", (first - part.first_row) as f64),
                ("B_PANEL", (first - first_panel) as f64),
            ];
            // Enough for any GPU, and each has something to do.
            let of_panel = groups.div_ceil(2).min(64) as u32;
            let grid = [Axis::Fixed(n_panels), Axis::Fixed(of_panel), Axis::Fixed(1)];
            let bindings = [b.into(), a.into(), part.into(), overflow.into()];
            Some(self.dispatch(merge_lora, "merge_lora", &constants, &bindings, grid))
        };
        matrix.parts().iter().filter_map(launch).collect()
    }

    /// `values[row, i]` = a pseudo-random multiple of `scale` / 1024 between `-scale` and `scale`, which depends on
    /// nothing but the seed, the row and `i`
    ///
    /// `seed`: one number; `values`: any rows, f16. A `scale` that is a power of two gives values that f16 holds
    /// exactly.
    pub fn fill_random(&self, seed: &Tensor, scale: f32, values: &Tensor) -> Vec<Dispatch> {
        assert_eq!(values.format(), Format::F16, "fill_random fills f16");
        let launch = |part: &Part| {
            let constants = [
                ("WG_SIZE", f64::from(LANES)),
                ("WIDTH", values.width() as f64),
                ("N_ROWS", part.rows as f64),
                ("FIRST_ROW", part.first_row as f64),
                ("SCALE", f64::from(scale)),
            ];
            let grid = [Axis::Fixed(part.rows.min(MANY_WORKGROUPS) as u32), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(fill_random, "fill_random", &constants, &[seed.into(), part.into()], grid)
        };
        values.parts().iter().map(launch).collect()
    }

    /// Reads all of `data` as fast as it can; `found[0]` becomes 1 where the exclusive or of some lane's 16-byte loads
    /// is [`NEEDLE`] four times.
    ///
    /// `data`: any rows; `found`: one number.
    pub fn read_ceiling(&self, data: &Tensor, found: &Tensor) -> Vec<Dispatch> {
        let launch = |part: &Part| {
            let n_loads = part.rows * data.row_bytes() / 16;
            let constants =
                [("WG_SIZE", f64::from(ROW_LANES)), ("N_LOADS", n_loads as f64), ("NEEDLE", f64::from(NEEDLE))];
            let n_workgroups = n_loads.div_ceil(ROW_LANES as usize).min(MANY_WORKGROUPS);
            let grid = [Axis::Fixed(n_workgroups as u32), Axis::Fixed(1), Axis::Fixed(1)];
            self.dispatch(read_ceiling, "read_ceiling", &constants, &[part.into(), found.into()], grid)
        };
        data.parts().iter().map(launch).collect()
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
        vec![self.dispatch(fma_ceiling, "fma_ceiling", &constants, &[chain.into(), sums.into()], grid)]
    }
}

/// Steps of a round of `fma_ceiling`.
pub const FMA_STEPS: u32 = 64;
