//! The forward pass. If you read one file, read this one.
//!
//! GPT-J is a stack of equal blocks over a residual stream `x`. What sets it apart from other transformers is that a
//! block's two branches, attention and MLP, read the same normed input and are added together:
//!
//! ```text
//! x  ──┬── ln_1 ──┬── q, k, v ── rotary ── attention ── out_proj ──┐
//!      │          └── fc_in ── gelu ── fc_out ────────────────────── + ──  x
//!      └───────────────────────────────────────────────────────────┘
//! ```
//!
//! Since both branches begin and end alike, their first matrices are one and so are their last: a block is five
//! launches. The pass is recorded as plans, one for the embedding, one a block, one for the head; a step writes its
//! rows to the GPU and replays them. Few rows and many want different kernels, so the same functions record the pass
//! once for each [`Regime`] that a step comes in, the first time that it does.
//!
//! # Easy to get wrong
//! 1. Rotary turns neighbouring pairs (2i, 2i + 1), and only in the first `rotary_dim` dimensions of a head.
//! 2. There is one layer norm a block. The MLP reads `ln_1(x)`, not `x + attention`.
//! 3. The four projections of attention have no bias; `fc_in`, `fc_out` and `lm_head` have one.
//! 4. `lm_head` is not tied to `wte` (unless the configuration says so).
//! 5. Scores are scaled by 1 / sqrt(head_dim) and stay f32 up to the mixture of values, as in Hugging Face's code.
//! 6. The cache holds keys after rotation.
//! 7. GPT-J-6B's vocabulary has 143 rows that no text is made of (`<|extratoken_1|>` and so on). They have logits and
//!    take part like the others.

mod look;
mod memory;
mod scratch;
mod step;

pub use look::Stages;
pub use memory::{Budget, MemoryPlan, Room};
pub use step::Feed;
pub(crate) use step::LOGITS;

use crate::cache::Cache;
use crate::checkpoint::{Checkpoint, Progress};
use crate::config::{Class, Config};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Plan, Readback, Staging, Tensor};
use crate::kernels::Kernels;
use crate::regime::{Geometry, Regime, SPLIT_ROWS, VectorShape};
use crate::self_test::{self, MatrixUnits};
use crate::weights::{Block, Weights};
use scratch::Scratch;
use step::Ahead;

/// How a model is laid out in GPU memory.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Rows of a step at most, from 1 to 4096: prompts are taken in chunks of so many tokens. Rounded up to a multiple
    /// of 128.
    pub chunk: usize,
    /// Sequences that the cache holds at once, from 1 to 1024.
    pub n_slots: usize,
    /// Positions that each of them has room for; `None` for as many as the model can use and the GPU can hold.
    pub context: Option<usize>,
    /// The shape of products with few rows; `None` for what is good on most GPUs of this kind.
    pub vector: Option<VectorShape>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { chunk: 256, n_slots: 1, context: None, vector: None }
    }
}

/// A GPT-J on a GPU, with its cache.
pub struct Model {
    gpu: Gpu,
    config: Config,
    weights: Weights,
    cache: Cache,
    scratch: Scratch,
    kernels: Kernels,
    /// The regimes that steps came in so far.
    bodies: Vec<(Regime, Body)>,
    heads: Vec<(Regime, Plan)>,
    argmax: Plan,
    staging: Staging,
    /// Memory for the results of the step that is waited for and of the one after it.
    readbacks: [Readback; 2],
    ahead: Option<Ahead>,
    matrix_units: Option<MatrixUnits>,
}

/// The recorded forward pass from the rows' tokens to the end of the residual stream.
struct Body {
    embed: Plan,
    blocks: Vec<Plan>,
}

/// Memory for everything but the weights, and what was found out about the GPU.
struct Place {
    config: Config,
    cache: Cache,
    scratch: Scratch,
    readbacks: [Readback; 2],
    geometry: Geometry,
    matrix_units: Option<MatrixUnits>,
}

impl Place {
    async fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        let MemoryPlan { config, .. } = MemoryPlan::new(gpu.into(), config, options)?;
        let cache = Cache::new(gpu, &config, options.n_slots, config.n_positions).await?;
        let scratch = Scratch::new(gpu, &config, options).await?;
        let outputs = options.n_slots.min(SPLIT_ROWS);
        let bytes = (outputs * scratch.logits.row_bytes()) as u64;
        let readbacks = [Readback::new(gpu, "readback", bytes).await?, Readback::new(gpu, "readback", bytes).await?];
        let (geometry, matrix_units) = self_test::geometry(gpu, options.vector).await?;
        Ok(Self { config, cache, scratch, readbacks, geometry, matrix_units })
    }
}

/// Records one block: `x += attention(ln_1(x)) + mlp(ln_1(x))`.
fn record_block(k: &Kernels, s: &Scratch, block: &Block, cache: (&Cache, &Tensor)) -> Plan {
    let mut plan = Plan::default();
    // One norm feeds both branches; GPT-J has no second one.
    plan.run(k.layer_norm(&s.x, &block.ln_1, &s.normed));
    // To q and hidden in the activations, and to keys and values in the cache.
    plan.run(k.block_in([&s.normed, &s.step], &block.block_in, &s.angles, &s.activations, cache));
    // From q to attended, in the activations.
    plan.run(k.attend(&s.step, &s.activations, cache, [&s.mixtures, &s.softmaxes]));
    // From attended and hidden to x.
    plan.run(k.block_out([&s.activations, &s.step], &block.block_out, &s.x));
    plan
}

/// Records the pass up to the end of the residual stream.
fn record_body(k: &Kernels, s: &Scratch, weights: &Weights, cache: &Cache) -> Body {
    let mut embed = Plan::default();
    embed.run(k.embed(&s.tokens, &weights.wte, &s.x));
    let blocks = weights.blocks.iter().enumerate();
    let blocks = blocks.map(|(layer, block)| record_block(k, s, block, (cache, cache.layer(layer)))).collect();
    Body { embed, blocks }
}

/// Records what follows for the rows whose logits are wanted.
fn record_head(k: &Kernels, s: &Scratch, weights: &Weights) -> Plan {
    let mut head = Plan::default();
    head.run(k.layer_norm_outputs(&s.x, &weights.ln_f, &s.ln_f, &s.outputs));
    if let Some(linear) = &weights.head {
        head.run(k.lm_head([&s.ln_f, &s.step], linear, &s.logits));
    }
    head
}

impl Model {
    /// Uploads a checkpoint and records its forward pass. `progress` hears of the upload.
    ///
    /// # Errors
    /// Where the checkpoint's numbers cannot be used, an option is out of range, or the GPU cannot hold the model.
    pub async fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self> {
        // Where these do not fit, the user hears of it before the long upload.
        let place = Place::new(gpu, checkpoint.config(), options).await?;
        let weights = Weights::load(gpu, checkpoint, &mut progress).await?;
        Self::furnish(gpu, place, weights)
    }

    /// A model of this configuration with weights that are on the GPU already.
    ///
    /// # Errors
    /// Where an option is out of range, or the GPU cannot hold the model.
    #[doc(hidden)]
    pub async fn new(gpu: &Gpu, config: &Config, weights: Weights, options: &LoadOptions) -> Result<Self> {
        Self::furnish(gpu, Place::new(gpu, config, options).await?, weights)
    }

    fn furnish(gpu: &Gpu, place: Place, weights: Weights) -> Result<Self> {
        let Place { config, cache, scratch, readbacks, geometry, matrix_units } = place;
        let kernels = Kernels::new(gpu, &config, cache.n_positions(), geometry);
        let mut argmax = Plan::default();
        argmax.run(kernels.argmax(&scratch.logits, &scratch.tokens));
        let mut model = Self {
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
            ahead: None,
            matrix_units,
        };
        // What every generation needs, so that its first token need not wait for it.
        let n_outputs = usize::from(model.weights.head.is_some());
        model.prepare(1, n_outputs);
        model.gpu.check()?;
        Ok(model)
    }

    /// Gives the weights back, for another model.
    #[doc(hidden)]
    pub fn into_weights(self) -> Weights {
        self.weights
    }

    /// Records what steps of so many rows and outputs need, where it is not yet.
    fn prepare(&mut self, n_rows: usize, n_outputs: usize) {
        let body = self.kernels.geometry().regime(n_rows);
        if self.bodies.iter().all(|(regime, _)| *regime != body) {
            let kernels = self.kernels.in_regime(body);
            self.bodies.push((body, record_body(&kernels, &self.scratch, &self.weights, &self.cache)));
        }
        let head = self.kernels.geometry().head_regime(n_outputs);
        if n_outputs > 0 && self.heads.iter().all(|(regime, _)| *regime != head) {
            let kernels = self.kernels.in_regime(head);
            self.heads.push((head, record_head(&kernels, &self.scratch, &self.weights)));
        }
    }

    /// The plans for a step of so many rows.
    fn body(&self, n_rows: usize) -> impl Iterator<Item = &Plan> {
        let regime = self.kernels.geometry().regime(n_rows);
        let (_, body) = self.bodies.iter().find(|(other, _)| *other == regime).expect("it was prepared");
        [&body.embed].into_iter().chain(&body.blocks)
    }

    /// The plan for so many outputs.
    fn head(&self, n_outputs: usize) -> Option<&Plan> {
        let regime = self.kernels.geometry().head_regime(n_outputs);
        let head = self.heads.iter().find(|(other, _)| *other == regime);
        (n_outputs > 0).then(|| &head.expect("it was prepared").1)
    }

    /// The model's configuration, with the context that it has here.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The GPU it is on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Where its sequences are.
    #[doc(hidden)]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Whether prompts are multiplied by matrix units; `None` where there are none, or none are needed.
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

    /// Sequences that it has room for at once.
    pub fn n_slots(&self) -> usize {
        self.cache.n_slots()
    }

    /// Positions of a slot that are in use.
    ///
    /// # Panics
    /// Where there is no such slot.
    pub fn length(&self, slot: usize) -> usize {
        self.cache.length(slot)
    }

    /// Forgets what follows the first `length` positions of a slot.
    ///
    /// # Panics
    /// Where there is no such slot.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        self.cache.truncate(slot, length);
    }

    /// Takes the next `count` positions of a slot without computing anything; their keys and values are whatever the
    /// cache holds. For measuring at a depth without the way there.
    ///
    /// # Panics
    /// Where the slot has no room for them.
    #[doc(hidden)]
    pub fn skip(&mut self, slot: usize, count: usize) {
        self.cache.skip(slot, count);
    }

    /// Launches of a step of so many rows with one most likely token at its end.
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
        if let Some(vector) = self.vector.filter(|vector| !vector.is_possible()) {
            return Err(Error::option("vector", format!("{vector:?} is no shape that there are kernels of")));
        }
        if let Some(context) = self.context.filter(|context| !(1..=config.n_positions).contains(context)) {
            let reason = format!("{context} is not between 1 and the model's {} positions", config.n_positions);
            return Err(Error::option("context", reason));
        }
        Ok(())
    }
}
