//! A step as kernels see it: its rows, and the sizes that scale its grids.

use crate::gpu::{Axis, Sizes};

/// One token's work in a step; `shaders/shared/step.wgsl` has the same struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Row {
    /// The sequence it belongs to.
    pub slot: u32,
    /// Its position in the sequence, from 0.
    pub position: u32,
}

/// The beginning of a step's buffer, before its rows; `shaders/shared/step.wgsl` has the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct StepHeader {
    /// Rows of the step.
    pub n_rows: u32,
    /// Rows whose logits are computed.
    pub n_outputs: u32,
    /// Positions of a slot of the cache ([`KvCache::capacity`](crate::kv_cache::KvCache::capacity)).
    pub n_positions: u32,
}

/// The sizes of a step that scale grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSize {
    /// Rows of the step.
    pub rows: u32,
    /// Rows whose logits are computed.
    pub outputs: u32,
    /// Positions in the longest history of a row, the row itself included.
    pub positions: u32,
}

impl StepSize {
    /// For plans whose grids depend on no step.
    pub const NONE: Self = Self { rows: 0, outputs: 0, positions: 0 };
}

impl From<StepSize> for Sizes {
    fn from(StepSize { rows, outputs, positions }: StepSize) -> Self {
        [rows, outputs, positions]
    }
}

/// A workgroup for every `each` rows.
pub(super) fn per_row(each: u32) -> Axis {
    Axis::Scaled { size: 0, each }
}

/// A workgroup for every `each` rows whose logits are computed.
pub(super) fn per_output(each: u32) -> Axis {
    Axis::Scaled { size: 1, each }
}

/// A workgroup for every `each` positions of the longest history.
pub(super) fn per_position(each: u32) -> Axis {
    Axis::Scaled { size: 2, each }
}
