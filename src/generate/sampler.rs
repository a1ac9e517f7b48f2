//! From logits to a token: Hugging Face's logits processors in their order, then a seeded draw.

use std::collections::BTreeMap;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::generate::processors::{self, TokenHistory, candidates};
use gptj_checkpoint::Config;

/// How the next token is chosen: the options of `transformers`' `generate()` under their names, with their defaults,
/// and in the order in which they take effect. With `greedy`, `temperature` and all after it have no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// Take the most likely token instead of a random one.
    pub greedy: bool,
    /// Added to the logits of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Divides the positive logits and multiplies the negative ones of every token already in the text; 1 does nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens already generated, as in OpenAI's API.
    pub presence_penalty: f32,
    /// The same, once for each time that the token was generated.
    pub frequency_penalty: f32,
    /// No n-gram of this many tokens occurs twice in a text; 0 for no limit.
    pub no_repeat_ngram_size: usize,
    /// Sequences of tokens that are never generated.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// The text does not end before this many tokens, the prompt's included.
    pub min_length: usize,
    /// The text does not end before this many generated tokens. If not 0, it wins over `min_length`.
    pub min_new_tokens: usize,
    /// The first token generated after a prompt of one token.
    pub forced_bos_token_id: Option<u32>,
    /// The last token of a text that reaches its maximum length.
    pub forced_eos_token_id: Option<u32>,
    /// (start, factor): after `start` generated tokens, each makes the end of the text likelier by `factor`.
    pub exponential_decay_length_penalty: Option<(usize, f32)>,
    /// Tokens that are never generated.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that are never generated first.
    pub begin_suppress_tokens: Vec<u32>,
    /// Divides the logits: below 1 sharpens the distribution, above 1 flattens it.
    pub temperature: f32,
    /// Keep this many of the most likely tokens (more where the last ones tie); 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this many times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Keep the tokens whose surprise is nearest to the entropy, up to this sum of probabilities; 1 keeps all.
    pub typical_p: f32,
    /// Keep tokens at least this likely; 0 keeps all.
    pub epsilon_cutoff: f32,
    /// The same, but less strict if the distribution is flat; 0 keeps all.
    pub eta_cutoff: f32,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// Hugging Face's defaults for `do_sample=True`, and seed 0.
    fn default() -> Self {
        Self {
            greedy: false,
            logit_bias: BTreeMap::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 0,
            bad_words_ids: Vec::new(),
            min_length: 0,
            min_new_tokens: 0,
            forced_bos_token_id: None,
            forced_eos_token_id: None,
            exponential_decay_length_penalty: None,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self { greedy: true, ..Self::default() }
    }

    /// Fails unless every option is in its range, and every token in the model's vocabulary.
    ///
    /// # Errors
    /// [`Error::Option`] for the first that is not.
    pub fn check(&self, config: &Config) -> Result<()> {
        let finite = [
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
            ("exponential_decay_length_penalty", self.exponential_decay_length_penalty.map_or(1.0, |(_, f)| f)),
        ];
        for (name, value) in finite {
            if !value.is_finite() {
                return Err(Error::option(name, format!("{value} is not a number")));
            }
        }
        if !is_positive(self.temperature) {
            let reason =
                format!("{} is not a positive number; for the most likely token, ask for greedy", self.temperature);
            return Err(Error::option("temperature", reason));
        }
        if !is_positive(self.repetition_penalty) {
            let reason = format!("{} is not a positive number; 1 means none", self.repetition_penalty);
            return Err(Error::option("repetition_penalty", reason));
        }
        if self.exponential_decay_length_penalty.is_some_and(|(_, factor)| factor <= 0.0) {
            return Err(Error::option("exponential_decay_length_penalty", "its factor is not a positive number"));
        }
        if !(self.typical_p > 0.0 && self.typical_p <= 1.0) {
            return Err(Error::option("typical_p", format!("{} is not above 0 and at most 1", self.typical_p)));
        }
        for (name, probability) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(Error::option(name, format!("{probability} is not between 0 and 1")));
            }
        }
        for (name, probability) in [("epsilon_cutoff", self.epsilon_cutoff), ("eta_cutoff", self.eta_cutoff)] {
            if !(0.0..1.0).contains(&probability) {
                return Err(Error::option(name, format!("{probability} is not at least 0 and below 1")));
            }
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| bias.is_nan() || **bias == f32::INFINITY) {
            return Err(Error::option("logit_bias", format!("{bias} for token {token} is not a number")));
        }
        if self.bad_words_ids.iter().any(Vec::is_empty) {
            return Err(Error::option("bad_words_ids", "one of them has no tokens"));
        }
        self.check_tokens(config)
    }

    fn check_tokens(&self, config: &Config) -> Result<()> {
        let biased: Vec<u32> = self.logit_bias.keys().copied().collect();
        let bad_words = self.bad_words_ids.concat();
        let tokens: [(_, &[u32]); 6] = [
            ("logit_bias", &biased),
            ("bad_words_ids", &bad_words),
            ("forced_bos_token_id", self.forced_bos_token_id.as_slice()),
            ("forced_eos_token_id", self.forced_eos_token_id.as_slice()),
            ("suppress_tokens", &self.suppress_tokens),
            ("begin_suppress_tokens", &self.begin_suppress_tokens),
        ];
        for (name, tokens) in tokens {
            check_tokens(name, tokens, config)?;
        }
        Ok(())
    }

    /// Whether the choice is simply the largest logit, so that the GPU can make it.
    pub fn is_plain_greedy(&self) -> bool {
        let Self { temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, seed, .. } = *self;
        let warpers =
            Self { temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, ..Self::greedy() };
        *self == Self { seed, ..warpers }
    }
}

/// Fails unless all tokens of the option `name` are in the vocabulary.
pub(crate) fn check_tokens(name: &'static str, tokens: &[u32], config: &Config) -> Result<()> {
    config.check_tokens(tokens).map_err(|error| Error::option(name, error.to_string()))
}

fn is_positive(number: f32) -> bool {
    number > 0.0 && number.is_finite()
}

/// The caller's own logits processor; its arguments are the tokens so far and the logits.
type Custom = Box<dyn FnMut(&[u32], &mut [f32]) + Send>;

/// Chooses tokens; the same options and logits give the same tokens.
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
    custom: Option<Custom>,
}

impl Sampler {
    /// A sampler with a fresh random generator. The options must have passed [`SamplingOptions::check`].
    pub fn new(options: SamplingOptions) -> Self {
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        Self { options, random, custom: None }
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Sets the caller's own processor, which runs between the options' processors and the warpers.
    pub(super) fn set_custom(&mut self, custom: Custom) {
        self.custom = Some(custom);
    }

    /// Whether the choice is simply the largest logit.
    pub(super) fn is_plain_greedy(&self) -> bool {
        self.custom.is_none() && self.options.is_plain_greedy()
    }

    /// Applies every processor to the logits, in the order of `generate()`.
    pub fn process(&mut self, logits: &mut [f32], history: TokenHistory<'_>) {
        let o = &self.options;
        processors::logit_bias(logits, &o.logit_bias);
        processors::repetition_penalty(logits, history, o.repetition_penalty);
        processors::presence_and_frequency_penalty(logits, history, o.presence_penalty, o.frequency_penalty);
        processors::no_repeat_ngram(logits, history, o.no_repeat_ngram_size);
        processors::bad_words(logits, history, &o.bad_words_ids);
        processors::min_length(logits, history, o.min_length, o.min_new_tokens);
        processors::forced_bos_token(logits, history, o.forced_bos_token_id);
        processors::forced_eos_token(logits, history, o.forced_eos_token_id);
        processors::exponential_decay_length_penalty(logits, history, o.exponential_decay_length_penalty);
        processors::suppress_tokens(logits, &o.suppress_tokens);
        processors::begin_suppress_tokens(logits, history, &o.begin_suppress_tokens, o.forced_bos_token_id.is_some());
        if let Some(custom) = &mut self.custom {
            custom(history.tokens, logits);
        }
        if !o.greedy {
            processors::temperature(logits, o.temperature);
            processors::top_k(logits, o.top_k);
            processors::top_p(logits, o.top_p);
            processors::min_p(logits, o.min_p);
            processors::typical_p(logits, o.typical_p);
            processors::epsilon_cutoff(logits, o.epsilon_cutoff);
            processors::eta_cutoff(logits, o.eta_cutoff);
        }
    }

    /// Chooses the token that follows `history`; `logits` then has the processed logits that it was chosen by.
    ///
    /// # Errors
    /// [`Error::Option`] if the options rule out every token.
    pub fn sample(&mut self, logits: &mut [f32], history: TokenHistory<'_>) -> Result<u32> {
        self.process(logits, history);
        let best = argmax(logits);
        if logits[best as usize] == f32::NEG_INFINITY {
            let reason = format!("the options rule out every token after the text's first {}", history.tokens.len());
            return Err(Error::option("sampling", reason));
        }
        if self.options.greedy {
            return Ok(best);
        }
        let draw: f64 = self.random.random();
        Ok(multinomial(logits, draw).unwrap_or(best))
    }
}

/// The token with the largest logit, the first of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0..).zip(logits) {
        if logit > largest {
            (best, largest) = (token, logit);
        }
    }
    best
}

/// The token at `draw`, from 0 to 1, of the cumulative distribution; `None` if rounding left its sum below `draw`.
fn multinomial(logits: &[f32], draw: f64) -> Option<u32> {
    let mut cumulative = 0.0;
    for candidate in candidates(logits) {
        cumulative += candidate.probability;
        if draw < cumulative {
            return Some(candidate.token);
        }
    }
    None
}
