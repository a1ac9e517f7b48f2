//! Work that is recorded once and replayed at every step.
//!
//! A dispatch holds its pipeline, its bind group and the shape of its grid. What differs from step to step is how
//! many rows there are and how far back they look; both only scale the grids, so replaying builds nothing.

use super::tensor::Tensor;
use super::{Product, Shader, Shaders};

/// How large a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSize {
    /// Rows of the step.
    pub rows: u32,
    /// Rows whose logits are wanted.
    pub outputs: u32,
    /// Positions in the longest history among the rows, the row itself included.
    pub positions: u32,
}

/// Workgroups along one axis of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Always this many.
    Fixed(u32),
    /// One for so many rows, or part of as many.
    Rows(u32),
    /// One for so many rows whose logits are wanted, or part of as many.
    Outputs(u32),
    /// One for so many positions, or part of as many.
    Positions(u32),
}

impl Axis {
    fn workgroups(self, step: StepSize) -> u32 {
        match self {
            Self::Fixed(workgroups) => workgroups,
            Self::Rows(each) => step.rows.div_ceil(each),
            Self::Outputs(each) => step.outputs.div_ceil(each),
            Self::Positions(each) => step.positions.div_ceil(each),
        }
    }
}

/// One launch of one kernel, ready to be replayed.
pub struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [Axis; 3],
}

/// A buffer for a binding: a tensor in one piece, or one part of a tensor.
#[derive(Clone, Copy)]
pub struct Binding<'a>(&'a wgpu::Buffer);

impl<'a> From<&'a Tensor> for Binding<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self(tensor.buffer())
    }
}

impl<'a> From<&'a super::tensor::Part> for Binding<'a> {
    fn from(part: &'a super::tensor::Part) -> Self {
        Self(&part.buffer)
    }
}

impl Dispatch {
    /// Prepares `entry_point` of `shader`, in its version for a product, with its override constants, its buffers in
    /// the order of their binding numbers, and its grid.
    pub fn new(
        shaders: &Shaders,
        shader: (Shader, Product),
        entry_point: &'static str,
        constants: &[(&str, f64)],
        bindings: &[Binding<'_>],
        grid: [Axis; 3],
    ) -> Self {
        let pipeline = shaders.pipeline(shader, entry_point, constants);
        let buffers: Vec<_> = bindings.iter().map(|binding| binding.0).collect();
        let bind_group = shaders.gpu().create_bind_group(entry_point, &pipeline, &buffers);
        let grid = if shaders.gpu().is_rehearsal() { [Axis::Fixed(0); 3] } else { grid };
        Self { pipeline, bind_group, grid }
    }
}

/// Dispatches in the order in which they run.
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

    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, step: StepSize) {
        for dispatch in &self.dispatches {
            let [x, y, z] = dispatch.grid.map(|axis| axis.workgroups(step));
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}
