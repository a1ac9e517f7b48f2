//! The storage of a matrix's weights. A file `shaders/shared/weights_*.wgsl` is the kernels' side of each format.

use half::f16;

use crate::gpu::{Dtype, padded};

/// Features of a panel; every `weights_*.wgsl` has the same number.
pub const PANEL_FEATURES: usize = 32;

/// Elements of an octet: 16 bytes of f16, which a lane loads at once.
pub(super) const OCTET: usize = 8;

/// The storage format of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// f16: within a panel of 32 features, the features' octets of inputs are interleaved.
    F16,
}

impl Storage {
    /// Every format.
    pub const ALL: [Self; 1] = [Self::F16];

    /// The number of elements in a panel of `inputs` inputs, and their type.
    pub(super) fn panel(self, inputs: usize) -> (usize, Dtype) {
        match self {
            Self::F16 => (PANEL_FEATURES * padded(inputs), Dtype::F16),
        }
    }

    /// The bytes of a panel: of its rows, each padded to whole octets.
    pub(super) fn encode_panel(self, rows: &[f16], panel: &mut Vec<u8>) {
        panel.clear();
        match self {
            Self::F16 => interleave(rows, panel),
        }
    }
}

fn interleave(rows: &[f16], panel: &mut Vec<u8>) {
    let width = rows.len() / PANEL_FEATURES;
    for group in (0..width).step_by(OCTET) {
        for index in 0..PANEL_FEATURES {
            // Octet 8 * j + i is that of feature 4 * i + j.
            let feature = index % 8 * 4 + index / 8;
            panel.extend_from_slice(bytemuck::cast_slice(&rows[feature * width + group..][..OCTET]));
        }
    }
}
