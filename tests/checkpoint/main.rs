//! Files of every format: what is read from them and written, and what is said of those that are damaged.

mod codegen;
#[path = "../common/mod.rs"]
mod common;
mod fuzz;
mod gguf;
mod hugging_face;
mod mesh;
mod pytorch;
mod tokenizer;
