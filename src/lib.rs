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
//! What waits for the GPU is `async`; it needs no particular executor (`pollster::block_on` will do), and everything
//! may change threads. On native targets the wait itself blocks the thread, as there the application must poll the
//! device: on an executor that many share, give the engine a thread of its own (`spawn_blocking`). Futures of a
//! [`Generation`] and a [`Session`] may be dropped at any time; what they had begun is begun again. The library starts
//! no thread, prints nothing and has no global state: several models, on one GPU or on many, do not know of each other.
//!
//! # What it can do
//!
//! | you want | take |
//! |---|---|
//! | one text, a token at a time | [`Generation`]; [`GenerateOptions`] has most of what Hugging Face's `generate()` has |
//! | many texts at once | [`Session`] with a [`Sequence`] each; they share the reading of the weights and nothing else |
//! | how likely a text is | [`Model::score`], [`Model::loss`], [`Model::perplexity`] |
//! | its class; an answer in it | [`Model::classify`], [`Model::answer`] |
//! | it as a vector | [`Model::embed`] |
//! | what the layers make of it | [`Model::last_hidden_state`], [`Model::stages`] |
//! | the logits themselves | [`Model::logits`], [`Model::logits_of_feeds`], [`Model::logits_at_every_token`] |
//! | to load what is not a language model | [`Checkpoint::open_as`] with a [`Class`] |
//! | adapters, conversion, verification | [`checkpoint`], [`Checkpoint::add_adapter`] |
//! | to know whether it fits | [`MemoryPlan`], [`find_adapter`] |
//! | to share a device with what renders | [`Gpu::share`], and the engine's own [`wgpu`] |
//!
//! The folder `examples/` has a small program for most of these.
//!
//! # A tour in half an hour
//!
//! *Opening.* [`Gpu::open`] takes the best adapter; [`GpuOptions`] chooses another. [`Checkpoint::open`] maps the files
//! of a model and checks that every tensor is there and of the right shape; nothing is read yet. It takes Hugging Face
//! directories, GGUF, GGML and mesh-transformer-jax files alike.
//!
//! *Loading.* [`Model::load`] plans the memory first: [`LoadOptions::n_slots`] sequences at once, each with
//! [`LoadOptions::context`] positions, by default as many as fit. What does not fit is an error with the numbers,
//! before anything is uploaded. Then the weights go to the GPU a panel at a time, so that host memory never holds the
//! model, and the forward pass is recorded.
//!
//! *Generating.* A [`Generation`] feeds the prompt in chunks and then replays the recorded pass for every token. While
//! the GPU computes one step, the next is ready to go; for the most likely token the GPU does not even wait for the
//! host to read the last one. [`Token::text`] is whole characters, and never the beginning of a stop string. A
//! generation can be dropped at any token. Of `generate()`'s ways to choose, beams, assisted and guided generation,
//! watermarks and biases of several tokens are not here, and of a `generation_config.json` only the tokens that end a
//! text are read.
//!
//! *Many at once.* A [`Session`] continues all its sequences by one token a step. They may differ in everything:
//! prompts, options, seeds, ends. There is no padding, and a sequence's tokens are, to the last one, those that it
//! would get alone.
//!
//! ```no_run
//! # use gptj::{Error, GenerateOptions, Model, Sequence, Session, Tokenizer};
//! # async fn example(model: &mut Model, tokenizer: &Tokenizer) -> Result<(), Error> {
//! // A model that was loaded with LoadOptions { n_slots: 2, ..LoadOptions::default() }, for two at a time.
//! let config = model.config().clone();
//! let mut session = Session::new(model)?;
//! for prompt in ["In a shocking finding,", "Once upon a time"] {
//!     let prompt = tokenizer.encode(prompt)?;
//!     session.add(Sequence::new(&config, Some(tokenizer), &prompt, &GenerateOptions::default())?)?;
//! }
//! while !session.is_empty() {
//!     for (index, token) in session.step().await? {
//!         // What goes wrong with one text is no matter of the others.
//!         println!("{index}: {}", token?.text);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! *Other classes.* A checkpoint says in its `architectures` which of Hugging Face's classes it is;
//! [`Checkpoint::open_as`] takes it as another. A `GPTJForSequenceClassification` has [`Model::classify`], a
//! `GPTJForQuestionAnswering` [`Model::answer`], and any class [`Model::embed`]; the head that a class lacks is neither
//! looked for nor loaded.
//!
//! *Errors.* Whatever a file, an option or a prompt can contain gives an [`Error`] that names it and says what to do. A
//! GPU that fails or is lost gives [`Error::Gpu`] from then on; results are never made up.
//!
//! # How it works
//!
//! The source is written to be read. `src/model.rs` is the forward pass and the place to start; `src/kernels.rs` says
//! what each kernel computes, and `shaders/` has the kernels, one file each; `src/gpu/` is all that speaks wgpu. The
//! README has a picture of a block and a map.

mod answer;
mod cache;
pub mod checkpoint;
mod classify;
mod config;
mod embed;
mod error;
mod generate;
mod gpu;
mod kernels;
mod lora;
mod model;
mod reference;
mod regime;
mod sampler;
mod score;
mod self_test;
mod session;
mod synthetic;
mod tokenizer;
mod weights;

pub use answer::Answer;
pub use checkpoint::Checkpoint;
pub use classify::Classification;
pub use config::{Architecture, Class, Config, ProblemType};
pub use embed::Pooling;
pub use error::{Error, Result};
pub use generate::{FinishReason, GenerateOptions, Generation, Sequence, Timings, Token};
pub use gpu::{AdapterInfo, Gpu, GpuOptions, Selector, Subgroups, adapters, find_adapter};
pub use model::{Budget, Feed, LoadOptions, MemoryPlan, Model, Room, Stages};
pub use regime::VectorShape;
pub use sampler::SamplingOptions;
pub use score::{IGNORED, Perplexity, Score, Windows};
pub use self_test::MatrixUnits;
pub use session::Session;
pub use tokenizer::Tokenizer;
/// The version of wgpu that the engine is built with, for those who share a device with it.
pub use wgpu;

/// What the project's own tests and benchmarks see of the engine. No part of the library's interface: it changes at any
/// time.
#[doc(hidden)]
pub mod internals {
    macro_rules! show {
        ($($module:ident)*) => {
            $(pub mod $module {
                pub use crate::$module::*;
            })*
        };
    }

    show! { cache gpu kernels reference regime sampler self_test synthetic tokenizer weights }
}
