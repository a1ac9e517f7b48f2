//! Several sequences at once: a row of each in every step.

use super::{FEW_ROWS, Model};
use crate::error::Result;

impl Model {
    /// Appends one token to each of some sequences, given by their slots, and returns the most likely next token of each.
    /// All of it is one step, so that the weights serve every sequence.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn most_likely_of_each(&mut self, next: &[(usize, u32)]) -> Result<Vec<u32>> {
        for &(slot, token) in next {
            self.check_tokens(slot, &[token])?;
        }
        let rows: Vec<_> = next.iter().flat_map(|&(slot, token)| self.append(slot, &[token])).collect();
        let indices: Vec<u32> = (0..rows.len() as u32).collect();
        let mut tokens = Vec::new();
        for outputs in indices.chunks(FEW_ROWS) {
            let (submission, step) = if tokens.is_empty() {
                self.step(&rows, outputs)
            } else {
                // The blocks are done; what is left is the head for more of their rows.
                let (mut submission, step) = self.begin(&rows, outputs);
                submission.run([&self.plans(rows.len()).head], step);
                (submission, step)
            };
            self.submit_argmax(submission, step);
            tokens.extend(self.take_most_likely(outputs.len()).await?);
        }
        Ok(tokens)
    }
}
