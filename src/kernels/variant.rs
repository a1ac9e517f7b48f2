//! The versions of the kernels for a number of rows, and the sizes of their workgroups.
//!
//! A matmul with few rows is bound by how fast the weights stream in, one with many by arithmetic; each has kernels of
//! its own. The numbers that depend on the GPU are together in [`Tuning`].

use gptj_checkpoint::Config;
use serde::{Deserialize, Serialize};

use crate::gpu::AdapterInfo;
use crate::weights::BlockWidths;

/// The ways to multiply a matrix by rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matmul {
    /// For few rows, which are bound by how fast the weights stream in.
    Gemv,
    /// For many rows, which are bound by arithmetic.
    Tiled,
    /// For many rows, on matrix units that multiply 16 x 16 numbers at once.
    CoopMat16,
    /// The same for units that multiply 8 x 8 numbers.
    CoopMat8,
}

impl Matmul {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gemv, Self::Tiled, Self::CoopMat16, Self::CoopMat8];

    /// The one for matrix units of this size.
    pub fn on_matrix_units(side: u32) -> Self {
        if side == 16 { Self::CoopMat16 } else { Self::CoopMat8 }
    }

    /// Whether it runs on matrix units.
    pub fn is_coopmat(self) -> bool {
        matches!(self, Self::CoopMat16 | Self::CoopMat8)
    }

    /// `gemv`, `tiled`, `coopmat16` or `coopmat8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemv => "gemv",
            Self::Tiled => "tiled",
            Self::CoopMat16 => "coopmat16",
            Self::CoopMat8 => "coopmat8",
        }
    }
}

/// The kernels that a plan is recorded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelVariant {
    /// How rows are multiplied by the weights.
    pub matmul: Matmul,
    /// Rows of a pass of [`Matmul::Gemv`].
    pub rows: usize,
    /// Whether attention takes rows in tiles, instead of one by one with the history split.
    pub flash: bool,
}

/// Steps of up to this many rows take attention row by row; also the most rows whose logits are computed at once.
pub const SPLIT_ROWS: usize = 32;

/// Rows that every tile divides.
pub const TILE_ROWS: usize = 128;

/// The numbers that depend on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// The shape of [`Matmul::Gemv`].
    pub gemv: GemvConfig,
    /// The matmul for more rows than [`GemvConfig::limit`].
    pub many: Matmul,
    /// Lanes of a workgroup of the cooperative-matrix matmuls: four of the largest subgroups.
    pub coopmat_lanes: u32,
    /// Lanes of a workgroup of the layer norm: a power of two.
    pub norm_lanes: u32,
    /// Positions of a split that a lane of attention takes.
    pub lane_positions: usize,
}

/// The shape of [`Matmul::Gemv`]; `gptj bench kernels --tune` finds the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GemvConfig {
    /// Lanes of a workgroup: a power of two from 8 to 256. Each eight of them take a slice of the inputs.
    pub lanes: u32,
    /// The most rows of a pass, as many as a lane's registers can sum for four features: 1, 2, 4 or 8.
    pub rows: usize,
    /// Groups of inputs that a lane has in flight from memory: 1, 2 or 4.
    pub depth: usize,
    /// Steps of up to this many rows are multiplied by it.
    pub limit: usize,
}

impl GemvConfig {
    /// Lanes that a workgroup can have.
    pub const LANES: [u32; 6] = [8, 16, 32, 64, 128, 256];
    /// Rows that a pass can have.
    pub const ROWS: [usize; 4] = [1, 2, 4, 8];
    /// Groups of inputs that can be in flight.
    pub const DEPTHS: [usize; 3] = [1, 2, 4];

    /// Whether there are kernels of this shape.
    pub fn is_possible(&self) -> bool {
        Self::LANES.contains(&self.lanes) && Self::ROWS.contains(&self.rows) && Self::DEPTHS.contains(&self.depth)
    }
}

impl Tuning {
    /// Good values for most adapters of this kind. Cooperative matrices are not used until they have been tested.
    pub fn for_adapter(adapter: &AdapterInfo) -> Self {
        let coopmat_lanes = 4 * adapter.subgroups.map_or(32, |(_, largest)| largest);
        // On a CPU, sharing and waiting between lanes cost more than computing: workgroups of one subgroup, which share
        // nothing, are the fastest for any number of rows.
        let (gemv, norm_lanes, lane_positions) = if adapter.is_software() {
            (GemvConfig { lanes: 8, rows: 8, depth: 1, limit: usize::MAX }, 32, 8)
        } else {
            (GemvConfig { lanes: 256, rows: 8, depth: 2, limit: SPLIT_ROWS }, 256, 1)
        };
        Self { gemv, many: Matmul::Tiled, coopmat_lanes, norm_lanes, lane_positions }
    }

    /// The variant for steps of `n_rows` rows.
    pub fn variant(&self, n_rows: usize) -> KernelVariant {
        let matmul = if n_rows <= self.gemv.limit { Matmul::Gemv } else { self.many };
        let rows = if matmul == Matmul::Gemv { n_rows.next_power_of_two().min(self.gemv.rows) } else { 1 };
        KernelVariant { matmul, rows, flash: n_rows > SPLIT_ROWS }
    }

    /// The variant for the logits of `n_outputs` rows.
    pub fn head_variant(&self, n_outputs: usize) -> KernelVariant {
        let rows = n_outputs.next_power_of_two().min(self.gemv.rows);
        KernelVariant { matmul: Matmul::Gemv, rows, flash: false }
    }

    /// Rows that a workgroup of a matmul takes.
    pub fn tile_rows(&self, variant: KernelVariant) -> usize {
        match variant.matmul {
            Matmul::Gemv => variant.rows,
            Matmul::Tiled | Matmul::CoopMat8 => 64,
            Matmul::CoopMat16 => 128,
        }
    }

    /// Panels of features that a workgroup of a matmul takes.
    pub fn tile_panels(&self, variant: KernelVariant) -> usize {
        match variant.matmul {
            Matmul::Gemv => 1,
            Matmul::CoopMat8 => 2,
            Matmul::Tiled | Matmul::CoopMat16 => 4,
        }
    }

    /// The constants of a matmul over `groups` groups of eight inputs.
    pub(crate) fn matmul_constants(&self, variant: KernelVariant, groups: usize) -> Vec<(&'static str, f64)> {
        match variant.matmul {
            Matmul::Gemv => {
                let slices = self.gemv.lanes as usize / 8;
                let fits = |depth: &usize| groups.is_multiple_of(slices * depth);
                let depths = std::iter::successors(Some(self.gemv.depth), |depth| Some(depth / 2));
                // With many rows a lane has enough to do while it waits, and no registers to spare.
                let depths = depths.take_while(|&depth| depth > 1).filter(|depth| variant.rows * depth <= 4);
                let depth = depths.into_iter().find(fits).unwrap_or(1);
                vec![("WG_SIZE", f64::from(self.gemv.lanes)), ("ROWS", variant.rows as f64), ("DEPTH", depth as f64)]
            }
            Matmul::Tiled => Vec::new(),
            Matmul::CoopMat16 | Matmul::CoopMat8 => {
                vec![("WG_SIZE", f64::from(self.coopmat_lanes))]
            }
        }
    }
}

/// Lanes of a workgroup of attention: at least one for each octet of a head.
pub fn attention_lanes(config: &Config) -> usize {
    (config.head_width() / 8).next_power_of_two().max(64)
}

/// The most splits of attention that a history of `n_positions` positions has on any GPU.
pub fn most_splits(config: &Config, n_positions: usize) -> usize {
    n_positions.div_ceil(attention_lanes(config))
}
