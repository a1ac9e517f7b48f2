//! Steps: rows in, logits or tokens out, while the next step is made ready.

use std::ops::Range;

use super::Model;
use crate::config::Class;
use crate::error::{Error, Result};
use crate::gpu::{Encoded, Format, StepSize, Submission, Submitted};
use crate::kernels::{Row, StepHeader};
use crate::regime::SPLIT_ROWS;

/// Plans that are submitted early: the embedding and a few blocks, enough to keep the GPU busy while the rest is
/// encoded.
const EARLY_PLANS: usize = 4;

/// Rows times blocks that are submitted together at most. Systems take a GPU that is busy with one submission for
/// seconds for hung (Windows after two), and these are 0.4 TFLOP of a GPT-J-6B.
const SUBMITTED_ROWS: usize = 1024;

/// What is wanted of a step's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Logits,
    Token,
}

/// The step after the one that is waited for, which is the next token's if all goes on as it does.
pub(super) struct Ahead {
    slot: usize,
    position: usize,
    wanted: Wanted,
    work: Work,
}

enum Work {
    /// Encoded while the GPU was busy; it lacks its token.
    Encoded(Encoded),
    /// Under way: the GPU chose its token by itself, and this one is it.
    Submitted(Submitted, Option<u32>),
}

/// What the GPU finds where the largest logit is not finite; `shaders/argmax.wgsl` has the same number.
const NOT_A_TOKEN: u32 = u32::MAX;

/// What messages call them.
pub(crate) const LOGITS: &str = "the logits";

/// Tokens for the sequence of a slot.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// Whose they are.
    pub slot: usize,
    /// What it is continued with: one token at least.
    pub tokens: &'a [u32],
}

/// The part of a feed that a step takes.
struct Piece {
    feed: usize,
    range: Range<usize>,
}

impl Model {
    /// Appends `tokens` to a slot's sequence and returns the logits at the last one: those of the next token, or
    /// what else the model's head makes.
    ///
    /// While the GPU computes them, the next token's step is encoded.
    ///
    /// The tokens are in the sequence once the work is on its way: after an error, or where the future is dropped,
    /// [`Model::truncate`] takes out what may be there. So it is with everything that appends tokens.
    ///
    /// # Errors
    /// [`Error::Prompt`] where there are no tokens, one is not in the vocabulary, or the slot has no room for them;
    /// [`Error::Option`] where there is no such slot, or one is fed twice; [`Error::Class`] where the model has no head
    /// for it; [`Error::Numbers`] where what was to be compared is not finite; [`Error::Gpu`] where the GPU failed.
    pub async fn logits(&mut self, slot: usize, tokens: &[u32]) -> Result<Vec<f32>> {
        self.expect_head()?;
        let submitted = self.launch(slot, tokens, Wanted::Logits)?;
        if let Some(row) = self.next_row(slot) {
            let (slot, position, wanted) = (slot, row.position as usize, Wanted::Logits);
            let work = Work::Encoded(self.encode(None, &[row], &[0], wanted));
            self.ahead = Some(Ahead { slot, position, wanted, work });
        }
        let mut logits = submitted.take().await?;
        logits.truncate(self.config.head_features());
        Ok(logits)
    }

    /// Appends `tokens` to a slot's sequence and returns the most likely next token, the first of equals.
    ///
    /// With `go_on`, the GPU goes on to the token after that one by itself, so that it need not wait for the host in
    /// between; the next call finds it done if it asks for it, and nothing has happened if it does not.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn most_likely(&mut self, slot: usize, tokens: &[u32], go_on: bool) -> Result<u32> {
        self.expect_class(Class::CausalLm)?;
        let submitted = self.launch(slot, tokens, Wanted::Token)?;
        if let Some(row) = self.next_row(slot).filter(|_| go_on) {
            let (slot, position, wanted) = (slot, row.position as usize, Wanted::Token);
            let work = Work::Submitted(self.encode(None, &[row], &[0], wanted).submit(), None);
            self.ahead = Some(Ahead { slot, position, wanted, work });
        }
        let token = submitted.take::<u32>().await?[0];
        if let Some(Ahead { work: Work::Submitted(_, fed), .. }) = &mut self.ahead {
            *fed = Some(token);
        }
        if token == NOT_A_TOKEN { Err(Error::Numbers(LOGITS)) } else { Ok(token) }
    }

    /// The row of the token that follows a slot's sequence, where it has room for one.
    fn next_row(&self, slot: usize) -> Option<Row> {
        let position = self.cache.length(slot);
        (position < self.cache.n_positions()).then_some(Row { slot: slot as u32, position: position as u32 })
    }

    /// Feeds `tokens` in chunks, the last of which gives what is wanted of the last row.
    fn launch(&mut self, slot: usize, tokens: &[u32], wanted: Wanted) -> Result<Submitted> {
        self.check_tokens(slot, tokens)?;
        if let Some(ahead) = self.ahead.take()
            && (ahead.slot, ahead.position, ahead.wanted) == (slot, self.cache.length(slot), wanted)
            && let &[token] = tokens
        {
            match ahead.work {
                Work::Encoded(encoded) => {
                    self.cache.push(slot);
                    self.scratch.tokens.overwrite(&self.gpu, &[token]);
                    return Ok(encoded.submit());
                }
                Work::Submitted(submitted, Some(fed)) if fed == token => {
                    self.cache.push(slot);
                    return Ok(submitted);
                }
                // Another token than the most likely one. The step under way computes in vain.
                Work::Submitted(..) => {}
            }
        }
        let (start, last) = tokens.split_at((tokens.len() - 1) / self.scratch.chunk() * self.scratch.chunk());
        for chunk in start.chunks(self.scratch.chunk()) {
            let rows = self.append(slot, chunk.len());
            self.encode(Some(chunk), &rows, &[], wanted).submit();
        }
        let rows = self.append(slot, last.len());
        Ok(self.encode(Some(last), &rows, &[last.len() as u32 - 1], wanted).submit())
    }

    /// Encodes a step that gives what is wanted of the rows `outputs`, where there are any. The rows' tokens are
    /// `tokens`, and then the GPU has its first part already; or those that are in place when it runs.
    fn encode(&mut self, tokens: Option<&[u32]>, rows: &[Row], outputs: &[u32], wanted: Wanted) -> Encoded {
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
        match wanted {
            Wanted::Logits => {
                let bytes = (outputs.len() * self.scratch.logits.row_bytes()) as u64;
                submission.read(&self.scratch.logits, bytes, &self.readbacks[0]);
            }
            Wanted::Token => {
                submission.run([&self.argmax], step);
                let bytes = outputs.len() as u64 * Format::U32.bytes();
                submission.read(&self.scratch.tokens, bytes, &self.readbacks[0]);
            }
        }
        submission.encode()
    }

    /// Runs the pass up to the end of the residual stream. What follows goes into the submission that comes back, which
    /// has the last part of it; the GPU has the others already, if there are any.
    pub(super) fn submit_body(&self, mut submission: Submission, step: StepSize) -> Submission {
        let n_rows = step.rows as usize;
        assert!(n_rows > 0, "a step has rows");
        let together = (SUBMITTED_ROWS / n_rows).max(1);
        let mut plans = self.body(n_rows).peekable();
        // Somebody waits for it: the GPU can begin while the rest is encoded.
        submission.run(plans.by_ref().take(EARLY_PLANS.min(together)), step);
        while plans.peek().is_some() {
            submission.submit();
            submission = Submission::new(&self.gpu, "step");
            submission.run(plans.by_ref().take(together), step);
        }
        submission
    }

    /// Appends tokens to several slots' sequences and returns the logits that follow the last token of each. No slot
    /// may be fed twice.
    ///
    /// Weights are read for many sequences at once, and there is no padding. What a sequence gives does not depend, to
    /// the bit, on the others.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn logits_of_feeds(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>> {
        self.expect_head()?;
        let rows = self.feed(feeds, Wanted::Logits).await?;
        let width = self.config.head_features();
        Ok(rows.into_iter().map(|row: Vec<f32>| row[..width].to_vec()).collect())
    }

    /// The same for the most likely next token of each, the first of equals; `None` where the largest logit is not
    /// finite.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn most_likely_of_feeds(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Option<u32>>> {
        self.expect_class(Class::CausalLm)?;
        let tokens = self.feed(feeds, Wanted::Token).await?;
        Ok(tokens.into_iter().map(|token: Vec<u32>| Some(token[0]).filter(|&token| token != NOT_A_TOKEN)).collect())
    }

    /// What is wanted of each feed's last row.
    async fn feed<T: bytemuck::Pod>(&mut self, feeds: &[Feed<'_>], wanted: Wanted) -> Result<Vec<Vec<T>>> {
        for (index, feed) in feeds.iter().enumerate() {
            self.check_tokens(feed.slot, feed.tokens)?;
            if feeds[..index].iter().any(|other| other.slot == feed.slot) {
                return Err(Error::option("slot", format!("{} is fed twice", feed.slot)));
            }
        }
        self.ahead = None;
        let mut results = vec![Vec::new(); feeds.len()];
        for pieces in self.cut(feeds) {
            let (mut rows, mut tokens, mut outputs, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for Piece { feed, range } in pieces {
                let Feed { slot, tokens: fed } = feeds[feed];
                rows.extend(self.append(slot, range.len()));
                tokens.extend_from_slice(&fed[range.clone()]);
                if range.end == fed.len() {
                    outputs.push(rows.len() as u32 - 1);
                    ends.push(feed);
                }
            }
            let submitted = self.encode(Some(&tokens), &rows, &outputs, wanted).submit();
            if !ends.is_empty() {
                let read: Vec<T> = submitted.take().await?;
                let each = read.chunks_exact(read.len() / ends.len());
                ends.into_iter().zip(each).for_each(|(feed, result)| results[feed] = result.to_vec());
            }
        }
        Ok(results)
    }

    /// The steps that take some feeds.
    ///
    /// Each feed is cut by itself, into chunks, and only pieces that alone would be taken by the same kernels share a
    /// step. Kernels take each row by itself, so that what a sequence gives does not depend on the others.
    fn cut(&self, feeds: &[Feed<'_>]) -> Vec<Vec<Piece>> {
        let chunk = self.scratch.chunk();
        let kernels = |n_rows: usize| {
            let regime = self.kernels.geometry().regime(n_rows);
            (regime.product, regime.flash)
        };
        let mut steps: Vec<Vec<Piece>> = Vec::new();
        let longest = feeds.iter().map(|feed| feed.tokens.len()).max().unwrap_or(0);
        for start in (0..longest).step_by(chunk) {
            // A step of this round that pieces of the same kernels can still join, and its rows.
            let mut open: Vec<(usize, usize)> = Vec::new();
            for (feed, Feed { tokens, .. }) in feeds.iter().enumerate().filter(|(_, feed)| feed.tokens.len() > start) {
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
                        steps[*step].push(Piece { feed, range });
                    }
                    None => {
                        open.push((steps.len(), length));
                        steps.push(vec![Piece { feed, range }]);
                    }
                }
            }
        }
        steps
    }

    /// The host's part of [`Model::most_likely`]: hands the work to the GPU and returns while it is under way. What is
    /// returned gives the token.
    ///
    /// # Errors
    /// As [`Model::logits`].
    #[doc(hidden)]
    pub fn submit_most_likely(&mut self, slot: usize, tokens: &[u32]) -> Result<Submitted> {
        self.launch(slot, tokens, Wanted::Token)
    }

    pub(super) fn check_tokens(&self, slot: usize, tokens: &[u32]) -> Result<()> {
        let n_slots = self.cache.n_slots();
        if slot >= n_slots {
            return Err(Error::option("slot", format!("{slot} is not one of the model's {n_slots}")));
        }
        self.config.check_prompt(tokens)?;
        let room = self.cache.n_positions() - self.cache.length(slot);
        if tokens.len() > room {
            let (length, context) = (tokens.len(), self.cache.n_positions());
            return Err(Error::Prompt(format!("{length} tokens do not fit: {room} of {context} positions are left")));
        }
        Ok(())
    }

    /// Takes the next places of a slot's sequence.
    pub(super) fn append(&mut self, slot: usize, n_rows: usize) -> Vec<Row> {
        let row = |_| Row { slot: slot as u32, position: self.cache.push(slot) as u32 };
        (0..n_rows).map(row).collect()
    }

    /// Opens a submission and writes what its plans will work on.
    pub(super) fn begin(&self, tokens: Option<&[u32]>, rows: &[Row], outputs: &[u32]) -> (Submission, StepSize) {
        assert!(rows.len() <= self.scratch.chunk(), "a step has at most {} rows", self.scratch.chunk());
        assert!(outputs.len() <= SPLIT_ROWS, "a step computes the logits of at most {SPLIT_ROWS} rows");
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        let step = StepSize { rows: rows.len() as u32, outputs: outputs.len() as u32, positions: longest };
        let mut submission = Submission::new(&self.gpu, "step");
        if let Some(tokens) = tokens {
            submission.write(&self.staging, &self.scratch.tokens, bytemuck::cast_slice(tokens));
        }
        let header = StepHeader { n_rows: step.rows, n_outputs: step.outputs };
        let rows: &[u8] = bytemuck::cast_slice(rows);
        submission.write(&self.staging, &self.scratch.step, &[bytemuck::bytes_of(&header), rows].concat());
        if !outputs.is_empty() {
            submission.write(&self.staging, &self.scratch.outputs, bytemuck::cast_slice(outputs));
        }
        (submission, step)
    }
}
