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
//! Functions that wait for the GPU are `async`. They need no particular executor (`pollster::block_on` will do), and
//! all types may move between threads. On native targets the wait blocks the thread, since the application must poll
//! the device there: on a shared executor, give the engine a thread of its own (`spawn_blocking`). Futures of a
//! [`Generation`] and an [`Engine`] may be dropped at any time; the next call repeats the step. The library starts no
//! thread, prints nothing and has no global state: several models, on one GPU or on many, are independent.
//!
//! # What it can do
//!
//! | task | API |
//! |---|---|
//! | one text, token by token | [`Generation`]; [`GenerateOptions`] has most options of Hugging Face's `generate()` |
//! | many texts at once | [`Engine`] with one [`Sequence`] per text; they share only the reading of the weights |
//! | a logits processor of your own | [`Sequence::set_logits_processor`], [`Generation::of_sequence`] |
//! | log-probabilities, loss, perplexity | [`Model::score`], [`Model::loss`], [`Model::perplexity`] |
//! | classification; question answering | [`Model::classify`], [`Model::answer`] |
//! | embeddings | [`Model::embed`] |
//! | hidden states and attentions | [`Model::last_hidden_state`], [`Model::stages`] |
//! | logits | [`Model::logits`], [`Model::logits_of_slots`], [`Model::logits_at_every_token`] |
//! | other model classes | [`Checkpoint::open_as`] with a [`Class`] |
//! | adapters, conversion, verification | [`checkpoint`], [`Checkpoint::add_adapter`] |
//! | whether a model fits | [`MemoryPlan`], [`find_adapter`] |
//! | compiling kernels ahead, with progress | [`Model::compile`] |
//! | a device shared with a renderer | [`Gpu::share`], and the engine's own [`wgpu`] |
//!
//! `examples/` has a small program for most of these.
//!
//! # A tour in half an hour
//!
//! *Opening.* [`Gpu::open`] takes the best adapter; [`GpuOptions`] chooses another. [`Checkpoint::open`] maps the files
//! of a model and checks that every tensor is there and has the right shape; no tensor is read yet. It opens Hugging
//! Face directories and GGUF, GGML and mesh-transformer-jax files.
//!
//! *Loading.* [`Model::load`] plans the memory first: [`LoadOptions::n_slots`] sequences at once, each with
//! [`LoadOptions::context`] positions, by default as many as fit. If the model does not fit, the error gives the
//! numbers, before anything is uploaded. Then the weights go to the GPU a panel at a time, so that host memory never
//! holds the model. The forward pass is recorded, and its kernels compiled, when a step first needs them, or ahead by
//! [`Model::compile`].
//!
//! *Generating.* A [`Generation`] feeds the prompt in chunks and then replays the recorded pass for every token. While
//! the GPU computes one step, the host prepares the next; in greedy decoding the GPU does not even wait for the host to
//! read the last token. [`Token::text`] has whole characters, and never the beginning of a stop string. A generation
//! can be dropped at any token. Not supported of `generate()`: beam search, assisted and guided generation, watermarks
//! and biases of several tokens; of a `generation_config.json` only `eos_token_id` is read.
//!
//! *Many at once.* An [`Engine`] owns a model and continues all its sequences by one token a step. They may differ in
//! prompts, options, seeds and lengths. There is no padding, and a sequence gets exactly the tokens that it would get
//! alone.
//!
//! ```no_run
//! # use gptj::{Engine, Error, GenerateOptions, Model, Sequence, Tokenizer};
//! # async fn example(model: Model, tokenizer: &Tokenizer) -> Result<(), Error> {
//! // A model loaded with LoadOptions { n_slots: 2, ..LoadOptions::default() }, for two sequences at a time.
//! let config = model.config().clone();
//! let mut engine = Engine::new(model)?;
//! for prompt in ["In a shocking finding,", "Once upon a time"] {
//!     let prompt = tokenizer.encode(prompt)?;
//!     engine.add(Sequence::new(&config, Some(tokenizer), &prompt, &GenerateOptions::default())?)?;
//! }
//! while !engine.is_empty() {
//!     for (index, token) in engine.step().await? {
//!         // An error ends its own sequence only.
//!         println!("{index}: {}", token?.text);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! *Other classes.* A checkpoint's `architectures` name its class in Hugging Face's terms; [`Checkpoint::open_as`]
//! opens it as another. A `GPTJForSequenceClassification` has [`Model::classify`], a `GPTJForQuestionAnswering`
//! [`Model::answer`], and any class [`Model::embed`]. Tensors of other heads are ignored.
//!
//! *Errors.* A bad file, option or prompt gives an [`Error`] that names it and says what to do; the operating system's
//! reason, if any, is its `source`. After a GPU fails or is lost, every call returns [`Error::Gpu`], never a made-up
//! result.
//!
//! # How it works
//!
//! The source is written to be read. `src/model/forward.rs` is the forward pass and the place to start; `src/kernels/`
//! says what each kernel computes, and `shaders/` has the kernels, one file each; only `src/gpu/` uses wgpu. The README
//! has a picture of a block and a map of the source.

mod engine;
mod error;
mod generate;
mod gpu;
mod kernels;
mod kv_cache;
mod model;
mod tasks;
mod tokenizer;
mod weights;

pub use engine::{Engine, Generation, Timings};
pub use error::{Error, Result};
pub use generate::{FinishReason, GenerateOptions, SamplingOptions, Sequence, Token};
/// Checkpoints: from every on-disk format to tensors by name.
pub use gptj_checkpoint as checkpoint;
#[cfg(feature = "hub")]
pub use gptj_checkpoint::hub;
pub use gptj_checkpoint::{Architecture, Checkpoint, Class, Config, ProblemType};
pub use gpu::{AdapterInfo, Gpu, GpuOptions, Selector, Subgroups, adapters, find_adapter};
pub use kernels::{GemvConfig, MatrixUnits};
pub use model::{DeviceCapacity, LoadOptions, MemoryPlan, MemoryUsage, Model, SlotTokens, Stages};
pub use tasks::{Answer, Classification, IGNORED, Perplexity, Pooling, Score, Windows, answer_tokens};
pub use tokenizer::Tokenizer;
/// The engine's wgpu, for applications that share a device with it.
pub use wgpu;

/// The programs that the README and the documentation show.
#[cfg(doctest)]
mod documentation {
    #![cfg(feature = "hub")]

    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/embedding.md")]
    mod embedding {}
}

/// Internals for the project's own tests and benchmarks. Not part of the library's interface: they change at any time.
#[doc(hidden)]
pub mod internals {
    pub mod gpu {
        pub use crate::gpu::{
            AdapterInfo, Clock, Dispatch, Dtype, Gpu, GpuOptions, Plan, Profiler, Specialisation, Subgroups,
            Submission, Tensor, padded,
        };
    }
    pub mod kernels {
        pub use crate::kernels::{
            FMA_STEPS, GemvConfig, KernelVariant, Kernels, Matmul, NEEDLE, Row, SHADERS, SHARED_FILES, SPLIT_ROWS,
            Shader, StepHeader, StepSize, TILE_ROWS, Tuning, Variant, attention_lanes, most_splits, reference,
            rotary_angles, self_test, stitch,
        };
    }
    pub mod kv_cache {
        pub use crate::kv_cache::{KvCache, LayerCache};
    }
    pub mod weights {
        pub use crate::weights::{BlockWidths, LayerNorm, Linear, Matrix, PANEL_FEATURES, Storage, Weights};
    }
    pub mod model {
        pub use crate::model::synthetic;
    }
    pub mod generate {
        pub use crate::generate::{Sampler, argmax, processors};
    }
    pub mod engine {
        pub use crate::engine::Pipeline;
    }
    pub mod tokenizer {
        pub use crate::tokenizer::{TextDelta, TextStream};
    }
}
