//! Hugging Face's logits processors, one function each, and the two penalties of OpenAI's API.
//!
//! Each changes the logits of one position in place. Ruling a token out sets its logit to minus infinity; later
//! processors skip it. Formulas and names are those of `transformers/generation/logits_process.py`; sums of
//! probabilities are f64 here.

use std::collections::{BTreeMap, BTreeSet};

/// The tokens before the one to choose, and the limits of their text.
#[derive(Debug, Clone, Copy)]
pub struct TokenHistory<'a> {
    /// Prompt and generated tokens.
    pub tokens: &'a [u32],
    /// The number of them that are the prompt.
    pub prompt_length: usize,
    /// The most tokens that the text may have.
    pub max_length: usize,
    /// The tokens that end the text.
    pub end_of_text: &'a [u32],
}

impl TokenHistory<'_> {
    /// The generated tokens.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_length..]
    }
}

/// `logit + bias` for each token that has one (`SequenceBiasLogitsProcessor` for sequences of one token).
pub fn logit_bias(logits: &mut [f32], biases: &BTreeMap<u32, f32>) {
    for (&token, bias) in biases {
        logits[token as usize] += bias;
    }
}

/// For each distinct token of the text: a positive logit is divided by `penalty`, a negative one multiplied (Keskar et
/// al. 2019, arXiv:1909.05858).
pub fn repetition_penalty(logits: &mut [f32], history: TokenHistory<'_>, penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    for token in counts(history.tokens).into_keys() {
        change(&mut logits[token as usize], |logit| if logit < 0.0 { logit * penalty } else { logit / penalty });
    }
}

/// `logit - presence - frequency * count` for each distinct generated token, where `count` is how often it was
/// generated (OpenAI's API reference).
pub fn presence_and_frequency_penalty(logits: &mut [f32], history: TokenHistory<'_>, presence: f32, frequency: f32) {
    if presence == 0.0 && frequency == 0.0 {
        return;
    }
    for (token, count) in counts(history.generated()) {
        change(&mut logits[token as usize], |logit| logit - (count as f32 * frequency + presence));
    }
}

/// Changes the logit of a token that is not ruled out. It stays finite: two infinite logits would have no
/// probabilities.
fn change(logit: &mut f32, changed: impl FnOnce(f32) -> f32) {
    if logit.is_finite() {
        *logit = changed(*logit).clamp(f32::MIN, f32::MAX);
    }
}

fn counts(tokens: &[u32]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for &token in tokens {
        *counts.entry(token).or_default() += 1;
    }
    counts
}

/// Rules out tokens that would complete an n-gram of `size` tokens that the text already has; 0 rules out nothing.
pub fn no_repeat_ngram(logits: &mut [f32], history: TokenHistory<'_>, size: usize) {
    let Some(prefix) = size.checked_sub(1).and_then(|length| history.tokens.len().checked_sub(length)) else { return };
    let prefix = &history.tokens[prefix..];
    for ngram in history.tokens.windows(size) {
        if let Some((&last, start)) = ngram.split_last()
            && start == prefix
        {
            logits[last as usize] = f32::NEG_INFINITY;
        }
    }
}

/// Rules out the last token of each word if the text ends with the word's other tokens. A word of a single end-of-text
/// token is ignored.
pub fn bad_words(logits: &mut [f32], history: TokenHistory<'_>, words: &[Vec<u32>]) {
    for word in words {
        let Some((&last, start)) = word.split_last() else { continue };
        let is_end = start.is_empty() && history.end_of_text.contains(&last);
        if history.tokens.ends_with(start) && !is_end {
            logits[last as usize] = f32::NEG_INFINITY;
        }
    }
}

/// Rules out the end of the text before `min_new_tokens` generated tokens; or, if that is 0, before `min_length`
/// tokens.
pub fn min_length(logits: &mut [f32], history: TokenHistory<'_>, min_length: usize, min_new_tokens: usize) {
    let is_short = match min_new_tokens {
        0 => history.tokens.len() < min_length,
        _ => history.generated().len() < min_new_tokens,
    };
    if is_short {
        rule_out(logits, history.end_of_text);
    }
}

/// After a text of one token, rules out all but `token`, whose logit becomes 0.
pub fn forced_bos_token(logits: &mut [f32], history: TokenHistory<'_>, token: Option<u32>) {
    if let Some(token) = token.filter(|_| history.tokens.len() == 1) {
        force(logits, token);
    }
}

/// For the last token before `max_length`, rules out all but `token`, whose logit becomes 0.
pub fn forced_eos_token(logits: &mut [f32], history: TokenHistory<'_>, token: Option<u32>) {
    if let Some(token) = token.filter(|_| history.tokens.len() + 1 == history.max_length) {
        force(logits, token);
    }
}

fn force(logits: &mut [f32], token: u32) {
    logits.fill(f32::NEG_INFINITY);
    logits[token as usize] = 0.0;
}

/// After `start` generated tokens, makes the end of the text likelier with each: `logit + |logit| * (factor^n - 1)`,
/// where `n` counts the tokens since. A ruled-out end stays ruled out.
pub fn exponential_decay_length_penalty(logits: &mut [f32], history: TokenHistory<'_>, penalty: Option<(usize, f32)>) {
    let Some((start, factor)) = penalty else { return };
    let Some(since) = history.generated().len().checked_sub(start).filter(|&since| since > 0) else { return };
    let growth = (f64::from(factor).powi(since as i32) - 1.0) as f32;
    // A token that is listed twice counts once.
    for &token in BTreeSet::from_iter(history.end_of_text) {
        if let Some(logit) = logits.get_mut(token as usize) {
            change(logit, |logit| logit + logit.abs() * growth);
        }
    }
}

/// Rules out tokens.
pub fn suppress_tokens(logits: &mut [f32], tokens: &[u32]) {
    rule_out(logits, tokens);
}

/// Rules out tokens as the first generated one, or as the second if the first was forced after a prompt of one token.
pub fn begin_suppress_tokens(logits: &mut [f32], history: TokenHistory<'_>, tokens: &[u32], forced_bos: bool) {
    let is_forced = forced_bos && history.prompt_length <= 1;
    if history.tokens.len() == history.prompt_length + usize::from(is_forced) {
        rule_out(logits, tokens);
    }
}

fn rule_out(logits: &mut [f32], tokens: &[u32]) {
    for &token in tokens {
        // An end-of-text token may be outside the model's vocabulary.
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// `logit / temperature`. If a quotient would overflow, the largest logit is subtracted first, which changes no
/// probability.
pub fn temperature(logits: &mut [f32], temperature: f32) {
    if temperature == 1.0 {
        return;
    }
    let finite = || logits.iter().copied().filter(|logit| logit.is_finite());
    let (least, largest) = (finite().fold(f32::MAX, f32::min), finite().fold(f32::MIN, f32::max));
    let overflows = [least, largest].iter().any(|logit| !(logit / temperature).is_finite());
    let offset = if overflows { largest } else { 0.0 };
    for logit in logits {
        *logit = (*logit - offset) / temperature;
    }
}

/// Rules out tokens below the `k`-th largest logit; 0 rules out nothing.
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

/// Rules out the least likely tokens while their cumulative probability is at most `1 - p`; the most likely one always
/// stays (Holtzman et al. 2019, arXiv:1904.09751).
pub fn top_p(logits: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let mut ascending = candidates(logits);
    ascending.sort_by(|a, b| a.probability.total_cmp(&b.probability));
    ascending.pop();
    let mut cumulative = 0.0;
    for candidate in ascending {
        cumulative += candidate.probability;
        if cumulative > f64::from(1.0 - p) {
            break;
        }
        logits[candidate.token as usize] = f32::NEG_INFINITY;
    }
}

/// Rules out tokens less likely than `p` times the most likely one; 0 rules out nothing (Nguyen et al. 2024,
/// arXiv:2407.01082).
pub fn min_p(logits: &mut [f32], p: f32) {
    if p == 0.0 {
        return;
    }
    let candidates = candidates(logits);
    let largest = candidates.iter().fold(0f64, |largest, candidate| largest.max(candidate.probability));
    rule_out_unlikely(logits, &candidates, f64::from(p) * largest);
}

/// Keeps the tokens whose surprise is nearest to the entropy, until their cumulative probability reaches `mass`, and
/// those as near as the last of them (Meister et al. 2022, arXiv:2202.00666); 1 rules out nothing.
pub fn typical_p(logits: &mut [f32], mass: f32) {
    if mass >= 1.0 {
        return;
    }
    let candidates = candidates(logits);
    let entropy = entropy(&candidates);
    let distance = |candidate: &Candidate| (-candidate.probability.ln() - entropy).abs();
    let mut nearest: Vec<(f64, Candidate)> = candidates.iter().map(|c| (distance(c), *c)).collect();
    nearest.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let (mut cumulative, mut farthest) = (0.0, 0.0);
    for &(distance, candidate) in &nearest {
        farthest = distance;
        cumulative += candidate.probability;
        if cumulative >= f64::from(mass) {
            break;
        }
    }
    for (distance, candidate) in nearest {
        if distance > farthest {
            logits[candidate.token as usize] = f32::NEG_INFINITY;
        }
    }
}

/// Rules out tokens less likely than `epsilon`, except the most likely one; 0 rules out nothing (Hewitt et al. 2022,
/// arXiv:2210.15191).
pub fn epsilon_cutoff(logits: &mut [f32], epsilon: f32) {
    if epsilon > 0.0 {
        let candidates = candidates(logits);
        rule_out_unlikely(logits, &candidates, f64::from(epsilon));
    }
}

/// Rules out tokens less likely than both `epsilon` and `sqrt(epsilon) * exp(-entropy)`, except the most likely one; 0
/// rules out nothing (Hewitt et al. 2022, arXiv:2210.15191).
pub fn eta_cutoff(logits: &mut [f32], epsilon: f32) {
    if epsilon > 0.0 {
        let candidates = candidates(logits);
        let epsilon = f64::from(epsilon);
        rule_out_unlikely(logits, &candidates, epsilon.min(epsilon.sqrt() * (-entropy(&candidates)).exp()));
    }
}

/// Rules out candidates less likely than `least`, except the most likely ones.
fn rule_out_unlikely(logits: &mut [f32], candidates: &[Candidate], least: f64) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for candidate in candidates {
        let logit = &mut logits[candidate.token as usize];
        if candidate.probability < least && *logit < largest {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// A token that has not been ruled out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) probability: f64,
}

/// The tokens that have not been ruled out, in token order, with the softmax of their logits.
pub(super) fn candidates(logits: &[f32]) -> Vec<Candidate> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weighted = |(token, &logit): (u32, &f32)| {
        let probability = (f64::from(logit) - largest).exp();
        (logit > f32::NEG_INFINITY).then_some(Candidate { token, probability })
    };
    let mut candidates: Vec<_> = (0..).zip(logits).filter_map(weighted).collect();
    let sum: f64 = candidates.iter().map(|candidate| candidate.probability).sum();
    for candidate in &mut candidates {
        candidate.probability /= sum;
    }
    candidates
}

/// `-sum(p ln p)`, in nats.
fn entropy(candidates: &[Candidate]) -> f64 {
    let surprise = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    candidates.iter().map(|candidate| surprise(candidate.probability)).sum()
}
