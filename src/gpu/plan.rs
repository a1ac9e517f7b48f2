//! Work that is recorded once and replayed at every step.
//!
//! A dispatch holds its pipeline, its bind group and its grid. From step to step only a few sizes change, which scale
//! the grids, so a replay creates nothing.

use super::pipelines::Pipelines;
use super::tensor::Tensor;

/// The sizes that scale the grids of a plan when it runs. Their meaning is up to the recorder of the plan.
pub type Sizes = [u32; 3];

/// Workgroups along one axis of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Always this many.
    Fixed(u32),
    /// A size divided by `each`, rounded up.
    Scaled {
        /// Its index among the [`Sizes`].
        size: usize,
        /// How much of it a workgroup takes.
        each: u32,
    },
}

impl Axis {
    fn workgroups(self, sizes: Sizes) -> u32 {
        match self {
            Self::Fixed(workgroups) => workgroups,
            Self::Scaled { size, each } => sizes[size].div_ceil(each),
        }
    }
}

/// One launch of one kernel, ready to be replayed.
pub struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [Axis; 3],
}

/// A buffer for a binding: a tensor in one piece, or one segment of a tensor.
#[derive(Clone, Copy)]
pub struct Binding<'a>(&'a wgpu::Buffer);

impl<'a> From<&'a Tensor> for Binding<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self(tensor.buffer())
    }
}

impl<'a> From<&'a super::tensor::Segment> for Binding<'a> {
    fn from(segment: &'a super::tensor::Segment) -> Self {
        Self(&segment.buffer)
    }
}

impl Dispatch {
    /// Prepares an entry point of a WGSL text with its override constants, its buffers in the order of their binding
    /// numbers, and its grid.
    pub fn new(
        pipelines: &Pipelines,
        wgsl: &str,
        entry_point: &'static str,
        constants: &[(&str, f64)],
        bindings: &[Binding<'_>],
        grid: [Axis; 3],
    ) -> Self {
        let pipeline = pipelines.get(wgsl, entry_point, constants);
        let buffers: Vec<_> = bindings.iter().map(|binding| binding.0).collect();
        let bind_group = pipelines.gpu().create_bind_group(entry_point, &pipeline, &buffers);
        let grid = if pipelines.gpu().is_dry_run() { [Axis::Fixed(0); 3] } else { grid };
        Self { pipeline, bind_group, grid }
    }
}

/// Dispatches in the order they run in.
#[derive(Default)]
pub struct Plan {
    dispatches: Vec<Dispatch>,
}

impl Plan {
    /// Appends the dispatches of a launch.
    pub fn run(&mut self, launch: Vec<Dispatch>) {
        self.dispatches.extend(launch);
    }

    /// The dispatches recorded so far.
    pub fn dispatches(&self) -> &[Dispatch] {
        &self.dispatches
    }

    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, sizes: Sizes) {
        for dispatch in &self.dispatches {
            let [x, y, z] = dispatch.grid.map(|axis| axis.workgroups(sizes));
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}
