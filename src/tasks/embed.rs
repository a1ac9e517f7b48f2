//! Text embeddings: last hidden states, pooled.

use crate::error::Result;
use crate::generate::logits::check_finite;
use crate::model::Model;

/// How the hidden states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The last token's, which attends to all others.
    Last,
    /// Their mean.
    Mean,
    /// Their mean, weighted by position: 1 for the first token, 2 for the second, and so on (SGPT; Muennighoff 2022,
    /// arXiv:2202.08904).
    WeightedMean,
}

impl Model {
    /// The embedding of a text: n_embd numbers, not normalised. Works with any class of model. Uses slot 0, whose
    /// sequence is lost.
    ///
    /// # Errors
    /// As [`Model::last_hidden_state`], and [`Error::NonFinite`](crate::Error::NonFinite) if the hidden states are not
    /// finite.
    pub async fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        self.config().check_prompt(tokens)?;
        self.truncate(0, 0);
        let n_embd = self.config().n_embd;
        let mut sum = vec![0.0; n_embd];
        let (mut total, mut position) = (0.0, 0);
        let visit = |states: &[f32]| {
            for state in states.chunks_exact(n_embd) {
                position += 1;
                let weight = match pooling {
                    Pooling::Last => f64::from(u8::from(position == tokens.len())),
                    Pooling::Mean => 1.0,
                    Pooling::WeightedMean => position as f64,
                };
                total += weight;
                for (sum, &state) in sum.iter_mut().zip(state) {
                    *sum += weight * f64::from(state);
                }
            }
        };
        self.last_hidden_state(0, tokens, visit).await?;
        let embedding: Vec<f32> = sum.into_iter().map(|sum| (sum / total) as f32).collect();
        check_finite(&embedding, "the hidden states")?;
        Ok(embedding)
    }
}
