//! Answers that are part of a text: Hugging Face's `GPTJForQuestionAnswering`.

use std::ops::RangeInclusive;

use crate::classify::softmax;
use crate::config::{Class, Config};
use crate::error::{Error, Result};
use crate::model::{LOGITS, Model};
use crate::score::check_finite;

/// Where in a context the answer to a question is.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How likely the answer starts at each token of question and context, as logits.
    pub start_logits: Vec<f32>,
    /// How likely it ends there.
    pub end_logits: Vec<f32>,
    /// The context's tokens that answer best, counted from its first.
    pub span: RangeInclusive<usize>,
    /// The probability that they start there, times the probability that they end there; both among the context's
    /// tokens.
    pub score: f64,
}

impl Config {
    /// Question and context as a model of this configuration reads them, where it can.
    ///
    /// # Errors
    /// As [`Model::answer`].
    pub fn check_question(&self, question: &[u32], context: &[u32], longest: usize) -> Result<Vec<u32>> {
        for (what, tokens) in [("question", question), ("context", context)] {
            if tokens.is_empty() {
                return Err(Error::Prompt(format!("the {what} is empty; it must have at least one token")));
            }
        }
        if longest == 0 {
            return Err(Error::option("max_answer_tokens", "an answer has at least 1 token"));
        }
        let tokens = [question, context].concat();
        self.check_prompt(&tokens)?;
        Ok(tokens)
    }
}

impl Model {
    /// Finds the answer to `question` in `context`, of `longest` tokens at most. The model reads one after the other.
    /// It takes slot 0, whose sequence is lost.
    ///
    /// # Errors
    /// [`Error::Prompt`] where one of the two has no tokens, a token is not in the vocabulary, or together they exceed
    /// the model's context; [`Error::Option`] where `longest` is 0; [`Error::Class`] where the model is of another
    /// class; [`Error::Numbers`] where its logits are not finite; [`Error::OutOfMemory`] where there is no room to read
    /// them; [`Error::Gpu`] where the GPU failed.
    pub async fn answer(&mut self, question: &[u32], context: &[u32], longest: usize) -> Result<Answer> {
        self.expect_class(Class::QuestionAnswering)?;
        let tokens = self.config().check_question(question, context, longest)?;
        self.truncate(0, 0);
        let [mut start_logits, mut end_logits] = [(); 2].map(|()| Vec::with_capacity(tokens.len()));
        let visit = |logits: &[f32]| {
            start_logits.push(logits[0]);
            end_logits.push(logits[1]);
        };
        self.logits_at_every_token(0, &tokens, 0, visit).await?;
        check_finite(&start_logits, LOGITS)?;
        check_finite(&end_logits, LOGITS)?;
        let [starts, ends] = [&start_logits, &end_logits]
            .map(|logits| softmax(logits[question.len()..].iter().map(|&logit| f64::from(logit))));
        let (span, score) = best_span(&starts, &ends, longest);
        Ok(Answer { start_logits, end_logits, span, score })
    }
}

/// The span of up to `longest` tokens whose start and end are likeliest together, the first of equals.
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
