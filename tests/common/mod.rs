//! What the tests share.

#![expect(dead_code, reason = "each binary uses its own part of this")]

pub mod golden;
pub mod gpu;
pub mod lora;
pub mod model_dir;
pub mod numbers;
pub mod program;
pub mod pytorch;
pub mod recording;
pub mod transformers;
