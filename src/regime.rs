//! How the work of a step is cut: which versions of the kernels take so many rows, and how large their workgroups are.
//!
//! A product with few rows is bound by how fast the weights stream in, one with many by arithmetic, and different
//! kernels are good at them. Numbers that are best on one GPU and not on another are together here as [`Geometry`].

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::gpu::{AdapterInfo, Product};

/// For what kind of step a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regime {
    /// How rows are multiplied with the weights.
    pub product: Product,
    /// Rows of a pass of [`Product::Vector`].
    pub rows: usize,
    /// Whether attention takes rows in tiles, and not each by itself with its history split.
    pub flash: bool,
}

/// Steps of up to this many rows take attention row by row, and so many rows can have their logits computed at once.
pub const SPLIT_ROWS: usize = 32;

/// Rows that every tile divides.
pub const TILE_ROWS: usize = 128;

/// What is best on one GPU and not on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The shape of [`Product::Vector`].
    pub vector: VectorShape,
    /// What multiplies more rows than that takes.
    pub many: Product,
    /// Lanes of a workgroup of the cooperative products: four of the largest subgroups.
    pub cooperative_lanes: u32,
    /// Lanes of a workgroup of the layer norm: a power of two.
    pub norm_lanes: u32,
    /// Positions that a lane of attention takes of a split.
    pub lane_positions: usize,
}

/// The shape of [`Product::Vector`], which `gptj bench kernels --tune` finds by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorShape {
    /// Lanes of a workgroup: a power of two from 8 to 256. Each eight of them take a slice of the inputs.
    pub lanes: u32,
    /// Rows of a pass at most, as many as a lane's registers can sum for four features: 1, 2, 4 or 8.
    pub rows: usize,
    /// Groups of inputs that a lane has on their way from memory at once: 1, 2 or 4.
    pub depth: usize,
    /// Steps of up to this many rows are multiplied by it.
    pub limit: usize,
}

impl VectorShape {
    /// Lanes that a workgroup can have.
    pub const LANES: [u32; 6] = [8, 16, 32, 64, 128, 256];
    /// Rows that a pass can have.
    pub const ROWS: [usize; 4] = [1, 2, 4, 8];
    /// Groups of inputs that can be on their way at once.
    pub const DEPTHS: [usize; 3] = [1, 2, 4];

    /// Whether there are kernels of this shape.
    pub fn is_possible(&self) -> bool {
        Self::LANES.contains(&self.lanes) && Self::ROWS.contains(&self.rows) && Self::DEPTHS.contains(&self.depth)
    }
}

impl Geometry {
    /// What is good on most adapters of this kind. Cooperative matrices are not used until they have been tested.
    pub fn for_adapter(adapter: &AdapterInfo) -> Self {
        let cooperative_lanes = 4 * adapter.subgroups.map_or(32, |(_, largest)| largest);
        // What lanes share and wait for costs a processor more than computing: workgroups of one subgroup, which share
        // nothing, are the fastest for any number of rows.
        let (vector, norm_lanes, lane_positions) = if adapter.is_software() {
            (VectorShape { lanes: 8, rows: 8, depth: 1, limit: usize::MAX }, 32, 8)
        } else {
            (VectorShape { lanes: 256, rows: 8, depth: 2, limit: SPLIT_ROWS }, 256, 1)
        };
        Self { vector, many: Product::Tile, cooperative_lanes, norm_lanes, lane_positions }
    }

    /// The regime for steps of so many rows.
    pub fn regime(&self, n_rows: usize) -> Regime {
        let product = if n_rows <= self.vector.limit { Product::Vector } else { self.many };
        let rows = if product == Product::Vector { n_rows.next_power_of_two().min(self.vector.rows) } else { 1 };
        Regime { product, rows, flash: n_rows > SPLIT_ROWS }
    }

    /// The regime for the logits of so many rows.
    pub fn head_regime(&self, n_outputs: usize) -> Regime {
        let rows = n_outputs.next_power_of_two().min(self.vector.rows);
        Regime { product: Product::Vector, rows, flash: false }
    }

    /// Rows that a workgroup of a product takes.
    pub fn tile_rows(&self, regime: Regime) -> usize {
        match regime.product {
            Product::Vector => regime.rows,
            Product::Tile | Product::Cooperative8 => 64,
            Product::Cooperative16 => 128,
        }
    }

    /// Panels of features that a workgroup of a product takes.
    pub fn tile_panels(&self, regime: Regime) -> usize {
        match regime.product {
            Product::Vector => 1,
            Product::Cooperative8 => 2,
            Product::Tile | Product::Cooperative16 => 4,
        }
    }

    /// The constants of a product over so many groups of eight inputs.
    pub(crate) fn product_constants(&self, regime: Regime, groups: usize) -> Vec<(&'static str, f64)> {
        match regime.product {
            Product::Vector => {
                let slices = self.vector.lanes as usize / 8;
                let fits = |depth: &usize| groups.is_multiple_of(slices * depth);
                let depths = std::iter::successors(Some(self.vector.depth), |depth| Some(depth / 2));
                // With many rows a lane has enough to do while it waits, and no registers to spare.
                let depths = depths.take_while(|&depth| depth > 1).filter(|depth| regime.rows * depth <= 4);
                let depth = depths.into_iter().find(fits).unwrap_or(1);
                vec![("WG_SIZE", f64::from(self.vector.lanes)), ("ROWS", regime.rows as f64), ("DEPTH", depth as f64)]
            }
            Product::Tile => Vec::new(),
            Product::Cooperative16 | Product::Cooperative8 => {
                vec![("WG_SIZE", f64::from(self.cooperative_lanes))]
            }
        }
    }
}

/// Lanes of a workgroup of attention: one for each chunk of a head at least.
pub fn attention_lanes(config: &Config) -> usize {
    (config.head_width() / 8).next_power_of_two().max(64)
}

/// Splits of attention that a history of so many positions has at most, whatever the GPU.
pub fn most_splits(config: &Config, n_positions: usize) -> usize {
    n_positions.div_ceil(attention_lanes(config))
}
