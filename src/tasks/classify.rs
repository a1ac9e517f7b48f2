//! Classification of texts: Hugging Face's `GPTJForSequenceClassification`.

use crate::error::{LOGITS, Result};
use crate::generate::argmax;
use crate::generate::logits::{check_finite, sigmoid, softmax};
use crate::model::Model;
use gptj_checkpoint::{Class, Config, ProblemType};

/// A text's logits and scores, one for each of [`Config::labels`].
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// The head's output.
    pub logits: Vec<f32>,
    /// As in transformers' pipeline: probabilities that sum to 1 if exactly one label is right, independent
    /// probabilities if any number of them may be, and the logits themselves for a regression.
    pub scores: Vec<f64>,
}

impl Classification {
    /// The index of the label with the highest score, the first of equals.
    pub fn best(&self) -> usize {
        argmax(&self.logits) as usize
    }
}

impl Model {
    /// Classifies a text by its last token or, if the configuration has a `pad_token_id`, its last non-pad token; later
    /// tokens are ignored. Uses slot 0, whose sequence is lost.
    ///
    /// # Errors
    /// As [`Model::logits`]; [`Error::Class`](crate::Error::Class) if the model is of another class;
    /// [`Error::NonFinite`](crate::Error::NonFinite) if its logits are not finite.
    pub async fn classify(&mut self, tokens: &[u32]) -> Result<Classification> {
        self.expect_class(Class::SequenceClassification)?;
        self.config().check_prompt(tokens)?;
        let is_not_pad = |&token: &u32| Some(token) != self.config().pad_token_id;
        // As in transformers, a text of only pad tokens is classified by its first one.
        let last = tokens.iter().rposition(is_not_pad).unwrap_or(0);
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
