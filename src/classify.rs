//! Labels of texts: Hugging Face's `GPTJForSequenceClassification`.

use crate::config::{Class, Config, ProblemType};
use crate::error::Result;
use crate::model::{LOGITS, Model};
use crate::score::check_finite;

/// What a model thinks of a text, a number for each of [`Config::labels`].
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// What its head made of the text.
    pub logits: Vec<f32>,
    /// What they mean, as in transformers' pipeline: probabilities that sum to 1 where one of the labels is right, a
    /// probability each where any of them may be, and the logits themselves of a regression.
    pub scores: Vec<f64>,
}

impl Classification {
    /// The index of the label with the highest score, the first of equals.
    pub fn best(&self) -> usize {
        crate::sampler::argmax(&self.logits) as usize
    }
}

impl Model {
    /// Classifies a text. It is read at its last token, or where the configuration has a `pad_token_id`, at its last
    /// one that is another; what follows does not matter. It takes slot 0, whose sequence is lost.
    ///
    /// # Errors
    /// [`Error::Prompt`](crate::Error::Prompt) where there are no tokens, one is not in the vocabulary, or they exceed
    /// the context; [`Error::Class`](crate::Error::Class) where the model is of another class;
    /// [`Error::Numbers`](crate::Error::Numbers) where its logits are not finite; [`Error::Gpu`](crate::Error::Gpu)
    /// where the GPU failed.
    pub async fn classify(&mut self, tokens: &[u32]) -> Result<Classification> {
        self.expect_class(Class::SequenceClassification)?;
        self.config().check_prompt(tokens)?;
        let is_text = |&token: &u32| Some(token) != self.config().pad_token_id;
        // As in transformers, a text of nothing but padding is read at its first token.
        let last = tokens.iter().rposition(is_text).unwrap_or(0);
        self.truncate(0, 0);
        let logits = self.logits(0, &tokens[..=last]).await?;
        check_finite(&logits, LOGITS)?;
        let scores = scores(&logits, self.config());
        Ok(Classification { logits, scores })
    }
}

fn scores(logits: &[f32], config: &Config) -> Vec<f64> {
    let logits = logits.iter().map(|&logit| f64::from(logit));
    match config.problem_type {
        Some(ProblemType::Regression) => logits.collect(),
        Some(ProblemType::MultiLabelClassification) => logits.map(sigmoid).collect(),
        _ if config.labels.len() == 1 => logits.map(sigmoid).collect(),
        _ => softmax(logits),
    }
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Probabilities that sum to 1.
pub(crate) fn softmax(logits: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
