//! Extractive question answering: Hugging Face's `GPTJForQuestionAnswering`.

use std::ops::RangeInclusive;

use crate::error::{Error, LOGITS, Result};
use crate::generate::logits::{check_finite, softmax};
use crate::model::Model;
use gptj_checkpoint::{Class, Config};

/// The span of a context that answers a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The logits of the answer's start, at each token of question and context.
    pub start_logits: Vec<f32>,
    /// The logits of its end.
    pub end_logits: Vec<f32>,
    /// The best answer, as indices of the context's tokens.
    pub span: RangeInclusive<usize>,
    /// The probability of its start times that of its end, both among the context's tokens.
    pub score: f64,
}

/// The input tokens for a model of this configuration: the question, then the context.
///
/// # Errors
/// As [`Model::answer`].
pub fn answer_tokens(config: &Config, question: &[u32], context: &[u32], longest: usize) -> Result<Vec<u32>> {
    for (what, tokens) in [("question", question), ("context", context)] {
        if tokens.is_empty() {
            return Err(Error::Prompt(format!("the {what} is empty; it must have at least one token")));
        }
    }
    if longest == 0 {
        return Err(Error::option("max_answer_tokens", "an answer has at least 1 token"));
    }
    let tokens = [question, context].concat();
    config.check_prompt(&tokens)?;
    Ok(tokens)
}

impl Model {
    /// Finds the answer to `question` in `context`, of at most `longest` tokens. The model reads the question, then the
    /// context, in slot 0, whose sequence is lost.
    ///
    /// # Errors
    /// As [`Model::logits_at_every_token`]; [`Error::Prompt`] also if either has no tokens; [`Error::Option`] if
    /// `longest` is 0; [`Error::Class`] if the model is of another class; [`Error::NonFinite`] if its logits are not
    /// finite.
    pub async fn answer(&mut self, question: &[u32], context: &[u32], longest: usize) -> Result<Answer> {
        self.expect_class(Class::QuestionAnswering)?;
        let tokens = answer_tokens(self.config(), question, context, longest)?;
        self.truncate(0, 0);
        let mut start_logits = Vec::with_capacity(tokens.len());
        let mut end_logits = Vec::with_capacity(tokens.len());
        let visit = |logits: &[f32]| {
            start_logits.push(logits[0]);
            end_logits.push(logits[1]);
        };
        self.logits_at_every_token(0, &tokens, 0, visit).await?;
        check_finite(&start_logits, LOGITS)?;
        check_finite(&end_logits, LOGITS)?;
        let in_context = |logits: &[f32]| softmax(logits[question.len()..].iter().map(|&logit| f64::from(logit)));
        let (span, score) = best_span(&in_context(&start_logits), &in_context(&end_logits), longest);
        Ok(Answer { start_logits, end_logits, span, score })
    }
}

/// The span of at most `longest` tokens with the largest product of start and end, the first of equals.
fn best_span(starts: &[f64], ends: &[f64], longest: usize) -> (RangeInclusive<usize>, f64) {
    let mut best = (0..=0, starts[0] * ends[0]);
    for (start, start_probability) in starts.iter().enumerate() {
        for (end, end_probability) in ends.iter().enumerate().skip(start).take(longest) {
            let score = start_probability * end_probability;
            if score > best.1 {
                best = (start..=end, score);
            }
        }
    }
    best
}
