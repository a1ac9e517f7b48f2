//! From logits to probabilities. Sums are f64.

use crate::error::{Error, Result};

/// Fails if a number is NaN or infinite; `what` names them in messages.
pub(crate) fn check_finite(numbers: &[f32], what: &'static str) -> Result<()> {
    // Branch-free, so that the loop runs at memory speed.
    let all_finite = numbers.iter().fold(true, |finite, number| finite & number.is_finite());
    if all_finite { Ok(()) } else { Err(Error::NonFinite(what)) }
}

/// The log-probability of a token among its logits.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// `ln(sum(exp(logits)))`
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln()
}

/// The `count` tokens with the largest logits, best first, equals in token order.
pub(crate) fn largest(logits: &[f32], count: usize) -> Vec<u32> {
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

/// `1 / (1 + exp(-logit))`
pub(crate) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Probabilities that sum to 1.
pub(crate) fn softmax(logits: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
