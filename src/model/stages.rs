//! The activations of every stage of the pass, for finding out where two implementations part.

use super::Model;
use crate::error::Result;
use crate::regime::SPLIT_ROWS;

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
        let rows = self.append(slot, tokens.len());
        self.prepare(rows.len(), SPLIT_ROWS);
        let mut hidden = Vec::new();
        for plan in self.body(rows.len()) {
            let (mut submission, step) = self.begin(Some(tokens), &rows, &[]);
            submission.run([plan], step);
            submission.submit();
            hidden.push(self.scratch.x.read(&self.gpu, rows.len()).await?);
        }
        let [mut ln_f, mut logits] = [Vec::new(), Vec::new()];
        let every_row: Vec<u32> = (0..rows.len() as u32).collect();
        for outputs in every_row.chunks(SPLIT_ROWS) {
            let (mut submission, step) = self.begin(Some(tokens), &rows, outputs);
            submission.run(self.head(SPLIT_ROWS), step);
            submission.submit();
            ln_f.extend(self.scratch.ln_f.read::<f32>(&self.gpu, outputs.len()).await?);
            logits.extend(self.scratch.logits.read::<f32>(&self.gpu, outputs.len()).await?);
        }
        Ok(Stages { hidden, ln_f, logits })
    }
}
