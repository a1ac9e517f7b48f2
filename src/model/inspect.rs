//! The pass from inside: logits and hidden states of every token, each layer's output, and attention weights.

use super::Model;
use crate::error::Result;
use crate::gpu::{Dtype, Plan, Readback, Submitted, Tensor};
use crate::kernels::{Row, SPLIT_ROWS};

/// Every layer's output for some tokens.
pub struct Stages {
    /// The embedding and the residual stream after each block but the last, then the last after the final layer norm:
    /// transformers' `hidden_states`. Each (tokens, n_embd).
    pub hidden_states: Vec<Vec<f32>>,
    /// The residual stream after the last block, before the final layer norm; transformers does not return it.
    pub last_block: Vec<f32>,
    /// The attention weights of each block: transformers' `attentions`. Each (n_head, tokens, positions); the positions
    /// that the slot held before come first, and weights of positions after the token are zero. Empty unless asked for.
    /// All of it is in memory: n_layer * n_head * tokens * positions * 4 bytes.
    pub attentions: Vec<Vec<f32>>,
}

impl Model {
    /// Appends `tokens` to a slot's sequence and calls `visit` with the logits at each of them in turn, from the token
    /// with index `first` on: [`Config::head_features`](crate::Config::head_features) numbers. Only a few rows of
    /// logits are in memory at a time.
    ///
    /// # Errors
    /// As [`Model::logits`], and [`Error::OutOfMemory`](crate::Error::OutOfMemory) if there is no memory to read them.
    pub async fn logits_at_every_token(
        &mut self,
        slot: usize,
        tokens: &[u32],
        first: usize,
        mut visit: impl FnMut(&[f32]),
    ) -> Result<()> {
        self.expect_head()?;
        self.check_tokens(slot, tokens)?;
        let (width, row_bytes) = (self.config.head_features(), self.scratch.logits.row_bytes());
        let bytes = (tokens.len().min(SPLIT_ROWS) * row_bytes) as u64;
        let mut readbacks =
            [Readback::new(&self.gpu, "readback", bytes).await?, Readback::new(&self.gpu, "readback", bytes).await?];
        let padded = row_bytes / size_of::<f32>();
        let mut visit_rows = async |submitted: Submitted| -> Result<()> {
            let logits: Vec<f32> = submitted.take().await?;
            for row in logits.chunks_exact(padded) {
                visit(&row[..width]);
            }
            Ok(())
        };
        // While the host visits the logits of some rows, the GPU computes the next ones.
        let mut pending: Option<Submitted> = None;
        for (index, chunk) in tokens.chunks(self.scratch.chunk()).enumerate() {
            let rows = self.run_body(slot, chunk);
            let skipped = first.saturating_sub(index * self.scratch.chunk()).min(rows.len());
            let visited: Vec<u32> = (skipped as u32..rows.len() as u32).collect();
            for outputs in visited.chunks(SPLIT_ROWS) {
                self.prepare(rows.len(), outputs.len());
                let (mut submission, step) = self.begin(None, &rows, outputs);
                submission.run(self.head(outputs.len()), step);
                readbacks.swap(0, 1);
                submission.read(&self.scratch.logits, (outputs.len() * row_bytes) as u64, &readbacks[0]);
                let submitted = submission.submit();
                if let Some(earlier) = pending.replace(submitted) {
                    visit_rows(earlier).await?;
                }
            }
        }
        match pending {
            Some(last) => visit_rows(last).await,
            None => Ok(()),
        }
    }

    /// Appends `tokens` to a slot's sequence and calls `visit` with their last hidden states, after the final layer
    /// norm, some rows of n_embd numbers at a time: transformers' `last_hidden_state`.
    ///
    /// # Errors
    /// As [`Model::logits`], and [`Error::OutOfMemory`](crate::Error::OutOfMemory) if there is no memory to read them.
    pub async fn last_hidden_state(
        &mut self,
        slot: usize,
        tokens: &[u32],
        mut visit: impl FnMut(&[f32]),
    ) -> Result<()> {
        self.check_tokens(slot, tokens)?;
        let ln_f = self.record_ln_f();
        for chunk in tokens.chunks(self.scratch.chunk()) {
            let rows = self.run_body(slot, chunk);
            visit(&self.normed(&ln_f, &rows).await?);
        }
        Ok(())
    }

    /// Appends `tokens` to a slot's sequence and returns every layer's output for them: to inspect, or to find the
    /// layer at which two implementations diverge. Slow, as it runs one block at a time.
    ///
    /// # Errors
    /// As [`Model::last_hidden_state`], also if there is no memory for the attention weights of a few rows.
    pub async fn stages(&mut self, slot: usize, tokens: &[u32], attentions: bool) -> Result<Stages> {
        self.check_tokens(slot, tokens)?;
        let ln_f = self.record_ln_f();
        let probe = if attentions { Some(AttentionProbe::new(self).await?) } else { None };
        let n_positions = self.cache.length(slot) + tokens.len();
        let n_layer = self.config.n_layer;
        let mut stages = Stages {
            hidden_states: vec![Vec::new(); n_layer + 1],
            last_block: Vec::new(),
            attentions: vec![
                vec![0.0; self.config.n_head * tokens.len() * n_positions];
                if attentions { n_layer } else { 0 }
            ],
        };
        let chunk = if attentions { SPLIT_ROWS } else { self.scratch.chunk() };
        for tokens in tokens.chunks(chunk) {
            let rows = self.append(slot, tokens.len());
            self.prepare(rows.len(), 0);
            for (stage, plan) in self.body(rows.len()).enumerate() {
                let (mut submission, step) = self.begin(Some(tokens), &rows, &[]);
                submission.run([plan], step);
                submission.submit();
                let x = self.scratch.x.read::<f32>(&self.gpu, rows.len()).await?;
                let hidden = stages.hidden_states[..n_layer].get_mut(stage);
                hidden.unwrap_or(&mut stages.last_block).extend(x);
                if let (Some(probe), Some(block)) = (&probe, stage.checked_sub(1)) {
                    probe.read(self, block, &rows, n_positions, &mut stages.attentions[block]).await?;
                }
            }
            stages.hidden_states[n_layer].extend(self.normed(&ln_f, &rows).await?);
        }
        Ok(stages)
    }

    /// Runs a chunk up to the end of the residual stream.
    fn run_body(&mut self, slot: usize, chunk: &[u32]) -> Vec<Row> {
        let rows = self.append(slot, chunk.len());
        self.prepare(rows.len(), 0);
        let (submission, step) = self.begin(Some(chunk), &rows, &[]);
        self.submit_body(submission, step).submit();
        rows
    }

    /// `normed = ln_f(x)`, for every row.
    fn record_ln_f(&self) -> Plan {
        let mut plan = Plan::default();
        plan.run(self.kernels.layer_norm(&self.scratch.x, &self.weights.ln_f, &self.scratch.normed));
        plan
    }

    async fn normed(&self, ln_f: &Plan, rows: &[Row]) -> Result<Vec<f32>> {
        let (mut submission, step) = self.begin(None, rows, &[]);
        submission.run([ln_f], step);
        submission.submit();
        self.scratch.normed.read(&self.gpu, rows.len()).await
    }
}

/// Recomputes attention weights, which the pass does not keep.
struct AttentionProbe {
    /// One per block.
    plans: Vec<Plan>,
    /// (rows, n_head, capacity)
    weights: Tensor,
}

impl AttentionProbe {
    async fn new(model: &Model) -> Result<Self> {
        let Model { gpu, config, cache, scratch, kernels, .. } = model;
        let width = SPLIT_ROWS * config.n_head * cache.capacity();
        let weights = Tensor::whole(gpu, "attention weights", 1, width, Dtype::F32).await?;
        let record = |layer| {
            let mut plan = Plan::default();
            let layer = cache.layer(layer);
            plan.run(kernels.attention_weights(&scratch.step, &scratch.activations, layer, &weights));
            plan
        };
        Ok(Self { plans: (0..config.n_layer).map(record).collect(), weights })
    }

    /// Copies the weights of some rows, whose block has just run, into `attentions`: (n_head, tokens, n_positions). The
    /// tokens are the last of the positions.
    async fn read(
        &self,
        model: &Model,
        block: usize,
        rows: &[Row],
        n_positions: usize,
        attentions: &mut [f32],
    ) -> Result<()> {
        let (mut submission, step) = model.begin(None, rows, &[]);
        submission.run([&self.plans[block]], step);
        submission.submit();
        let weights: Vec<f32> = self.weights.read(&model.gpu, 1).await?;
        let (n_head, capacity) = (model.config.n_head, model.cache.capacity());
        let n_tokens = attentions.len() / n_head / n_positions;
        for (row, of_row) in rows.iter().zip(weights.chunks_exact(n_head * capacity)) {
            let token = row.position as usize + n_tokens - n_positions;
            for (head, of_head) in of_row.chunks_exact(capacity).enumerate() {
                let seen = &of_head[..=row.position as usize];
                attentions[(head * n_tokens + token) * n_positions..][..seen.len()].copy_from_slice(seen);
            }
        }
        Ok(())
    }
}
