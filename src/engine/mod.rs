//! Text generation: many texts at once on an owned model ([`Engine`]), or one on a borrowed model ([`Generation`]).

mod batch;
#[expect(clippy::module_inception, reason = "the file is named after its type, the folder after its subject")]
mod engine;
mod generation;
mod pipeline;
mod scheduler;

pub use engine::Engine;
pub use generation::{Generation, Timings};
pub use pipeline::Pipeline;
