//! Tasks other than generation: scoring, classification, question answering and embedding. Each file adds its methods
//! to [`Model`](crate::Model).

mod answer;
mod classify;
mod embed;
mod score;

pub use answer::{Answer, answer_tokens};
pub use classify::Classification;
pub use embed::Pooling;
pub use score::{IGNORED, Perplexity, Score, Windows};
