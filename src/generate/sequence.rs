//! A text as it is generated: how its tokens are chosen, and the rules that end it. Independent of the model.

use gptj_checkpoint::Config;

use crate::error::{LOGITS, Result};
use crate::generate::logits::{check_finite, log_probability};
use crate::generate::options::GenerateOptions;
use crate::generate::processors::TokenHistory;
use crate::generate::sampler::Sampler;
use crate::tokenizer::{TextDelta, TextStream, Tokenizer};

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended the text, or a stop string appeared.
    Stop,
    /// The text has as many tokens as were asked for.
    Length,
    /// The model's context is full.
    Context,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that is certain since this token. An incomplete character, or the possible beginning of a stop string,
    /// comes with a later token.
    pub text: String,
    /// Its log-probability, in nats, among the tokens that it was chosen from, if [`GenerateOptions::scores`] is set.
    pub score: Option<f64>,
    /// Why the text ends with this token; `None` if it continues.
    pub finish_reason: Option<FinishReason>,
}

/// A text that is being generated: its tokens so far, how the next are chosen, and when it ends.
pub struct Sequence {
    sampler: Sampler,
    stream: Option<TextStream>,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    prompt_length: usize,
    max_length: usize,
    end_of_text: Vec<u32>,
    scores: bool,
    finish_reason: Option<FinishReason>,
}

impl Sequence {
    /// A text that begins with `prompt`, for a model of this configuration. Without a tokenizer, tokens have no text,
    /// and stop strings are an error.
    ///
    /// # Errors
    /// [`Error::Prompt`](crate::Error::Prompt) if the prompt is empty, too long, or has tokens outside the vocabulary;
    /// [`Error::Option`](crate::Error::Option) if an option is out of range.
    pub fn new(
        config: &Config,
        tokenizer: Option<&Tokenizer>,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        options.check(config, tokenizer)?;
        config.check_prompt(prompt)?;
        Ok(Self {
            sampler: Sampler::new(options.sampling.clone()),
            stream: tokenizer.map(|tokenizer| TextStream::new(tokenizer, &options.stop)),
            tokens: prompt.to_vec(),
            prompt_length: prompt.len(),
            max_length: options.max_length(prompt.len())?,
            end_of_text: options.eos_token_ids.as_ref().unwrap_or(&config.eos_token_ids).clone(),
            scores: options.scores,
            finish_reason: None,
        })
    }

    /// Fails unless a model of this configuration can continue it.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        config.check_prompt(&self.tokens)?;
        self.sampler.options().check(config)
    }

    /// Prompt and generated tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The generated tokens.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_length..]
    }

    /// The most tokens that it may have, the prompt's included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Why the text ended; `None` while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// Sets a function that changes the logits before each token is chosen. Its arguments are the tokens so far and the
    /// logits; it runs after the options' own processors and before temperature, top-k and the like, as a custom
    /// `LogitsProcessor` of transformers' `generate()` does. A logit of minus infinity rules its token out.
    pub fn set_logits_processor(&mut self, processor: impl FnMut(&[u32], &mut [f32]) + Send + 'static) {
        self.sampler.set_custom(Box::new(processor));
    }

    /// The text held back so far: a possible beginning of a stop string, or an incomplete character. Empty once the
    /// text has ended.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn held_text(&self) -> Result<String> {
        self.stream.as_ref().map_or(Ok(String::new()), |stream| stream.clone().finish())
    }

    /// Whether the next token is simply the most likely one.
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.sampler.is_plain_greedy() && !self.scores
    }

    /// Whether the token after the next one will be needed, unless the text ends before.
    pub(crate) fn goes_on(&self) -> bool {
        self.tokens.len() + 1 < self.max_length
    }

    /// Chooses the next token from its logits; with its log-probability if [`GenerateOptions::scores`] is set.
    pub(crate) fn choose(&mut self, logits: &mut [f32]) -> Result<(u32, Option<f64>)> {
        let history = TokenHistory {
            tokens: &self.tokens,
            prompt_length: self.prompt_length,
            max_length: self.max_length,
            end_of_text: &self.end_of_text,
        };
        check_finite(logits, LOGITS)?;
        let id = self.sampler.sample(logits, history)?;
        Ok((id, self.scores.then(|| log_probability(logits, id))))
    }

    /// Appends the next token; `is_full` says that the model has no room for another one.
    pub(crate) fn push(&mut self, id: u32, score: Option<f64>, is_full: bool) -> Result<Token> {
        self.tokens.push(id);
        let mut text = String::new();
        if self.end_of_text.contains(&id) {
            self.finish_reason = Some(FinishReason::Stop);
        } else if let Some(stream) = &mut self.stream {
            match stream.push(id)? {
                TextDelta::Text(delta) => text = delta,
                TextDelta::Stopped(delta) => {
                    text = delta;
                    self.stream = None;
                    self.finish_reason = Some(FinishReason::Stop);
                }
            }
        }
        if self.finish_reason.is_none() {
            if self.tokens.len() >= self.max_length {
                self.finish_reason = Some(FinishReason::Length);
            } else if is_full {
                self.finish_reason = Some(FinishReason::Context);
            }
        }
        if self.finish_reason.is_some()
            && let Some(stream) = self.stream.take()
        {
            text.push_str(&stream.finish()?);
        }
        Ok(Token { id, text, score, finish_reason: self.finish_reason })
    }
}
