//! Steps: rows in, logits or greedy tokens out, with the next step prepared meanwhile.

use std::ops::Range;

use super::Model;
use crate::error::{Error, LOGITS, Result};
use crate::gpu::{Dtype, Encoded, Submission, Submitted};
use crate::kernels::{Row, SPLIT_ROWS, StepHeader, StepSize};
use gptj_checkpoint::Class;

/// Plans that are submitted early: the embedding and a few blocks, enough to keep the GPU busy while the rest is
/// encoded.
const EARLY_PLANS: usize = 4;

/// The most rows times blocks in one submission. Systems treat a GPU that spends seconds on one submission as hung
/// (Windows after two); this is 0.4 TFLOP of a GPT-J-6B.
const SUBMITTED_ROWS: usize = 1024;

/// A step's result for each of its output rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepOutput {
    /// The logits.
    Logits,
    /// The token with the largest logit.
    GreedyToken,
}

/// The next step of a slot, prepared early; valid only if the slot is fed one token next.
pub(crate) struct PreparedStep {
    slot: usize,
    position: usize,
    output: StepOutput,
    work: Work,
}

enum Work {
    /// Encoded while the GPU was busy, without its token.
    Encoded(Encoded),
    /// Submitted: the GPU chooses its token itself. The host knows the token once it has read the step before.
    Submitted(Submitted, Option<u32>),
}

impl PreparedStep {
    /// Records the token that the GPU chose for a submitted step.
    pub(crate) fn set_token(&mut self, token: u32) {
        if let Work::Submitted(_, chosen) = &mut self.work {
            *chosen = Some(token);
        }
    }
}

/// The argmax of logits whose largest is not finite; as in `shaders/argmax.wgsl`.
const NOT_A_TOKEN: u32 = u32::MAX;

/// Tokens for the sequence of a slot.
#[derive(Debug, Clone, Copy)]
pub struct SlotTokens<'a> {
    /// The slot.
    pub slot: usize,
    /// The tokens to append; at least one.
    pub tokens: &'a [u32],
}

/// The part of one slot's tokens that a step takes.
struct PromptSlice {
    /// The slot's index in the batch.
    index: usize,
    range: Range<usize>,
}

impl Model {
    /// Appends `tokens` to a slot's sequence and returns the logits at the last one: those of the next token, or the
    /// output of another class's head.
    ///
    /// The tokens are in the sequence as soon as the work is submitted: after an error, or if the future is dropped,
    /// remove them with [`Model::truncate`]. The same holds for every method that appends tokens.
    ///
    /// # Errors
    /// [`Error::Prompt`] if there are no tokens, one is not in the vocabulary, or the slot has no room for them;
    /// [`Error::Option`] if there is no such slot; [`Error::Class`] if the model has no head; [`Error::NonFinite`] if
    /// logits that are compared are not finite; [`Error::Gpu`] if the GPU failed.
    pub async fn logits(&mut self, slot: usize, tokens: &[u32]) -> Result<Vec<f32>> {
        let submitted = self.submit(slot, tokens, StepOutput::Logits)?;
        self.read_logits(submitted).await
    }

    /// Appends `tokens` to a slot's sequence and returns the most likely next token, the first of equals.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn greedy_token(&mut self, slot: usize, tokens: &[u32]) -> Result<u32> {
        let submitted = self.submit(slot, tokens, StepOutput::GreedyToken)?;
        self.read_greedy_token(submitted).await
    }

    /// The logits of a submitted step.
    pub(crate) async fn read_logits(&self, submitted: Submitted) -> Result<Vec<f32>> {
        let mut logits: Vec<f32> = submitted.take().await?;
        logits.truncate(self.config.head_features());
        Ok(logits)
    }

    /// The greedy token of a submitted step.
    pub(crate) async fn read_greedy_token(&self, submitted: Submitted) -> Result<u32> {
        let token = submitted.take::<u32>().await?[0];
        if token == NOT_A_TOKEN { Err(Error::NonFinite(LOGITS)) } else { Ok(token) }
    }

    /// Encodes the slot's next step, which takes one token; `None` if the slot is full.
    pub(crate) fn encode_next(&mut self, slot: usize, output: StepOutput) -> Option<PreparedStep> {
        let row = self.next_row(slot)?;
        let work = Work::Encoded(self.encode(None, &[row], &[0], output));
        Some(PreparedStep { slot, position: row.position as usize, output, work })
    }

    /// Submits the slot's next step, for the token that the GPU is choosing now; `None` if the slot is full.
    pub(crate) fn submit_next(&mut self, slot: usize) -> Option<PreparedStep> {
        let row = self.next_row(slot)?;
        let output = StepOutput::GreedyToken;
        let work = Work::Submitted(self.encode(None, &[row], &[0], output).submit(), None);
        Some(PreparedStep { slot, position: row.position as usize, output, work })
    }

    /// Appends `tokens` to a slot's sequence with a prepared step. `None`, without effect, if it was prepared for
    /// another slot, position, output or token; the result of a submitted step is then ignored.
    pub(crate) fn resume(
        &mut self,
        prepared: PreparedStep,
        slot: usize,
        tokens: &[u32],
        output: StepOutput,
    ) -> Option<Submitted> {
        let &[token] = tokens else { return None };
        if (prepared.slot, prepared.position, prepared.output) != (slot, self.cache.length(slot), output) {
            return None;
        }
        let submitted = match prepared.work {
            Work::Encoded(encoded) => {
                self.scratch.tokens.overwrite(&self.gpu, &[token]);
                encoded.submit()
            }
            Work::Submitted(submitted, chosen) if chosen == Some(token) => submitted,
            Work::Submitted(..) => return None,
        };
        self.cache.push(slot);
        Some(submitted)
    }

    /// The row of the token after a slot's sequence; `None` if the slot is full.
    fn next_row(&self, slot: usize) -> Option<Row> {
        let position = self.cache.length(slot);
        (position < self.cache.n_positions()).then_some(Row { slot: slot as u32, position: position as u32 })
    }

    /// Appends `tokens` in chunks and returns the step that outputs the last row's result.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub(crate) fn submit(&mut self, slot: usize, tokens: &[u32], output: StepOutput) -> Result<Submitted> {
        self.check_output(output)?;
        self.check_tokens(slot, tokens)?;
        let (start, last) = tokens.split_at((tokens.len() - 1) / self.scratch.chunk() * self.scratch.chunk());
        for chunk in start.chunks(self.scratch.chunk()) {
            let rows = self.append(slot, chunk.len());
            self.encode(Some(chunk), &rows, &[], output).submit();
        }
        let rows = self.append(slot, last.len());
        Ok(self.encode(Some(last), &rows, &[last.len() as u32 - 1], output).submit())
    }

    /// Encodes a step that computes `output` for the rows `outputs`, if any. With `tokens`, the first part of the step
    /// is submitted right away; without, the rows' tokens are those in the buffer when it runs.
    fn encode(&mut self, tokens: Option<&[u32]>, rows: &[Row], outputs: &[u32], output: StepOutput) -> Encoded {
        self.prepare(rows.len(), outputs.len());
        let (mut submission, step) = self.begin(tokens, rows, outputs);
        if tokens.is_some() {
            submission = self.submit_body(submission, step);
        } else {
            submission.run(self.body(rows.len()), step);
        }
        submission.run(self.head(outputs.len()), step);
        if outputs.is_empty() {
            return submission.encode();
        }
        self.readbacks.swap(0, 1);
        match output {
            StepOutput::Logits => {
                let bytes = (outputs.len() * self.scratch.logits.row_bytes()) as u64;
                submission.read(&self.scratch.logits, bytes, &self.readbacks[0]);
            }
            StepOutput::GreedyToken => {
                submission.run([&self.argmax], step);
                let bytes = outputs.len() as u64 * Dtype::U32.bytes();
                submission.read(&self.scratch.tokens, bytes, &self.readbacks[0]);
            }
        }
        submission.encode()
    }

    /// Runs the pass up to the end of the residual stream, in one submission or several. Returns the last one, not yet
    /// submitted, for the work that follows.
    pub(super) fn submit_body(&self, mut submission: Submission, step: StepSize) -> Submission {
        let n_rows = step.rows as usize;
        assert!(n_rows > 0, "a step has rows");
        let plans_each = (SUBMITTED_ROWS / n_rows).max(1);
        let mut plans = self.body(n_rows).peekable();
        // A caller waits for this step: the GPU can start while the rest is encoded.
        submission.run(plans.by_ref().take(EARLY_PLANS.min(plans_each)), step);
        while plans.peek().is_some() {
            submission.submit();
            submission = Submission::new(&self.gpu, "step");
            submission.run(plans.by_ref().take(plans_each), step);
        }
        submission
    }

    /// Appends tokens to several slots' sequences and returns the logits that follow the last token of each. No slot
    /// may be fed twice.
    ///
    /// Weights are read once for many sequences, and there is no padding. The logits of a sequence are bit for bit
    /// those that it has alone.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn logits_of_slots(&mut self, batch: &[SlotTokens<'_>]) -> Result<Vec<Vec<f32>>> {
        let mut rows: Vec<Vec<f32>> = self.run_batch(batch, StepOutput::Logits).await?;
        for row in &mut rows {
            row.truncate(self.config.head_features());
        }
        Ok(rows)
    }

    /// The same, for the most likely next token of each, the first of equals; `None` if the largest logit is not
    /// finite.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn greedy_tokens(&mut self, batch: &[SlotTokens<'_>]) -> Result<Vec<Option<u32>>> {
        let tokens: Vec<Vec<u32>> = self.run_batch(batch, StepOutput::GreedyToken).await?;
        Ok(tokens.into_iter().map(|token| (token[0] != NOT_A_TOKEN).then_some(token[0])).collect())
    }

    /// Appends each slot's tokens and returns the output of each slot's last row.
    async fn run_batch<T: bytemuck::Pod>(
        &mut self,
        batch: &[SlotTokens<'_>],
        output: StepOutput,
    ) -> Result<Vec<Vec<T>>> {
        self.check_output(output)?;
        for (index, slot_tokens) in batch.iter().enumerate() {
            self.check_tokens(slot_tokens.slot, slot_tokens.tokens)?;
            if batch[..index].iter().any(|other| other.slot == slot_tokens.slot) {
                return Err(Error::option("slot", format!("{} is fed twice", slot_tokens.slot)));
            }
        }
        let mut results = vec![Vec::new(); batch.len()];
        for slices in self.schedule(batch) {
            let (mut rows, mut tokens) = (Vec::new(), Vec::new());
            // The rows at which prompts end, and these prompts' indices in the batch.
            let (mut outputs, mut finished) = (Vec::new(), Vec::new());
            for PromptSlice { index, range } in slices {
                let SlotTokens { slot, tokens: prompt } = batch[index];
                rows.extend(self.append(slot, range.len()));
                tokens.extend_from_slice(&prompt[range.clone()]);
                if range.end == prompt.len() {
                    outputs.push(rows.len() as u32 - 1);
                    finished.push(index);
                }
            }
            let submitted = self.encode(Some(&tokens), &rows, &outputs, output).submit();
            if !finished.is_empty() {
                let read: Vec<T> = submitted.take().await?;
                let width = read.len() / finished.len();
                for (index, result) in finished.into_iter().zip(read.chunks_exact(width)) {
                    results[index] = result.to_vec();
                }
            }
        }
        Ok(results)
    }

    /// Divides a batch into steps.
    ///
    /// Each slot's tokens are sliced into chunks independently of the others, and only slices that the same kernels
    /// would take alone share a step. Kernels treat each row by itself, so a sequence's results do not depend on the
    /// others.
    fn schedule(&self, batch: &[SlotTokens<'_>]) -> Vec<Vec<PromptSlice>> {
        let chunk = self.scratch.chunk();
        let kernels = |n_rows: usize| {
            let variant = self.kernels.tuning().variant(n_rows);
            (variant.matmul, variant.flash)
        };
        let mut steps: Vec<Vec<PromptSlice>> = Vec::new();
        let longest = batch.iter().map(|slot_tokens| slot_tokens.tokens.len()).max().unwrap_or(0);
        for start in (0..longest).step_by(chunk) {
            // The steps of this round that slices can still join, and their rows.
            let mut open: Vec<(usize, usize)> = Vec::new();
            for (index, SlotTokens { tokens, .. }) in batch.iter().enumerate() {
                if tokens.len() <= start {
                    continue;
                }
                let range = start..tokens.len().min(start + chunk);
                let length = range.len();
                let joins = |&&mut (step, rows): &&mut (usize, usize)| {
                    let total = rows + length;
                    total <= chunk
                        && kernels(rows) == kernels(length)
                        && kernels(total) == kernels(length)
                        && steps[step].len() < SPLIT_ROWS
                };
                match open.iter_mut().find(joins) {
                    Some((step, rows)) => {
                        *rows += length;
                        steps[*step].push(PromptSlice { index, range });
                    }
                    None => {
                        open.push((steps.len(), length));
                        steps.push(vec![PromptSlice { index, range }]);
                    }
                }
            }
        }
        steps
    }

    /// The host's part of [`Model::greedy_token`]: submits the work and returns before it is done.
    ///
    /// # Errors
    /// As [`Model::logits`].
    #[doc(hidden)]
    pub fn submit_greedy_token(&mut self, slot: usize, tokens: &[u32]) -> Result<Submitted> {
        self.submit(slot, tokens, StepOutput::GreedyToken)
    }

    /// Fails unless the model has the head for this output.
    fn check_output(&self, output: StepOutput) -> Result<()> {
        match output {
            StepOutput::Logits => self.expect_head(),
            StepOutput::GreedyToken => self.expect_class(Class::CausalLm),
        }
    }

    pub(super) fn check_tokens(&self, slot: usize, tokens: &[u32]) -> Result<()> {
        let n_slots = self.cache.n_slots();
        if slot >= n_slots {
            return Err(Error::option("slot", format!("{slot} is not one of the model's {n_slots}")));
        }
        self.config.check_prompt(tokens)?;
        let free = self.cache.n_positions() - self.cache.length(slot);
        if tokens.len() > free {
            let (length, context) = (tokens.len(), self.cache.n_positions());
            return Err(Error::Prompt(format!("{length} tokens do not fit: {free} of {context} positions are left")));
        }
        Ok(())
    }

    /// Appends `n_rows` positions to a slot's sequence and returns their rows.
    pub(super) fn append(&mut self, slot: usize, n_rows: usize) -> Vec<Row> {
        let row = |_| Row { slot: slot as u32, position: self.cache.push(slot) as u32 };
        (0..n_rows).map(row).collect()
    }

    /// Opens a submission and writes the step's tokens, rows and outputs.
    pub(super) fn begin(&self, tokens: Option<&[u32]>, rows: &[Row], outputs: &[u32]) -> (Submission, StepSize) {
        assert!(rows.len() <= self.scratch.chunk(), "a step has at most {} rows", self.scratch.chunk());
        assert!(outputs.len() <= SPLIT_ROWS, "a step computes the logits of at most {SPLIT_ROWS} rows");
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        let step = StepSize { rows: rows.len() as u32, outputs: outputs.len() as u32, positions: longest };
        let mut submission = Submission::new(&self.gpu, "step");
        if let Some(tokens) = tokens {
            submission.write(&self.staging, &self.scratch.tokens, bytemuck::cast_slice(tokens));
        }
        let header =
            StepHeader { n_rows: step.rows, n_outputs: step.outputs, n_positions: self.cache.capacity() as u32 };
        let rows: &[u8] = bytemuck::cast_slice(rows);
        submission.write(&self.staging, &self.scratch.step, &[bytemuck::bytes_of(&header), rows].concat());
        if !outputs.is_empty() {
            submission.write(&self.staging, &self.scratch.outputs, bytemuck::cast_slice(outputs));
        }
        (submission, step)
    }
}
