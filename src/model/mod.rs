//! A GPT-J on a GPU: its weights, its cache, and the recorded forward pass.
//!
//! Start reading at `forward`, the pass itself; `step` replays it.

mod forward;
mod inspect;
mod lora;
mod memory;
mod scratch;
mod step;
pub mod synthetic;

pub use inspect::Stages;
pub use memory::{DeviceCapacity, MemoryPlan, MemoryUsage};
pub use step::SlotTokens;
pub(crate) use step::{PreparedStep, StepOutput};

use gptj_checkpoint::{Checkpoint, Class, Config, IntoFlow, Progress};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Plan, Readback, Staging};
use crate::kernels::self_test::{self, MatrixUnits};
use crate::kernels::{GemvConfig, KernelVariant, Kernels, SPLIT_ROWS, Tuning};
use crate::kv_cache::KvCache;
use crate::weights::Weights;
use forward::{Body, record_body, record_head};
use scratch::Scratch;

/// How a model is laid out in GPU memory.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// The most rows of a step, from 1 to 4096: prompts are fed in chunks of this many tokens. Rounded up to a multiple
    /// of 128.
    pub chunk: usize,
    /// Sequences in the cache at once, from 1 to 1024.
    pub n_slots: usize,
    /// Positions per sequence; `None` for as many as the model can use and the GPU can hold.
    pub context: Option<usize>,
    /// The configuration of the matmuls with few rows; `None` for one that suits most GPUs of this kind.
    pub gemv: Option<GemvConfig>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { chunk: 256, n_slots: 1, context: None, gemv: None }
    }
}

/// A GPT-J on a GPU, with its cache.
pub struct Model {
    gpu: Gpu,
    config: Config,
    weights: Weights,
    cache: KvCache,
    scratch: Scratch,
    kernels: Kernels,
    /// Recorded passes, one per kernel variant that a step has needed.
    bodies: Vec<(KernelVariant, Body)>,
    heads: Vec<(KernelVariant, Plan)>,
    argmax: Plan,
    staging: Staging,
    /// For the results of the awaited step and of the one after it.
    readbacks: [Readback; 2],
    matrix_units: Option<MatrixUnits>,
}

/// Memory for everything but the weights, and the kernels' tuning for this GPU.
struct Allocations {
    config: Config,
    cache: KvCache,
    scratch: Scratch,
    readbacks: [Readback; 2],
    tuning: Tuning,
    matrix_units: Option<MatrixUnits>,
}

impl Allocations {
    async fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        let MemoryPlan { config, .. } = MemoryPlan::new(gpu.into(), config, options)?;
        let cache = KvCache::new(gpu, &config, options.n_slots, config.n_positions).await?;
        let scratch = Scratch::new(gpu, &config, options).await?;
        let outputs = options.n_slots.min(SPLIT_ROWS);
        let bytes = (outputs * scratch.logits.row_bytes()) as u64;
        let readbacks = [Readback::new(gpu, "readback", bytes).await?, Readback::new(gpu, "readback", bytes).await?];
        let (tuning, matrix_units) = self_test::tuning(gpu, options.gemv).await?;
        Ok(Self { config, cache, scratch, readbacks, tuning, matrix_units })
    }
}

impl Model {
    /// Uploads a checkpoint and merges its adapters. `progress` is called during the upload, and may stop it by
    /// returning [`ControlFlow::Break`](std::ops::ControlFlow::Break).
    ///
    /// Kernels are compiled when a step first needs them; [`Model::compile`] does it ahead.
    ///
    /// # Errors
    /// If the checkpoint's numbers cannot be used, an option is out of range, or the GPU cannot hold the model;
    /// [`Error::Stopped`] if `progress` stopped it.
    pub async fn load<F: IntoFlow>(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        mut progress: impl FnMut(Progress) -> F,
    ) -> Result<Self> {
        // First, so that a model that does not fit fails before the long upload.
        let allocations = Allocations::new(gpu, checkpoint.config(), options).await?;
        let weights = Weights::load(gpu, checkpoint, &mut progress).await?;
        lora::merge(gpu, checkpoint, &weights.blocks).await?;
        Self::assemble(gpu, allocations, weights)
    }

    /// A model of this configuration with weights that are on the GPU already.
    ///
    /// # Errors
    /// If an option is out of range, or the GPU cannot hold the model.
    #[doc(hidden)]
    pub async fn new(gpu: &Gpu, config: &Config, weights: Weights, options: &LoadOptions) -> Result<Self> {
        Self::assemble(gpu, Allocations::new(gpu, config, options).await?, weights)
    }

    fn assemble(gpu: &Gpu, allocations: Allocations, weights: Weights) -> Result<Self> {
        let Allocations { config, cache, scratch, readbacks, tuning, matrix_units } = allocations;
        let kernels = Kernels::new(gpu, &config, tuning);
        let mut argmax = Plan::default();
        argmax.run(kernels.argmax(&scratch.logits, &scratch.tokens));
        let model = Self {
            gpu: gpu.clone(),
            config,
            weights,
            cache,
            scratch,
            kernels,
            bodies: Vec::new(),
            heads: Vec::new(),
            argmax,
            staging: Staging::new(gpu),
            readbacks,
            matrix_units,
        };
        model.gpu.check()?;
        Ok(model)
    }

    /// Returns the weights, for another model.
    #[doc(hidden)]
    pub fn into_weights(self) -> Weights {
        self.weights
    }

    /// Compiles ahead the kernels that steps of these numbers of rows need, so that no step waits for them: 1 for one
    /// sequence, the number of sequences for several at once, and the lengths of prompts (longer ones are fed in chunks
    /// of [`LoadOptions::chunk`]). `progress` gets the number of passes recorded so far and of all to record, and may
    /// stop it.
    ///
    /// # Errors
    /// [`Error::Stopped`] if `progress` stopped it; [`Error::Gpu`] if the driver refuses a kernel.
    pub fn compile<F: IntoFlow>(&mut self, rows: &[usize], mut progress: impl FnMut(Progress) -> F) -> Result<()> {
        let tuning = *self.kernels.tuning();
        let mut missing: Vec<(usize, usize)> = Vec::new();
        let mut seen = Vec::new();
        for &n_rows in rows {
            let n_rows = n_rows.clamp(1, self.scratch.chunk());
            let outputs =
                if self.weights.head.is_some() { [1, n_rows.min(self.n_slots()).min(SPLIT_ROWS)] } else { [0; 2] };
            for n_outputs in outputs {
                let variants = (tuning.variant(n_rows), tuning.head_variant(n_outputs));
                if !seen.contains(&variants) {
                    seen.push(variants);
                    missing.push((n_rows, n_outputs));
                }
            }
        }
        let total = missing.len() as u64;
        for (done, (n_rows, n_outputs)) in (0..).zip(missing) {
            if progress(Progress { done, total }).into_flow().is_break() {
                return Err(Error::Stopped);
            }
            self.prepare(n_rows, n_outputs);
        }
        let _ = progress(Progress { done: total, total });
        self.gpu.check()
    }

    /// Records the passes that a step of this size needs, unless they are recorded already.
    fn prepare(&mut self, n_rows: usize, n_outputs: usize) {
        let body = self.kernels.tuning().variant(n_rows);
        if self.bodies.iter().all(|(variant, _)| *variant != body) {
            let kernels = self.kernels.with_variant(body);
            self.bodies.push((body, record_body(&kernels, &self.scratch, &self.weights, &self.cache)));
        }
        let head = self.kernels.tuning().head_variant(n_outputs);
        if n_outputs > 0 && self.heads.iter().all(|(variant, _)| *variant != head) {
            let kernels = self.kernels.with_variant(head);
            self.heads.push((head, record_head(&kernels, &self.scratch, &self.weights)));
        }
    }

    /// The plans of a step of `n_rows` rows.
    fn body(&self, n_rows: usize) -> impl Iterator<Item = &Plan> {
        let variant = self.kernels.tuning().variant(n_rows);
        let (_, body) = self.bodies.iter().find(|(other, _)| *other == variant).expect("it was prepared");
        [&body.embedding].into_iter().chain(&body.blocks)
    }

    /// The head's plan for `n_outputs` rows; `None` for 0.
    fn head(&self, n_outputs: usize) -> Option<&Plan> {
        let variant = self.kernels.tuning().head_variant(n_outputs);
        let head = self.heads.iter().find(|(other, _)| *other == variant);
        (n_outputs > 0).then(|| &head.expect("it was prepared").1)
    }

    /// The model's configuration; `n_positions` is the context that it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The GPU that holds it.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The keys and values of its sequences.
    #[doc(hidden)]
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Whether matrix units multiply the rows of prompts; `None` if the GPU has none, or none are needed.
    pub fn matrix_units(&self) -> Option<MatrixUnits> {
        self.matrix_units
    }

    /// Fails unless the model is of this class.
    pub(crate) fn expect_class(&self, wanted: Class) -> Result<()> {
        let is = self.config.class;
        if is == wanted { Ok(()) } else { Err(Error::Class { is, wanted }) }
    }

    /// Fails unless the model has a head.
    fn expect_head(&self) -> Result<()> {
        if self.config.class == Class::Model { self.expect_class(Class::CausalLm) } else { Ok(()) }
    }

    /// Sequences that fit at once.
    pub fn n_slots(&self) -> usize {
        self.cache.n_slots()
    }

    /// Positions in use in a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn length(&self, slot: usize) -> usize {
        self.cache.length(slot)
    }

    /// Keeps the first `length` positions of a slot and forgets the rest.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        self.cache.truncate(slot, length);
    }

    /// Advances a slot by `count` positions without computing anything; their keys and values are whatever the cache
    /// holds. For benchmarks at a depth.
    ///
    /// # Panics
    /// If the slot has no room for them.
    #[doc(hidden)]
    pub fn skip(&mut self, slot: usize, count: usize) {
        self.cache.skip(slot, count);
    }

    /// Kernel launches of a step of `n_rows` rows that ends in one greedy token.
    #[doc(hidden)]
    pub fn launches(&mut self, n_rows: usize) -> usize {
        self.prepare(n_rows, 1);
        self.body(n_rows).chain(self.head(1)).chain([&self.argmax]).map(|plan| plan.dispatches().len()).sum()
    }
}

impl LoadOptions {
    fn check(&self, config: &Config) -> Result<()> {
        if !(1..=4096).contains(&self.chunk) {
            return Err(Error::option("chunk", format!("{} is not between 1 and 4096 rows", self.chunk)));
        }
        if !(1..=1024).contains(&self.n_slots) {
            return Err(Error::option("n_slots", format!("{} is not between 1 and 1024", self.n_slots)));
        }
        if let Some(gemv) = self.gemv.filter(|gemv| !gemv.is_possible()) {
            return Err(Error::option("gemv", format!("no kernel has the shape {gemv:?}")));
        }
        if let Some(context) = self.context.filter(|context| !(1..=config.n_positions).contains(context)) {
            let reason = format!("{context} is not between 1 and the model's {} positions", config.n_positions);
            return Err(Error::option("context", reason));
        }
        Ok(())
    }
}
