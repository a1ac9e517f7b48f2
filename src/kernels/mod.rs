//! The kernels: a table of all, their variants, and one launcher each.
//!
//! A launcher documents its kernel's equation and shapes, and alone knows the kernel's constants, bindings and grid. It
//! launches nothing: it returns dispatches, which a [`Plan`](crate::gpu::Plan) replays at every step. Kernels work on
//! rows; `rows` in a shape is the number of rows of a step, up to the tensor's own number. Shapes that do not fit are a
//! mistake of the caller and panic.
//!
//! Numbers that change from step to step, or with the size of the cache, are data in a buffer; those that follow from
//! the model and the GPU are constants of the pipeline.

mod attention;
mod matmul;
pub mod reference;
mod rotary;
mod rows;
pub mod self_test;
mod shaders;
mod step;
mod tools;
mod tuned;
mod variant;

use gptj_checkpoint::Config;

pub use rotary::rotary_angles;
pub use self_test::MatrixUnits;
pub use shaders::{SHADERS, SHARED_FILES, Shader, Variant, stitch};
pub use step::{Row, StepHeader, StepSize};
pub use tools::{FMA_STEPS, NEEDLE};
pub use variant::{GemvConfig, KernelVariant, Matmul, SPLIT_ROWS, TILE_ROWS, Tuning, attention_lanes, most_splits};

use crate::gpu::{Axis, Binding, Dispatch, Gpu, Pipelines, Subgroups, Tensor, padded};
use crate::weights::{BlockWidths, Storage};
use step::{per_output, per_position, per_row};

/// Lanes of a workgroup in kernels that run one workgroup per row or output.
const ROW_LANES: u32 = 256;

/// Lanes of a workgroup in kernels that run many workgroups at once.
const LANES: u32 = 64;

/// The launchers, for one model on one GPU.
#[derive(Clone)]
pub struct Kernels {
    pipelines: Pipelines,
    config: Config,
    tuning: Tuning,
    variant: KernelVariant,
}

impl Kernels {
    /// The launchers for a model of this configuration, tuned for its GPU, for steps of one row.
    pub fn new(gpu: &Gpu, config: &Config, mut tuning: Tuning) -> Self {
        if gpu.specialisation().subgroups == Subgroups::Of8 {
            // As `shaders/shared/inputs_broadcast.wgsl` requires.
            tuning.gemv.lanes = 8;
        }
        let variant = tuning.variant(1);
        Self { pipelines: Pipelines::new(gpu), config: config.clone(), tuning, variant }
    }

    /// The same launchers for steps of another variant; compiled kernels are shared.
    #[must_use]
    pub fn with_variant(&self, variant: KernelVariant) -> Self {
        Self { variant, ..self.clone() }
    }

    /// The pipelines made so far.
    pub fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// The tuning of the kernels.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// A dispatch of a kernel other than a matmul.
    fn dispatch(
        &self,
        shader: Shader,
        entry_point: &'static str,
        constants: &[(&str, f64)],
        bindings: &[Binding<'_>],
        grid: [Axis; 3],
    ) -> Dispatch {
        let device = self.pipelines.gpu().specialisation();
        let variant = Variant { matmul: Matmul::Gemv, weights: Storage::F16, device };
        Dispatch::new(&self.pipelines, &stitch(shader, variant), entry_point, constants, bindings, grid)
    }

    fn head_constants(&self) -> [(&'static str, f64); 2] {
        [("N_HEAD", self.config.n_head as f64), ("HEAD_DIM", self.config.head_dim() as f64)]
    }

    fn activation_constants(&self, activations: &Tensor) -> [(&'static str, f64); 3] {
        assert_eq!(activations.width(), self.config.activation_width(), "attended, hidden and q");
        let [n_head, head_dim] = self.head_constants();
        [n_head, head_dim, ("INNER_QUADS", (padded(self.config.n_inner) / 4) as f64)]
    }

    fn score_scale(&self) -> f64 {
        1.0 / (self.config.head_dim() as f64).sqrt()
    }
}

/// The vec4s of a tensor's row.
fn quads(tensor: &Tensor) -> f64 {
    (padded(tensor.width()) / 4) as f64
}

fn workgroups(size: usize, each: usize) -> Axis {
    Axis::Fixed(size.div_ceil(each) as u32)
}
