//! Log-probabilities, loss and perplexity of texts. All sums are f64, in nats. All use slot 0, whose sequence is lost.

use crate::error::{Error, LOGITS, Result};
use crate::generate::logits::{largest, log_probability, log_sum_exp};
use crate::model::Model;
use std::ops::ControlFlow;

use gptj_checkpoint::{Class, Config};

/// The log-probabilities of a text's tokens, each given those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// One per token; the first has none.
    pub log_probabilities: Vec<Option<f64>>,
    /// The most likely tokens at each position with their log-probabilities, best first, equals in token order; empty
    /// at the first.
    pub top: Vec<Vec<(u32, f64)>>,
}

impl Score {
    /// The log-probability of the text given its first token.
    pub fn sum(&self) -> f64 {
        // `Iterator::sum` of no floats is -0.0.
        self.log_probabilities.iter().flatten().fold(0.0, |sum, logprob| sum + logprob)
    }

    /// `exp(-sum / n)`, where `n` tokens have a log-probability; `None` if n is 0.
    pub fn perplexity(&self) -> Option<f64> {
        let n_scored = self.log_probabilities.iter().flatten().count();
        (n_scored > 0).then(|| (-self.sum() / n_scored as f64).exp())
    }
}

/// How well a model predicts a long text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// The number of predicted tokens.
    pub scored: usize,
    /// The sum of their negative log-probabilities.
    pub nll: f64,
}

impl Perplexity {
    /// `exp(nll / scored)`
    pub fn value(&self) -> f64 {
        (self.nll / self.scored as f64).exp()
    }
}

/// How a text is cut into windows, as it may be longer than the context.
#[derive(Debug, Clone, Copy, Default)]
pub struct Windows {
    /// The most tokens of a window; `None` for the model's context.
    pub context: Option<usize>,
    /// Tokens from the start of one window to that of the next; `None` for half a window. A token in two windows is
    /// scored in the first.
    pub stride: Option<usize>,
}

/// The label of tokens that a loss ignores, as in PyTorch's `cross_entropy`.
pub const IGNORED: i64 = -100;

impl Model {
    /// The log-probability of each of `tokens`, with the `top` most likely tokens at each position. Uses slot 0, whose
    /// sequence is lost.
    ///
    /// # Errors
    /// As [`Model::logits_at_every_token`]; [`Error::Class`] if the model is not a language model;
    /// [`Error::NonFinite`] if its logits are not finite.
    pub async fn score(&mut self, tokens: &[u32], top: usize) -> Result<Score> {
        self.expect_class(Class::CausalLm)?;
        self.config().check_prompt(tokens)?;
        let mut score = Score { log_probabilities: vec![None], top: vec![Vec::new()] };
        self.truncate(0, 0);
        let (_, fed) = tokens.split_last().expect("check_prompt refuses an empty one");
        if fed.is_empty() {
            return Ok(score);
        }
        let mut next = tokens[1..].iter();
        let visit = |logits: &[f32]| {
            let normaliser = log_sum_exp(logits);
            let token = *next.next().expect("a row for each token but the first");
            score.log_probabilities.push(Some(f64::from(logits[token as usize]) - normaliser));
            let most_likely = largest(logits, top).into_iter();
            score.top.push(most_likely.map(|token| (token, f64::from(logits[token as usize]) - normaliser)).collect());
        };
        self.logits_at_every_token(0, fed, 0, visit).await?;
        check(score.sum())?;
        Ok(score)
    }

    /// The mean negative log-probability of `labels`, each given the tokens before its position: transformers' loss.
    /// The first label and all that are [`IGNORED`] do not count. Uses slot 0, whose sequence is lost.
    ///
    /// # Errors
    /// As [`Model::score`], and [`Error::Option`] if there are not as many labels as tokens, none counts, or one is not
    /// in the vocabulary.
    pub async fn loss(&mut self, tokens: &[u32], labels: &[i64]) -> Result<f64> {
        self.expect_class(Class::CausalLm)?;
        self.config().check_prompt(tokens)?;
        let refuse = |reason: String| Err(Error::option("labels", reason));
        if labels.len() != tokens.len() {
            return refuse(format!("there are {} for {} tokens", labels.len(), tokens.len()));
        }
        let vocab_size = self.config().vocab_size;
        let is_label = |label: i64| label == IGNORED || usize::try_from(label).is_ok_and(|label| label < vocab_size);
        if let Some(label) = labels.iter().find(|&&label| !is_label(label)) {
            return refuse(format!("{label} is neither in the vocabulary of {vocab_size} tokens nor {IGNORED}"));
        }
        let n_counted = labels[1..].iter().filter(|&&label| label != IGNORED).count();
        if n_counted == 0 {
            return refuse("none of them counts; the first never does".to_owned());
        }
        self.truncate(0, 0);
        let mut sum = 0.0;
        let mut labels = labels[1..].iter();
        let visit = |logits: &[f32]| {
            let &label = labels.next().expect("a row for each label but the first");
            if label != IGNORED {
                sum -= log_probability(logits, label as u32);
            }
        };
        self.logits_at_every_token(0, &tokens[..tokens.len() - 1], 0, visit).await?;
        check(sum / n_counted as f64)
    }

    /// The perplexity of `tokens`, which may be more than the model's context: window by window. Uses slot 0, whose
    /// sequence is lost. `progress` gets the number of tokens done so far.
    ///
    /// # Errors
    /// As [`Model::score`] and [`Windows::check`].
    pub async fn perplexity(
        &mut self,
        tokens: &[u32],
        windows: Windows,
        mut progress: impl FnMut(usize),
    ) -> Result<Perplexity> {
        let go_on = |done: usize, _: Perplexity| {
            progress(done);
            ControlFlow::Continue(())
        };
        self.perplexity_while(tokens, windows, go_on).await
    }

    /// The same, until `progress` breaks; it also gets the result so far after each window. The result is that of the
    /// windows that were read.
    ///
    /// # Errors
    /// As [`Model::perplexity`].
    pub async fn perplexity_while(
        &mut self,
        tokens: &[u32],
        windows: Windows,
        mut progress: impl FnMut(usize, Perplexity) -> ControlFlow<()>,
    ) -> Result<Perplexity> {
        self.expect_class(Class::CausalLm)?;
        let (context, stride) = windows.check(tokens, self.config())?;
        let mut perplexity = Perplexity { scored: 0, nll: 0.0 };
        let mut done = 0;
        for begin in (0..tokens.len()).step_by(stride) {
            let end = (begin + context).min(tokens.len());
            // A window's first token has no tokens before it to be predicted from.
            let first = done.max(begin + 1);
            if first < end {
                self.truncate(0, 0);
                let mut targets = tokens[first..end].iter();
                let visit = |logits: &[f32]| {
                    let target = *targets.next().expect("a row for each target");
                    perplexity.nll -= log_probability(logits, target);
                    perplexity.scored += 1;
                };
                self.logits_at_every_token(0, &tokens[begin..end - 1], first - 1 - begin, visit).await?;
            }
            check(perplexity.nll)?;
            done = end;
            if progress(done, perplexity).is_break() || done == tokens.len() {
                break;
            }
        }
        Ok(perplexity)
    }
}

impl Windows {
    /// The tokens of a window and of a stride, if they work for this text and configuration.
    ///
    /// # Errors
    /// [`Error::Option`] if a window is longer than the context, shorter than two tokens, or shorter than the stride;
    /// [`Error::Prompt`] if the text has fewer than two tokens, or one that is not in the vocabulary.
    pub fn check(self, tokens: &[u32], config: &Config) -> Result<(usize, usize)> {
        if tokens.len() < 2 {
            let reason = format!("the text has {} tokens; it needs at least 2", tokens.len());
            return Err(Error::Prompt(reason));
        }
        config.check_tokens(tokens)?;
        let n_positions = config.n_positions;
        let context = self.context.unwrap_or(n_positions);
        if !(2..=n_positions).contains(&context) {
            let reason = format!("{context} is not between 2 and the model's {n_positions} positions");
            return Err(Error::option("context", reason));
        }
        let stride = self.stride.unwrap_or(context / 2);
        if !(1..=context).contains(&stride) {
            return Err(Error::option(
                "stride",
                format!("{stride} is not between 1 and the window's {context} tokens"),
            ));
        }
        Ok((context, stride))
    }
}

/// Fails unless a sum of log-probabilities is finite.
fn check(sum: f64) -> Result<f64> {
    if sum.is_finite() { Ok(sum) } else { Err(Error::NonFinite(LOGITS)) }
}
