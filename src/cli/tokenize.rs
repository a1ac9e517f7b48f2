//! `gptj tokenize`: text to token ids and back.

use std::io::{ErrorKind, Write};

use anyhow::bail;
use clap::Args;
use gptj::{Config, Tokenizer, checkpoint};
use serde_json::json;

use super::input::{Ids, Input};
use super::{ModelArguments, NO_TOKENIZER, TokenizerArguments, out, print_json};

/// Turn text into token ids, or ids into text; needs no weights.
#[derive(Args)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    tokenizer: TokenizerArguments,

    /// The text; the same as --text.
    #[arg(value_name = "TEXT", help_heading = "Input", conflicts_with_all = ["text", "file", "tokens"])]
    argument: Option<String>,

    #[command(flatten)]
    input: Input,

    /// Turn these token ids into text; the same as --tokens.
    #[arg(long, value_name = "IDS", help_heading = "Input", allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["argument", "text", "file", "tokens"])]
    decode: Option<Ids>,

    /// Print one JSON object: ids, tokens, text.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) fn run(arguments: &Tokenize) -> anyhow::Result<()> {
    let (config, tokenizer) = open(arguments)?;
    let given = arguments.decode.as_ref().or(arguments.input.tokens.as_ref());
    let ids = match (given, &arguments.argument) {
        (Some(Ids(ids)), _) => {
            let is_unknown = |&&id: &&u32| tokenizer.token(id).is_none();
            match (config, ids.iter().find(is_unknown)) {
                (Some(config), _) => config.check_tokens(ids)?,
                (None, Some(id)) => bail!("token {id} is not in the tokenizer's vocabulary"),
                (None, None) => {}
            }
            ids.clone()
        }
        (None, Some(text)) => tokenizer.encode(text)?,
        (None, None) => arguments.input.tokens(Some(&tokenizer), &arguments.model)?,
    };
    let text = tokenizer.decode(&ids)?;
    let mut out = out();
    if arguments.json {
        let tokens: Vec<_> = ids.iter().map(|&id| tokenizer.token(id)).collect();
        print_json(&json!({ "ids": ids, "tokens": tokens, "text": text }))?;
    } else if given.is_some() {
        writeln!(out, "{text}")?;
    } else {
        let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", ids.join(","))?;
    }
    Ok(())
}

/// The model's configuration, which a directory with only a tokenizer lacks, and the tokenizer.
fn open(arguments: &Tokenize) -> anyhow::Result<(Option<Config>, Tokenizer)> {
    let missing = match arguments.model.config() {
        Ok(config) => {
            let Some(tokenizer) = arguments.tokenizer.open(&arguments.model, config.vocab_size)? else {
                bail!("{} {NO_TOKENIZER}; give --tokenizer", arguments.model.name());
            };
            return Ok((Some(config), tokenizer));
        }
        Err(error @ checkpoint::Error::Read { .. }) if is_missing(&error) => error,
        Err(error) => return Err(error.into()),
    };
    match arguments.tokenizer.open(&arguments.model, usize::MAX)? {
        Some(tokenizer) => Ok((None, tokenizer)),
        None => Err(missing.into()),
    }
}

fn is_missing(error: &checkpoint::Error) -> bool {
    matches!(error, checkpoint::Error::Read { source, .. } if source.kind() == ErrorKind::NotFound)
}
