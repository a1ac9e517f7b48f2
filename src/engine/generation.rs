//! One text at a time, on a borrowed model.

use std::time::Duration;

use web_time::Instant;

use super::batch::Batch;
use crate::error::Result;
use crate::generate::{FinishReason, GenerateOptions, Sequence, Token};
use crate::model::Model;
use crate::tokenizer::Tokenizer;

/// The time that a generation took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// The step of the first token, which feeds the prompt.
    pub prompt: Duration,
    /// All other steps together, without the caller's time between them.
    pub decode: Duration,
}

/// One text, generated token by token. It may be dropped at any of them.
pub struct Generation<'a> {
    model: &'a mut Model,
    batch: Batch,
    generated: Vec<u32>,
    finish_reason: Option<FinishReason>,
    timings: Timings,
}

impl<'a> Generation<'a> {
    /// Starts a text with `prompt`. The sequence in the model's slot 0 is lost.
    ///
    /// # Errors
    /// As [`Sequence::new`], and [`Error::Class`](crate::Error::Class) if the model is not a language model.
    pub fn new(
        model: &'a mut Model,
        tokenizer: Option<&Tokenizer>,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sequence = Sequence::new(model.config(), tokenizer, prompt, options)?;
        Self::of_sequence(model, sequence)
    }

    /// Starts from a sequence, which may have a [logits processor](Sequence::set_logits_processor).
    ///
    /// # Errors
    /// As [`Generation::new`].
    pub fn of_sequence(model: &'a mut Model, sequence: Sequence) -> Result<Self> {
        let mut batch = Batch::new(model)?;
        batch.add(model, sequence)?;
        Ok(Self { model, batch, generated: Vec::new(), finish_reason: None, timings: Timings::default() })
    }

    /// The next token, or `None` when the text has ended.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if the GPU failed; and, ending the text,
    /// [`Error::Option`](crate::Error::Option) if the options rule out every token,
    /// [`Error::NonFinite`](crate::Error::NonFinite) if the logits are not finite.
    pub async fn next(&mut self) -> Result<Option<Token>> {
        let start = Instant::now();
        let Some((_, token)) = self.batch.step(self.model).await?.pop() else { return Ok(None) };
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

    /// Why the text ended; `None` while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// The time taken so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }
}
