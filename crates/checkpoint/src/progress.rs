//! Progress of a long operation, and how its caller stops it.

use std::ops::ControlFlow;

/// The progress of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Work done, in bytes unless the operation says otherwise.
    pub done: u64,
    /// Work in all.
    pub total: u64,
}

/// The return types of a progress callback: `()`, or [`ControlFlow`] to stop the operation.
pub trait IntoFlow {
    /// Whether to continue.
    fn into_flow(self) -> ControlFlow<()>;
}

impl IntoFlow for () {
    fn into_flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl IntoFlow for ControlFlow<()> {
    fn into_flow(self) -> ControlFlow<()> {
        self
    }
}
