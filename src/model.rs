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
//! At load, the pass is recorded as plans: one for the embedding, one a block, one for the head. A step writes its
//! rows to the GPU and replays them. Twice they are recorded by the same functions, once for few rows and once for
//! many, since products with few rows and with many are different kernels.
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

mod batch;

use crate::cache::Cache;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{Format, Gpu, Plan, Readback, StepSize, Submission, Tensor, padded};
use crate::kernels::{Kernels, Regime, Row, TILE_ROWS, mixture_width};
use crate::weights::{Block, Progress, Weights};

/// Steps of up to this many rows are recorded as few, and so many rows can have their logits computed at once.
pub const FEW_ROWS: usize = 8;

/// How a model is laid out in GPU memory.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Rows of a step at most: prompts are taken in chunks of so many tokens. Rounded up to whole tiles.
    pub chunk: usize,
    /// Sequences that the cache holds at once.
    pub n_slots: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { chunk: 256, n_slots: 1 }
    }
}

/// A GPT-J on a GPU, with its cache.
pub struct Model {
    gpu: Gpu,
    config: Config,
    cache: Cache,
    scratch: Scratch,
    few: Plans,
    many: Plans,
    argmax: Plan,
    readback: Readback,
    weights: Weights,
}

/// The recorded forward pass, for few rows or for many.
struct Plans {
    embed: Plan,
    blocks: Vec<Plan>,
    head: Plan,
}

/// Everything between the weights and the logits, allocated once and used again by every block and step.
struct Scratch {
    /// The step's [`Row`]s.
    rows: Tensor,
    /// Indices of the rows whose logits are wanted.
    outputs: Tensor,
    /// Cosines and sines of all positions.
    angles: Tensor,
    /// The residual stream, (rows, n_embd).
    x: Tensor,
    /// `ln_1(x)`, what both branches of a block read, (rows, n_embd).
    normed: Tensor,
    /// (rows, n_embd)
    q: Tensor,
    /// (rows, n_embd)
    k: Tensor,
    /// (rows, n_embd)
    v: Tensor,
    /// Attention's unfinished results, (rows, n_head, n_splits, head_dim).
    mixtures: Tensor,
    /// Their maxima and sums, (rows, n_head, n_splits).
    softmaxes: Tensor,
    /// Attention's results, (rows, n_embd).
    attended: Tensor,
    /// The MLP's hidden layer, (rows, n_inner).
    hidden: Tensor,
    /// `ln_f(x)` of the rows whose logits are wanted, (outputs, n_embd).
    ln_f: Tensor,
    /// (outputs, vocab_size)
    logits: Tensor,
    /// The most likely tokens, (outputs).
    tokens: Tensor,
}

/// Memory for everything but the weights.
struct Room {
    config: Config,
    cache: Cache,
    scratch: Scratch,
    readback: Readback,
}

impl Room {
    async fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        options.check()?;
        let cache = Cache::new(gpu, config, options.n_slots, config.n_positions).await?;
        let scratch = Scratch::new(gpu, config, options).await?;
        let readback = Readback::new(gpu, "readback", scratch.logits.bytes()).await?;
        Ok(Self { config: config.clone(), cache, scratch, readback })
    }
}

/// Records one block: `x += attention(ln_1(x)) + mlp(ln_1(x))`.
fn record_block(k: &Kernels, s: &Scratch, block: &Block, cache: [&Tensor; 2]) -> Plan {
    let mut plan = Plan::default();
    // One norm feeds both branches; GPT-J has no second one.
    plan.run(k.layer_norm(&s.x, &block.ln_1, &s.normed));

    plan.run(k.linear(&s.normed, &block.q_proj, &s.q));
    plan.run(k.linear(&s.normed, &block.k_proj, &s.k));
    plan.run(k.linear(&s.normed, &block.v_proj, &s.v));
    plan.run(k.rotary(&s.rows, &s.angles, &s.q));
    plan.run(k.rotary(&s.rows, &s.angles, &s.k));
    plan.run(k.append_cache(&s.rows, [&s.k, &s.v], cache));
    plan.run(k.attention(&s.rows, &s.q, cache, [&s.mixtures, &s.softmaxes]));
    plan.run(k.merge_attention(&s.rows, [&s.mixtures, &s.softmaxes], &s.attended));
    plan.run(k.linear_residual(&s.attended, &block.out_proj, &s.x));

    // Reads `normed`, not `x`: the branches are independent, so their order is free.
    plan.run(k.linear_gelu(&s.normed, &block.fc_in, &s.hidden));
    plan.run(k.linear_residual(&s.hidden, &block.fc_out, &s.x));
    plan
}

/// Records the whole pass, from the rows' tokens to the logits of the rows that want them.
fn record(k: &Kernels, s: &Scratch, weights: &Weights, cache: &Cache) -> Plans {
    let mut embed = Plan::default();
    embed.run(k.embed(&s.rows, &weights.wte, &s.x));

    let blocks = weights.blocks.iter().enumerate();
    let blocks = blocks.map(|(layer, block)| record_block(k, s, block, cache.layer(layer))).collect();

    let mut head = Plan::default();
    head.run(k.layer_norm_outputs(&s.x, &weights.ln_f, &s.ln_f, &s.outputs));
    head.run(k.linear_outputs(&s.ln_f, &weights.lm_head, &s.logits));
    Plans { embed, blocks, head }
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
        let room = Room::new(gpu, checkpoint.config(), options).await?;
        let weights = Weights::load(gpu, checkpoint, &mut progress).await?;
        Self::record(gpu, room, weights)
    }

    /// A model of this configuration with weights that are on the GPU already.
    ///
    /// # Errors
    /// Where an option is out of range, or the GPU cannot hold the model.
    pub async fn new(gpu: &Gpu, config: &Config, weights: Weights, options: &LoadOptions) -> Result<Self> {
        Self::record(gpu, Room::new(gpu, config, options).await?, weights)
    }

    fn record(gpu: &Gpu, room: Room, weights: Weights) -> Result<Self> {
        let Room { config, cache, scratch, readback } = room;
        let kernels = Kernels::new(gpu, &config, cache.n_positions());
        let few = record(&kernels.for_rows(Regime::Few), &scratch, &weights, &cache);
        let many = record(&kernels.for_rows(Regime::Many), &scratch, &weights, &cache);
        let mut argmax = Plan::default();
        argmax.run(kernels.argmax(&scratch.logits, &scratch.tokens));
        gpu.check()?;
        Ok(Self { gpu: gpu.clone(), config, cache, scratch, few, many, argmax, readback, weights })
    }

    /// Gives the weights back, for another model.
    pub fn into_weights(self) -> Weights {
        self.weights
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The GPU it is on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Where its sequences are.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Forgets what follows the first `length` positions of a slot.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        self.cache.truncate(slot, length);
    }

    /// Takes the next `count` positions of a slot without computing anything; their keys and values are whatever the
    /// cache holds. For measuring at a depth without the way there.
    ///
    /// # Panics
    /// Where the slot has no room for them.
    pub fn skip(&mut self, slot: usize, count: usize) {
        self.cache.skip(slot, count);
    }

    /// Launches of a step of so many rows with one most likely token at its end.
    pub fn launches(&self, n_rows: usize) -> usize {
        let Plans { embed, blocks, head } = self.plans(n_rows);
        [embed, head, &self.argmax].into_iter().chain(blocks).map(|plan| plan.dispatches().len()).sum()
    }

    /// Appends `tokens` to a slot's sequence and returns the logits that follow the last one, vocab_size of them.
    ///
    /// # Errors
    /// [`Error::Prompt`] where there are no tokens, one is not in the vocabulary, or the slot has no room for them.
    /// [`Error::Gpu`] where the GPU failed.
    pub async fn logits(&mut self, slot: usize, tokens: &[u32]) -> Result<Vec<f32>> {
        let (mut submission, _) = self.forward(slot, tokens)?;
        submission.read(&self.scratch.logits, 1, &self.readback);
        submission.submit();
        let mut logits = self.readback.take(&self.gpu, self.scratch.logits.row_bytes()).await?;
        logits.truncate(self.config.vocab_size);
        Ok(logits)
    }

    /// Appends `tokens` to a slot's sequence and returns the most likely next token, the first of equals.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn most_likely(&mut self, slot: usize, tokens: &[u32]) -> Result<u32> {
        self.submit_most_likely(slot, tokens)?;
        Ok(self.take_most_likely(1).await?[0])
    }

    /// The host's part of [`Model::most_likely`]: hands the work to the GPU and returns while it is under way.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub fn submit_most_likely(&mut self, slot: usize, tokens: &[u32]) -> Result<()> {
        let (submission, step) = self.forward(slot, tokens)?;
        self.submit_argmax(submission, step);
        Ok(())
    }

    /// Waits for the GPU and takes the `count` tokens that it was asked for last.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed.
    pub async fn take_most_likely(&self, count: usize) -> Result<Vec<u32>> {
        self.readback.take(&self.gpu, count * size_of::<u32>()).await
    }

    fn submit_argmax(&self, mut submission: Submission, step: StepSize) {
        submission.run([&self.argmax], step);
        submission.read(&self.scratch.tokens, 1, &self.readback);
        submission.submit();
    }

    /// Feeds `tokens` in chunks; the last chunk's submission, which computes the last row's logits, is still open.
    fn forward(&mut self, slot: usize, tokens: &[u32]) -> Result<(Submission, StepSize)> {
        self.check_tokens(slot, tokens)?;
        let (start, last) = tokens.split_at((tokens.len() - 1) / self.scratch.chunk() * self.scratch.chunk());
        for chunk in start.chunks(self.scratch.chunk()) {
            let rows = self.append(slot, chunk);
            self.step(&rows, &[]).0.submit();
        }
        let rows = self.append(slot, last);
        Ok(self.step(&rows, &[last.len() as u32 - 1]))
    }

    fn check_tokens(&self, slot: usize, tokens: &[u32]) -> Result<()> {
        self.config.check_prompt(tokens)?;
        let room = self.cache.n_positions() - self.cache.length(slot);
        if tokens.len() > room {
            let (length, context) = (tokens.len(), self.cache.n_positions());
            return Err(Error::Prompt(format!("{length} tokens do not fit: {room} of {context} positions are left")));
        }
        Ok(())
    }

    /// Gives tokens their places in a slot's sequence.
    fn append(&mut self, slot: usize, tokens: &[u32]) -> Vec<Row> {
        let row = |&token| Row { token, slot: slot as u32, position: self.cache.push(slot) as u32 };
        tokens.iter().map(row).collect()
    }

    /// Runs any rows, and computes the logits of those whose indices `outputs` holds. The submission is still open.
    fn step(&self, rows: &[Row], outputs: &[u32]) -> (Submission, StepSize) {
        let (mut submission, step) = self.begin(rows, outputs);
        let plans = self.plans(rows.len());
        let head = (!outputs.is_empty()).then_some(&plans.head);
        submission.run([&plans.embed].into_iter().chain(&plans.blocks).chain(head), step);
        (submission, step)
    }

    fn plans(&self, n_rows: usize) -> &Plans {
        if n_rows <= FEW_ROWS { &self.few } else { &self.many }
    }

    /// Opens a submission and writes the rows and outputs that its plans will work on.
    fn begin(&self, rows: &[Row], outputs: &[u32]) -> (Submission, StepSize) {
        assert!(rows.len() <= self.scratch.chunk(), "a step has at most {} rows", self.scratch.chunk());
        assert!(outputs.len() <= FEW_ROWS, "a step computes the logits of at most {FEW_ROWS} rows");
        let mut submission = Submission::new(&self.gpu, "step");
        submission.write(&self.scratch.rows, bytemuck::cast_slice(rows));
        if !outputs.is_empty() {
            submission.write(&self.scratch.outputs, bytemuck::cast_slice(outputs));
        }
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        (submission, StepSize { rows: rows.len() as u32, outputs: outputs.len() as u32, positions: longest })
    }
}

/// The activations of some rows at every stage of the pass, each (rows, width) without padding.
pub struct Stages {
    /// The embedding, then the residual stream after each block.
    pub hidden: Vec<Vec<f32>>,
    /// The last of them after the final layer norm.
    pub ln_f: Vec<f32>,
    /// The logits of every row.
    pub logits: Vec<f32>,
}

impl Model {
    /// Appends `tokens`, at most a chunk of them, to a slot's sequence and returns what every stage of the pass made
    /// of them. For finding out where two implementations part; a stage at a time, so slow.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn stages(&mut self, slot: usize, tokens: &[u32]) -> Result<Stages> {
        self.check_tokens(slot, tokens)?;
        let rows = self.append(slot, tokens);
        let plans = self.plans(rows.len());
        let mut hidden = Vec::new();
        for plan in [&plans.embed].into_iter().chain(&plans.blocks) {
            let (mut submission, step) = self.begin(&rows, &[]);
            submission.run([plan], step);
            submission.submit();
            hidden.push(self.scratch.x.read(&self.gpu, rows.len()).await?);
        }
        let [mut ln_f, mut logits] = [Vec::new(), Vec::new()];
        let every_row: Vec<u32> = (0..rows.len() as u32).collect();
        for outputs in every_row.chunks(FEW_ROWS) {
            let (mut submission, step) = self.begin(&rows, outputs);
            submission.run([&plans.head], step);
            submission.submit();
            ln_f.extend(self.scratch.ln_f.read::<f32>(&self.gpu, outputs.len()).await?);
            logits.extend(self.scratch.logits.read::<f32>(&self.gpu, outputs.len()).await?);
        }
        Ok(Stages { hidden, ln_f, logits })
    }
}

impl LoadOptions {
    fn check(&self) -> Result<()> {
        if !(1..=4096).contains(&self.chunk) {
            return Err(Error::option("chunk", format!("{} is not between 1 and 4096 rows", self.chunk)));
        }
        if !(1..=1024).contains(&self.n_slots) {
            return Err(Error::option("n_slots", format!("{} is not between 1 and 1024", self.n_slots)));
        }
        Ok(())
    }
}

/// A tensor to be: its name, rows, width and format.
type Layout = (&'static str, usize, usize, Format);

fn layout_bytes((_, rows, width, format): Layout) -> u64 {
    (rows * padded(width)) as u64 * format.bytes()
}

impl Scratch {
    /// Every tensor, in the order of the fields.
    fn layout(config: &Config, options: &LoadOptions) -> [Layout; 15] {
        let chunk = options.chunk.max(FEW_ROWS).next_multiple_of(TILE_ROWS);
        let Config { vocab_size, n_positions, n_embd, n_head, n_inner, rotary_dim, .. } = *config;
        // The two regimes share the memory for attention's splits.
        let few = FEW_ROWS * Regime::Few.n_splits(n_positions);
        let many = chunk * Regime::Many.n_splits(n_positions);
        let n_splits = n_head * few.max(many);
        [
            ("rows", 1, chunk * size_of::<Row>() / size_of::<u32>(), Format::U32),
            ("outputs", 1, FEW_ROWS, Format::U32),
            ("angles", 1, n_positions * rotary_dim, Format::F32),
            ("x", chunk, n_embd, Format::F32),
            ("normed", chunk, n_embd, Format::F32),
            ("q", chunk, n_embd, Format::F32),
            ("k", chunk, n_embd, Format::F32),
            ("v", chunk, n_embd, Format::F32),
            ("mixtures", 1, n_splits * mixture_width(config), Format::F32),
            ("softmaxes", 1, n_splits * 2, Format::F32),
            ("attended", chunk, n_embd, Format::F32),
            ("hidden", chunk, n_inner, Format::F32),
            ("ln_f", FEW_ROWS, n_embd, Format::F32),
            ("logits", FEW_ROWS, vocab_size, Format::F32),
            ("tokens", 1, FEW_ROWS, Format::U32),
        ]
    }

    async fn new(gpu: &Gpu, config: &Config, options: &LoadOptions) -> Result<Self> {
        let mut tensors = Vec::new();
        for (name, rows, width, format) in Self::layout(config, options) {
            tensors.push(Tensor::whole(gpu, name, rows, width, format).await?);
        }
        let tensors: [Tensor; 15] = tensors.try_into().ok().expect("one a layout");
        let [rows, outputs, angles, x, normed, q, k, v, mixtures, softmaxes, attended, hidden, ln_f, logits, tokens] =
            tensors;
        angles.write_elements(gpu, config.rotary_angles(config.n_positions).as_flattened());
        Ok(Self {
            rows,
            outputs,
            angles,
            x,
            normed,
            q,
            k,
            v,
            mixtures,
            softmaxes,
            attended,
            hidden,
            ln_f,
            logits,
            tokens,
        })
    }

    /// Rows of a step at most.
    fn chunk(&self) -> usize {
        self.x.rows()
    }
}

/// What a model takes of a GPU's memory, in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Budget {
    /// The parameters.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub cache: u64,
    /// Everything between the weights and the logits.
    pub activations: u64,
}

impl Budget {
    /// For a model of this configuration, without loading it.
    pub fn new(config: &Config, options: &LoadOptions) -> Self {
        let weights = Weights::bytes(config);
        let cache = Cache::bytes(config, options.n_slots, config.n_positions);
        Self { weights, cache, activations: Scratch::layout(config, options).map(layout_bytes).iter().sum() }
    }

    /// The largest tensor that kernels must see in one piece, in bytes.
    pub fn largest_piece(config: &Config, options: &LoadOptions) -> u64 {
        let cache = Cache::bytes(config, options.n_slots, config.n_positions) / (2 * config.n_layer as u64);
        Scratch::layout(config, options).map(layout_bytes).into_iter().chain([cache]).max().unwrap_or(0)
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.activations
    }
}
