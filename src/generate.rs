//! From a prompt to a text: how it is to go on, the rules that end it, and one text at a time.
//!
//! A [`Sequence`] is a text as such; it knows of no model. [`Session`] lets a model continue many of them together, and
//! [`Generation`] one.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{LOGITS, Model};
use crate::sampler::processors::Text;
use crate::sampler::{Sampler, SamplingOptions, check_tokens};
use crate::score::{check_finite, log_probability};
use crate::session::Session;
use crate::tokenizer::{Piece, TextStream, Tokenizer};

/// How to continue a prompt.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// Tokens to generate at most; `None` for as many as `max_length` leaves, or else for
    /// [`DEFAULT_NEW_TOKENS`](GenerateOptions::DEFAULT_NEW_TOKENS).
    pub max_new_tokens: Option<usize>,
    /// Tokens of prompt and text together at most. `max_new_tokens` wins over it.
    pub max_length: Option<usize>,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// The text ends before the first of these that appears in it.
    pub stop: Vec<String>,
    /// The tokens that end the text; `None` for those of the model.
    pub eos_token_ids: Option<Vec<u32>>,
    /// Tell the log-probability of each token as well.
    pub scores: bool,
}

impl GenerateOptions {
    /// Tokens that are generated where nothing else is asked for.
    pub const DEFAULT_NEW_TOKENS: usize = 128;

    /// Whether every option is in its range and can be had of a model with this configuration, with this tokenizer or
    /// without one.
    ///
    /// # Errors
    /// [`Error::Option`] for the first that is not.
    pub fn check(&self, config: &Config, tokenizer: Option<&Tokenizer>) -> Result<()> {
        if self.max_new_tokens == Some(0) {
            return Err(Error::option("max_new_tokens", "0 tokens were asked for; ask for at least 1"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::option("stop", "a stop string is empty"));
        }
        if tokenizer.is_none() && !self.stop.is_empty() {
            return Err(Error::option("stop", "the model has no tokenizer to find a stop string with"));
        }
        check_tokens("eos_token_id", self.eos_token_ids.as_deref().unwrap_or_default(), config)?;
        self.sampling.check(config)
    }

    /// Tokens of prompt and text together at most.
    fn length(&self, prompt_length: usize) -> Result<usize> {
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => Ok(prompt_length.saturating_add(new)),
            (None, None) => Ok(prompt_length + Self::DEFAULT_NEW_TOKENS),
            (None, Some(length)) if length > prompt_length => Ok(length),
            (None, Some(length)) => {
                let reason = format!("{length} leaves no room for a token after the prompt's {prompt_length}");
                Err(Error::option("max_length", reason))
            }
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended the text, or a stop string appeared.
    Stop,
    /// The number of tokens asked for was reached.
    Length,
    /// The model's context is full.
    Context,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that became certain with it. What belongs to a character that is not complete or to what may become
    /// a stop string comes with a later token.
    pub text: String,
    /// Its log-probability, in nats, among the tokens that it was chosen from, where [`GenerateOptions::scores`] asks.
    pub score: Option<f64>,
    /// Why the text ends with this token, if it does.
    pub finish_reason: Option<FinishReason>,
}

/// A text that is being generated: what it consists of, how its tokens are chosen, and when it ends.
pub struct Sequence {
    sampler: Sampler,
    text: Option<TextStream>,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    prompt_length: usize,
    max_length: usize,
    end_of_text: Vec<u32>,
    scores: bool,
    finish_reason: Option<FinishReason>,
}

impl Sequence {
    /// A text that begins with `prompt`, for a model of this configuration. Without a tokenizer there is no text, and
    /// no stop string can be found.
    ///
    /// # Errors
    /// [`Error::Prompt`] where the prompt is empty, too long, or not of the model's vocabulary; [`Error::Option`]
    /// where an option is out of range.
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
            text: tokenizer.map(|tokenizer| TextStream::new(tokenizer, &options.stop)),
            tokens: prompt.to_vec(),
            prompt_length: prompt.len(),
            max_length: options.length(prompt.len())?,
            end_of_text: options.eos_token_ids.as_ref().unwrap_or(&config.eos_token_ids).clone(),
            scores: options.scores,
            finish_reason: None,
        })
    }

    /// Whether a model of this configuration can continue it.
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

    /// Tokens that it has at most, the prompt's among them.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Why the text ended; `None` as long as it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// Whether the next token is simply the most likely one.
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.sampler.options().is_plain_greedy() && !self.scores
    }

    /// Whether the token after the next one will be wanted, unless a rule ends the text there.
    pub(crate) fn goes_on(&self) -> bool {
        self.tokens.len() + 1 < self.max_length
    }

    /// Chooses the next token by its logits, and tells its log-probability where that is wanted.
    pub(crate) fn choose(&mut self, logits: &mut [f32]) -> Result<(u32, Option<f64>)> {
        let text = Text {
            tokens: &self.tokens,
            prompt_length: self.prompt_length,
            max_length: self.max_length,
            end_of_text: &self.end_of_text,
        };
        check_finite(logits, LOGITS)?;
        let id = self.sampler.sample(logits, text)?;
        Ok((id, self.scores.then(|| log_probability(logits, id))))
    }

    /// Appends the next token; `is_full` says that there is no room for another one.
    pub(crate) fn push(&mut self, id: u32, score: Option<f64>, is_full: bool) -> Result<Token> {
        self.tokens.push(id);
        let mut text = String::new();
        if self.end_of_text.contains(&id) {
            self.finish_reason = Some(FinishReason::Stop);
        } else if let Some(stream) = &mut self.text {
            match stream.push(id)? {
                Piece::Text(piece) => text = piece,
                Piece::Stopped(piece) => {
                    text = piece;
                    self.text = None;
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
            && let Some(stream) = self.text.take()
        {
            text.push_str(&stream.finish()?);
        }
        Ok(Token { id, text, score, finish_reason: self.finish_reason })
    }
}

/// What a generation took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// For the first token.
    pub prompt: Duration,
    /// For all others together, without what the caller did in between.
    pub decode: Duration,
}

/// One text that a model generates, a token at a time. It may be dropped at any of them.
pub struct Generation<'a> {
    session: Session<'a>,
    generated: Vec<u32>,
    finish_reason: Option<FinishReason>,
    timings: Timings,
}

impl<'a> Generation<'a> {
    /// Begins a text with `prompt`; what the model generated before is forgotten.
    ///
    /// # Errors
    /// As [`Sequence::new`], and [`Error::Class`] where the model is no language model.
    pub fn new(
        model: &'a mut Model,
        tokenizer: Option<&Tokenizer>,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sequence = Sequence::new(model.config(), tokenizer, prompt, options)?;
        let mut session = Session::new(model)?;
        session.add(sequence)?;
        Ok(Self { session, generated: Vec::new(), finish_reason: None, timings: Timings::default() })
    }

    /// The next token, or `None` when the text has ended.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed; [`Error::Option`] where the options rule out every token, and
    /// [`Error::Numbers`] where the model gave no numbers to choose by, either of which ends the text.
    pub async fn next(&mut self) -> Result<Option<Token>> {
        let start = Instant::now();
        let Some((_, token)) = self.session.step().await?.pop() else { return Ok(None) };
        let token = token?;
        let time = if self.generated.is_empty() { &mut self.timings.prompt } else { &mut self.timings.decode };
        *time += start.elapsed();
        self.generated.push(token.id);
        self.finish_reason = token.finish_reason;
        Ok(Some(token))
    }

    /// The generated tokens so far.
    pub fn generated(&self) -> &[u32] {
        &self.generated
    }

    /// Why the text ended; `None` as long as it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// What it took so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }
}
