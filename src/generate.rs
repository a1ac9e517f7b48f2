//! From a prompt to a text: prefill, the decode loop, the rules that end it, and what it cost.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampler::{Sampler, SamplingOptions};
use crate::tokenizer::{Piece, TextStream, Tokenizer};

/// How to continue a prompt.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// The text ends before the first of these that appears in it.
    pub stop: Vec<String>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 128, sampling: SamplingOptions::default(), stop: Vec::new() }
    }
}

impl GenerateOptions {
    /// Whether every option is in its range and can be had with this tokenizer, or without one.
    ///
    /// # Errors
    /// [`Error::Option`] for the first that is not.
    pub fn check(&self, tokenizer: Option<&Tokenizer>) -> Result<()> {
        if self.max_new_tokens == 0 {
            return Err(Error::option("max_new_tokens", "0 tokens were asked for; ask for at least 1"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::option("stop", "a stop string is empty"));
        }
        if tokenizer.is_none() && !self.stop.is_empty() {
            return Err(Error::option("stop", "the model has no tokenizer to find a stop string with"));
        }
        self.sampling.check()
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that became certain with it. What belongs to a character that is not complete or to what may become
    /// a stop string comes with a later token.
    pub text: String,
}

/// What a generation took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// From the start to the first token.
    pub prompt: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// A text that is being generated.
pub struct Generation<'a> {
    model: &'a mut Model,
    slot: usize,
    sampler: Sampler,
    max_new_tokens: usize,
    text: Option<TextStream<'a>>,
    /// Prompt and generated tokens.
    history: Vec<u32>,
    prompt_length: usize,
    finish_reason: Option<FinishReason>,
    timings: Timings,
}

impl<'a> Generation<'a> {
    /// Begins a new sequence in slot 0 of `model` with `prompt`. Without a tokenizer there is no text, and no stop
    /// string can be found.
    ///
    /// # Errors
    /// [`Error::Prompt`] where the prompt is empty, too long, or not of the model's vocabulary; [`Error::Option`]
    /// where an option is out of range.
    pub fn new(
        model: &'a mut Model,
        tokenizer: Option<&'a Tokenizer>,
        prompt: &[u32],
        options: &'a GenerateOptions,
    ) -> Result<Self> {
        options.check(tokenizer)?;
        let slot = 0;
        model.truncate(slot, 0);
        model.config().check_prompt(prompt)?;
        Ok(Self {
            slot,
            sampler: Sampler::new(options.sampling.clone()),
            max_new_tokens: options.max_new_tokens,
            text: tokenizer.map(|tokenizer| TextStream::new(tokenizer, &options.stop)),
            history: prompt.to_vec(),
            prompt_length: prompt.len(),
            finish_reason: None,
            timings: Timings::default(),
            model,
        })
    }

    /// The next token, or `None` when the text has ended.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed.
    pub async fn next(&mut self) -> Result<Option<Token>> {
        if self.finish_reason.is_some() {
            return Ok(None);
        }
        let start = Instant::now();
        let id = self.choose().await?;
        self.history.push(id);
        let first = self.tokens().len() == 1;
        let time = if first { &mut self.timings.prompt } else { &mut self.timings.decode };
        *time += start.elapsed();

        let mut text = String::new();
        if self.model.config().eos_token_ids.contains(&id) {
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
            if self.tokens().len() == self.max_new_tokens {
                self.finish_reason = Some(FinishReason::Length);
            } else if self.model.cache().length(self.slot) == self.model.cache().n_positions() {
                self.finish_reason = Some(FinishReason::Context);
            }
        }
        if self.finish_reason.is_some()
            && let Some(stream) = self.text.take()
        {
            text.push_str(&stream.finish()?);
        }
        Ok(Some(Token { id, text }))
    }

    /// Feeds what the model has not seen yet and chooses what follows.
    async fn choose(&mut self) -> Result<u32> {
        let unseen = &self.history[self.model.cache().length(self.slot)..];
        if self.sampler.options().is_plain_greedy() {
            // Whether the token after this one will be wanted, unless a rule ends the text here.
            let go_on = self.tokens().len() + 1 < self.max_new_tokens;
            return self.model.most_likely(self.slot, unseen, go_on).await;
        }
        let mut logits = self.model.logits(self.slot, unseen).await?;
        Ok(self.sampler.sample(&mut logits, &self.history))
    }

    /// The generated tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.history[self.prompt_length..]
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
