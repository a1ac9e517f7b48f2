//! GPT-J on any GPU that Vulkan, Metal or DX12 can reach.
//!
//! ```no_run
//! use gptj::{Checkpoint, GenerateOptions, Generation, Gpu, GpuOptions, LoadOptions, Model, Tokenizer};
//!
//! # async fn example() -> Result<(), gptj::Error> {
//! let directory = std::path::Path::new("gpt-j-6b");
//! let gpu = Gpu::open(&GpuOptions::default()).await?;
//! let checkpoint = Checkpoint::open(directory)?;
//! let tokenizer = Tokenizer::open(directory, checkpoint.config().vocab_size)?.expect("it has one");
//! let mut model = Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()).await?;
//!
//! let prompt = tokenizer.encode("In a shocking finding,")?;
//! let options = GenerateOptions::default();
//! let mut text = Generation::new(&mut model, Some(&tokenizer), &prompt, &options)?;
//! while let Some(token) = text.next().await? {
//!     print!("{}", token.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What waits for the GPU is `async`; it needs no particular executor (`pollster::block_on` will do). The library
//! starts no thread and prints nothing.
//!
//! # The tour
//! Read these in order to understand the engine in half an hour. Each module uses only those after it.
//!
//! | module | what it is for |
//! |---|---|
//! | [`generate`] | the decode loop: prompt, stop rules, text that streams; with [`sampler`] and [`tokenizer`] |
//! | [`model`] | **the heart**: the forward pass, recorded once and replayed at every step |
//! | [`cache`] | keys and values of earlier positions, and whose they are |
//! | [`weights`] | the parameters on the GPU and their way there from a [`checkpoint`] |
//! | [`lora`] | what adapters add to the parameters, merged on the GPU |
//! | [`regime`] | which versions of the kernels take so many rows |
//! | [`kernels`] | the vocabulary of the pass: what each kernel computes, on which shapes |
//! | `shaders/` | the kernels themselves, one file each, readable alone |
//! | [`gpu`] | everything that speaks wgpu: devices, tensors, plans |
//! | [`self_test`] | whether the GPU's matrix units can be trusted |
//! | [`config`], [`error`] | the model's sizes; what can go wrong |
//!
//! [`reference`](mod@reference) holds the same kernels as plain loops on the CPU: the oracle of the tests. [`synthetic`]
//! makes weights of any size from a seed, for measuring without a checkpoint.

pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod error;
pub mod generate;
pub mod gpu;
pub mod kernels;
pub mod lora;
pub mod model;
pub mod reference;
pub mod regime;
pub mod sampler;
pub mod self_test;
pub mod synthetic;
pub mod tokenizer;
pub mod weights;

pub use cache::Cache;
pub use checkpoint::Checkpoint;
pub use config::Config;
pub use error::{Error, Result};
pub use generate::{FinishReason, GenerateOptions, Generation, Timings, Token};
pub use gpu::{Gpu, GpuOptions, Selector};
pub use model::{Budget, LoadOptions, MemoryPlan, Model};
pub use sampler::SamplingOptions;
pub use self_test::MatrixUnits;
pub use tokenizer::Tokenizer;
