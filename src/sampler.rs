//! From logits to a token: Hugging Face's logits processors, in their order and with their formulas, then a seeded
//! draw.
//!
//! The order is that of `transformers`' `generate()`: repetition penalty, temperature, top-k, top-p. A token that is
//! ruled out has a logit of minus infinity.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::error::{Error, Result};

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Take the most likely token; the options below it, but for the repetition penalty, play no part.
    pub greedy: bool,
    /// Divides the logits: below 1 sharpens the distribution, above 1 flattens it.
    pub temperature: f32,
    /// Keep this many of the most likely tokens (more where the last ones tie); 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Divides the positive logits and multiplies the negative ones of every token that is in the text already
    /// (Keskar et al. 2019, arXiv:1909.05858); 1 does nothing.
    pub repetition_penalty: f32,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// Hugging Face's defaults for `do_sample=True`, and seed 0.
    fn default() -> Self {
        Self { greedy: false, temperature: 1.0, top_k: 50, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl SamplingOptions {
    /// Whether every option is in its range.
    ///
    /// # Errors
    /// [`Error::Option`] for the first that is not.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let reason =
                format!("{} is not a positive number; for the most likely token, ask for greedy", self.temperature);
            return Err(Error::option("temperature", reason));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::option("top_p", format!("{} is not above 0 and at most 1", self.top_p)));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            let reason = format!("{} is not a positive number; 1 means none", self.repetition_penalty);
            return Err(Error::option("repetition_penalty", reason));
        }
        Ok(())
    }

    /// Whether the choice is simply the largest logit, which the GPU can find itself.
    pub fn is_plain_greedy(&self) -> bool {
        self.greedy && self.repetition_penalty == 1.0
    }
}

/// Chooses tokens; the same options and logits give the same tokens.
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the beginning of its seed's numbers. The options are in their ranges
    /// ([`SamplingOptions::check`]).
    pub fn new(options: SamplingOptions) -> Self {
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        Self { options, random }
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Chooses the token that follows `history`, prompt and generated tokens alike.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> u32 {
        repetition_penalty(logits, history, self.options.repetition_penalty);
        if self.options.greedy {
            return argmax(logits);
        }
        temperature(logits, self.options.temperature);
        top_k(logits, self.options.top_k);
        top_p(logits, self.options.top_p);
        let draw: f64 = self.random.random();
        multinomial(logits, draw)
    }
}

/// For each distinct token of `history`: a positive logit is divided by `penalty`, a negative one multiplied.
pub fn repetition_penalty(logits: &mut [f32], history: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut tokens = history.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    for token in tokens {
        let logit = &mut logits[token as usize];
        *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
    }
}

/// `logit / temperature`
pub fn temperature(logits: &mut [f32], temperature: f32) {
    for logit in logits {
        *logit /= temperature;
    }
}

/// Rules out what is below the `k`-th largest logit; 0 rules out nothing.
pub fn top_k(logits: &mut [f32], k: usize) {
    if k == 0 || k >= logits.len() {
        return;
    }
    let mut sorted = logits.to_vec();
    let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let kth = *kth;
    for logit in logits {
        if *logit < kth {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Rules out the least likely tokens as long as their probabilities together stay within `1 - p`; the most likely
/// one always stays.
pub fn top_p(logits: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let mut ascending: Vec<u32> = (0..logits.len() as u32).collect();
    ascending.sort_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
    let sorted: Vec<f32> = ascending.iter().map(|&token| logits[token as usize]).collect();
    let mut cumulative = 0.0;
    for (&token, probability) in ascending.iter().zip(softmax(&sorted)).take(logits.len() - 1) {
        cumulative += probability;
        if cumulative > f64::from(1.0 - p) {
            break;
        }
        logits[token as usize] = f32::NEG_INFINITY;
    }
}

/// The first token of the largest logit.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// The token at `draw`, from 0 to 1, of the cumulative distribution.
fn multinomial(logits: &[f32], draw: f64) -> u32 {
    let probabilities: Vec<f64> = softmax(logits).collect();
    let mut cumulative = 0.0;
    for (token, probability) in probabilities.iter().enumerate() {
        cumulative += probability;
        if draw < cumulative {
            return token as u32;
        }
    }
    // Rounding left the sum below the draw.
    probabilities.iter().rposition(|&probability| probability > 0.0).unwrap_or(0) as u32
}

fn softmax(logits: &[f32]) -> impl Iterator<Item = f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = move |logit: &f32| (f64::from(*logit) - largest).exp();
    let sum: f64 = logits.iter().map(weight).sum();
    logits.iter().map(move |logit| weight(logit) / sum)
}
