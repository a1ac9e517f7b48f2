//! How likely texts are: log-probabilities, loss and perplexity. All sums are f64, in nats. Each takes slot 0, whose
//! sequence is lost.

use crate::config::{Class, Config};
use crate::error::{Error, Result};
use crate::model::{LOGITS, Model};

/// How likely each token of a text is, given those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The log-probability of each token; the first has none.
    pub log_probabilities: Vec<Option<f64>>,
    /// The most likely tokens at each place with their log-probabilities, best first and the first of equals first;
    /// none at the first.
    pub top: Vec<Vec<(u32, f64)>>,
}

impl Score {
    /// The log-probability of the text, but for its first token.
    pub fn sum(&self) -> f64 {
        // The library's own sum of nothing is minus zero.
        self.log_probabilities.iter().flatten().fold(0.0, |sum, logprob| sum + logprob)
    }

    /// `exp(-sum / n)`, where `n` tokens have a log-probability; `None` where there are none.
    pub fn perplexity(&self) -> Option<f64> {
        let n_scored = self.log_probabilities.iter().flatten().count();
        (n_scored > 0).then(|| (-self.sum() / n_scored as f64).exp())
    }
}

/// How well a model predicts a long text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Tokens that were predicted.
    pub scored: usize,
    /// Their negative log-probabilities together.
    pub nll: f64,
}

impl Perplexity {
    /// `exp(nll / scored)`
    pub fn value(&self) -> f64 {
        (self.nll / self.scored as f64).exp()
    }
}

/// How a text that is longer than the context is cut.
#[derive(Debug, Clone, Copy, Default)]
pub struct Windows {
    /// Tokens of a window at most; `None` for the model's context.
    pub context: Option<usize>,
    /// Tokens from the start of one window to that of the next; `None` for half a window. A token that two windows have
    /// is scored in the first of them.
    pub stride: Option<usize>,
}

/// The label of tokens that do not count for a loss, as PyTorch's `cross_entropy` has it.
pub const IGNORED: i64 = -100;

impl Model {
    /// How likely each of `tokens` is, with the `top` most likely ones at its place. It takes slot 0, whose sequence is
    /// lost.
    ///
    /// # Errors
    /// [`Error::Prompt`] where there are no tokens, one is not in the vocabulary, or they exceed the context;
    /// [`Error::Class`] where the model is no language model; [`Error::Numbers`] where its logits are not finite;
    /// [`Error::OutOfMemory`] where there is no room to read them; [`Error::Gpu`] where the GPU failed.
    pub async fn score(&mut self, tokens: &[u32], top: usize) -> Result<Score> {
        self.expect_class(Class::CausalLm)?;
        self.config().check_prompt(tokens)?;
        let mut score = Score { log_probabilities: vec![None], top: vec![Vec::new()] };
        self.truncate(0, 0);
        let (_, fed) = tokens.split_last().expect("it has been checked");
        if fed.is_empty() {
            return Ok(score);
        }
        let mut next = tokens[1..].iter();
        let visit = |logits: &[f32]| {
            let normaliser = log_sum_exp(logits);
            let token = *next.next().expect("a row for each token but the first");
            score.log_probabilities.push(Some(f64::from(logits[token as usize]) - normaliser));
            let likely = largest(logits, top).into_iter();
            score.top.push(likely.map(|token| (token, f64::from(logits[token as usize]) - normaliser)).collect());
        };
        self.logits_at_every_token(0, fed, 0, visit).await?;
        check(score.sum())?;
        Ok(score)
    }

    /// The mean negative log-probability of `labels`, each given the tokens before its place: transformers' loss.
    /// Labels of [`IGNORED`] and the first one do not count. It takes slot 0, whose sequence is lost.
    ///
    /// # Errors
    /// As [`Model::score`], and [`Error::Option`] where there are not as many labels as tokens, none counts, or one is
    /// not in the vocabulary.
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

    /// How well the model predicts `tokens`, which may be more than its context: window by window. It takes slot 0,
    /// whose sequence is lost. `progress` hears how many of them are done with.
    ///
    /// # Errors
    /// As [`Model::score`], and [`Error::Option`] where a window is longer than the context, shorter than two tokens,
    /// or shorter than the stride.
    pub async fn perplexity(
        &mut self,
        tokens: &[u32],
        windows: Windows,
        mut progress: impl FnMut(usize),
    ) -> Result<Perplexity> {
        self.expect_class(Class::CausalLm)?;
        let (context, stride) = windows.check(tokens, self.config())?;
        let mut perplexity = Perplexity { scored: 0, nll: 0.0 };
        let mut done = 0;
        for begin in (0..tokens.len()).step_by(stride) {
            let end = (begin + context).min(tokens.len());
            // What is first in its window has nothing that it could be predicted from.
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
            progress(done);
            if done == tokens.len() {
                break;
            }
        }
        Ok(perplexity)
    }
}

impl Windows {
    /// The tokens of a window and of a stride for this text, where a model of this configuration can take it.
    ///
    /// # Errors
    /// [`Error::Option`] where one of them is out of its range; [`Error::Prompt`] where the text has too few tokens, or
    /// one that is not in the vocabulary.
    pub fn check(self, tokens: &[u32], config: &Config) -> Result<(usize, usize)> {
        if tokens.len() < 2 {
            let reason = format!("the text has {} tokens; it takes two at least to predict one", tokens.len());
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

/// A sum of log-probabilities, unless one of them is no number.
fn check(sum: f64) -> Result<f64> {
    if sum.is_finite() { Ok(sum) } else { Err(Error::Numbers(LOGITS)) }
}

/// Fails where some of `numbers` are none; `what` is what messages call them.
pub(crate) fn check_finite(numbers: &[f32], what: &'static str) -> Result<()> {
    // Without a branch in the loop it runs at the speed of memory.
    let all_finite = numbers.iter().fold(true, |finite, number| finite & number.is_finite());
    if all_finite { Ok(()) } else { Err(Error::Numbers(what)) }
}

/// The log-probability of a token among its logits.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// `ln(sum(exp(logits)))`
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln()
}

/// The `count` tokens of the largest logits, best first and the first of equals first.
fn largest(logits: &[f32], count: usize) -> Vec<u32> {
    let count = count.min(logits.len());
    let better = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    if count > 0 {
        tokens.select_nth_unstable_by(count - 1, better);
    }
    tokens.truncate(count);
    tokens.sort_unstable_by(better);
    tokens
}
