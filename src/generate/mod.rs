//! From logits to text: options, the sampler with its processors, and the sequence of tokens that they extend.

pub mod logits;
mod options;
pub mod processors;
mod sampler;
mod sequence;

pub use options::GenerateOptions;
pub use sampler::{Sampler, SamplingOptions, argmax};
pub use sequence::{FinishReason, Sequence, Token};
