//! `gptj tokenize`: text to token ids and back.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::input::{Ids, Input};
use super::{ModelArguments, NO_TOKENIZER, TokenizerArguments, print_json};

/// Turn text into token ids, or ids into text.
#[derive(Args)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    tokenizer: TokenizerArguments,

    /// The text; the same as --text.
    #[arg(value_name = "TEXT", conflicts_with_all = ["text", "file", "tokens"])]
    argument: Option<String>,

    #[command(flatten)]
    input: Input,

    /// Turn these token ids into text; the same as --tokens.
    #[arg(long, value_name = "IDS", allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["argument", "text", "file", "tokens"])]
    decode: Option<Ids>,

    /// Print one JSON object: ids, tokens, text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Tokenize) -> anyhow::Result<()> {
    let checkpoint = arguments.model.checkpoint()?;
    let Some(tokenizer) = arguments.tokenizer.open(&arguments.model, checkpoint.config().vocab_size)? else {
        bail!("{} {NO_TOKENIZER}; give --tokenizer", arguments.model.name());
    };
    let given = arguments.decode.as_ref().or(arguments.input.tokens.as_ref());
    let ids = match (given, &arguments.argument) {
        (Some(Ids(ids)), _) => {
            checkpoint.config().check_tokens(ids)?;
            ids.clone()
        }
        (None, Some(text)) => tokenizer.encode(text)?,
        (None, None) => arguments.input.tokens(Some(&tokenizer), &arguments.model)?,
    };
    let text = tokenizer.decode(&ids)?;
    let mut out = std::io::stdout();
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
