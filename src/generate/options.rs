//! Options of text generation.

use gptj_checkpoint::Config;

use crate::error::{Error, Result};
use crate::generate::sampler::{SamplingOptions, check_tokens};
use crate::tokenizer::Tokenizer;

/// How to continue a prompt.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// The most tokens to generate; `None` for as many as `max_length` leaves, or, without it,
    /// [`DEFAULT_NEW_TOKENS`](GenerateOptions::DEFAULT_NEW_TOKENS).
    pub max_new_tokens: Option<usize>,
    /// The most tokens of prompt and text together. `max_new_tokens` wins over it.
    pub max_length: Option<usize>,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// The text ends before the first of these that appears in it.
    pub stop: Vec<String>,
    /// The tokens that end the text; `None` for those of the model.
    pub eos_token_ids: Option<Vec<u32>>,
    /// Return the log-probability of each token as well.
    pub scores: bool,
}

impl GenerateOptions {
    /// The most tokens to generate if no option says otherwise.
    pub const DEFAULT_NEW_TOKENS: usize = 128;

    /// Fails unless every option is in its range and works with this configuration and tokenizer, if any.
    ///
    /// # Errors
    /// [`Error::Option`] for the first that does not.
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

    /// The most tokens of prompt and text together.
    pub(super) fn max_length(&self, prompt_length: usize) -> Result<usize> {
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
