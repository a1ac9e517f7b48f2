//! The arguments of `gptj generate`.

use std::path::PathBuf;

use clap::Args;
use gptj::{Config, Error};

use crate::cli::ContextArgument;
use crate::cli::input::Input;
use crate::cli::load::{Opened, Source};
use crate::cli::sampling::SamplingArguments;

/// Continue a prompt, or many at once.
///
/// The text streams to standard output, the prompt first; one line of statistics follows on standard error. An empty
/// prompt starts from the model's bos_token_id. The sampling options and their defaults are those of Hugging Face's
/// generate() with do_sample=True. Ctrl-C ends the text.
#[derive(Args)]
#[command(after_long_help = "Examples:
  gptj generate -p 'Ham. To be, or not' --temperature 0.8 -n 200 -s 1
  gptj generate -m gpt-j-6b -f prompt.txt --greedy --json
  gptj generate -m gpt-j-6b --prompts prompts.jsonl -c 512 > texts.jsonl
  echo '{\"prompt\": \"To be\", \"temperature\": 0.7, \"id\": 1}' | gptj generate --prompts -")]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(super) source: Source,

    #[command(flatten)]
    pub(super) context: ContextArgument,

    #[command(flatten)]
    pub(super) prompt: Input,

    /// Continue many prompts at once: FILE (- for standard input) has one per line, or JSON lines like {"prompt": "…",
    /// "temperature": 0.8, "id": 7}. Prints a JSON line for each.
    ///
    /// A JSON line has a prompt or tokens, num_return_sequences, an id to repeat in the output, and options under their
    /// names in Hugging Face; stop is a list of texts, bad_words_ids a list of lists of token ids, logit_bias an
    /// object. Results come in the order of the lines. A bad line's result is an error, and the exit code is then 1.
    /// The file is read as slots become free. For up to 1000 lines, a slot is as long as the longest text; for more, as
    /// long as the model's context, and a smaller --context makes room for more texts at a time.
    #[arg(long, value_name = "FILE", help_heading = "Input", conflicts_with_all = ["text", "file", "tokens"])]
    pub(super) prompts: Option<PathBuf>,

    #[command(flatten)]
    pub(super) sampling: SamplingArguments,

    /// Continue each prompt N times, with seeds that count up.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sampling", allow_negative_numbers = true)]
    pub(super) num_return_sequences: usize,

    /// Continue at most N texts at a time. The default is as many as the GPU has room for, up to 32.
    #[arg(long, value_name = "N", help_heading = "Model", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) batch: Option<u16>,

    /// Add each token's log-probability to the JSON, among the tokens it was chosen from, after all options.
    #[arg(long, help_heading = "Output")]
    pub(super) scores: bool,

    /// Print one JSON object at the end, or a line for each of several texts.
    ///
    /// The object has prompt_tokens, tokens, text, finish_reason, seed, adapter, timings, and scores if asked for; a
    /// line has index (of the prompt), sequence (among its texts), prompt_tokens, tokens, text, finish_reason, seed,
    /// scores, id if the prompt has one, and error if there is one. finish_reason is null for a text that a signal
    /// ended, and a seed above 2^53 is a string.
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
}

/// A prompt that a model can continue.
#[derive(Clone)]
pub(super) struct Prompt {
    pub(super) tokens: Vec<u32>,
    /// Whether it was empty, so that its only token is the bos_token_id.
    pub(super) is_empty: bool,
}

impl Prompt {
    /// A prompt of these tokens; if there are none, of the model's `bos_token_id`, as in transformers.
    pub(super) fn new(tokens: Vec<u32>, config: &Config) -> Result<Self, Error> {
        if !tokens.is_empty() {
            return Ok(Self { tokens, is_empty: false });
        }
        match config.bos_token_id.filter(|&id| (id as usize) < config.vocab_size) {
            Some(id) => Ok(Self { tokens: vec![id], is_empty: true }),
            None => {
                let reason = "the prompt is empty, and the model has no bos_token_id to start from; give a prompt";
                Err(Error::Prompt(reason.to_owned()))
            }
        }
    }

    /// Its text, to print before the generated text.
    pub(super) fn text(&self, opened: &Opened) -> gptj::Result<String> {
        let shown = if self.is_empty { &[] } else { self.tokens.as_slice() };
        opened.tokenizer.as_ref().map_or_else(|| Ok(String::new()), |tokenizer| tokenizer.decode(shown))
    }
}
