//! GPT-J and CodeGen checkpoints: configuration and tensors by name, from every on-disk format.
//!
//! ```no_run
//! use gptj_checkpoint::{Checkpoint, TensorName};
//!
//! # fn main() -> gptj_checkpoint::Result<()> {
//! let checkpoint = Checkpoint::open("gpt-j-6b".as_ref())?;
//! println!("{} blocks of width {}", checkpoint.config().n_layer, checkpoint.config().n_embd);
//! let wte = checkpoint.tensor(TensorName::Wte)?;
//! let mut first_row = Vec::new();
//! wte.append_f16(0..checkpoint.config().n_embd, &mut first_row)?;
//! # Ok(())
//! # }
//! ```
//!
//! Files are memory-mapped: a tensor is a view of the file's pages, which can be released once it has been copied to a
//! GPU, so that loading takes no second copy of the model in memory. This crate does not depend on a GPU.
//!
//! # Features
//! All are on by default; without any, the crate opens safetensors directories and their LoRA adapters.
//!
//! | feature | adds |
//! |---|---|
//! | `pytorch` | `pytorch_model.bin`, whole or in shards; pickled LoRA adapters |
//! | `ggml` | GGUF, GGML and GGJT files |
//! | `mesh-jax` | slim checkpoints of mesh-transformer-jax |
//! | `convert` | [`write()`]: conversion to a Hugging Face directory |
//! | `hub` | [`hub`]: models by their name on the Hugging Face Hub |

mod adapter;
mod checkpoint;
mod config;
#[cfg(feature = "convert")]
mod convert;
mod elements;
mod error;
mod file_bytes;
mod formats;
#[cfg(feature = "hub")]
pub mod hub;
mod message;
mod names;
mod progress;
mod source;
mod verify;
mod vocabulary;

pub use adapter::{Adapter, LowRank};
pub use checkpoint::Checkpoint;
pub use config::{Architecture, Class, Config, ProblemType};
#[cfg(feature = "convert")]
pub use convert::{WriteFormat, WriteOptions, Written, write};
pub use elements::{Dtype, Elements, Fetch, TensorView};
pub use error::{Error, Result};
pub use formats::vocabulary;
pub use names::{BlockTensor, TensorName};
pub use progress::{IntoFlow, Progress};
pub use source::Source;
pub use verify::Verification;
pub use vocabulary::{TokenKind, Vocabulary};

/// The program that the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
