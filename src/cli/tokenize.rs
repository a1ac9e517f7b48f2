//! `gptj tokenize`: text to token ids and back.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::generate::standard_input;
use super::{ModelArguments, NO_TOKENIZER, TokenizerArguments, print_json};

/// Turn text into token ids, or ids into text.
#[derive(Args)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    tokenizer: TokenizerArguments,

    /// The text. Without it and without --decode, standard input.
    text: Option<String>,

    /// Turn these token ids into text instead.
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "text")]
    decode: Option<Vec<u32>>,

    /// Print one JSON object: ids, tokens, text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Tokenize) -> anyhow::Result<()> {
    let vocab_size = arguments.model.checkpoint()?.config().vocab_size;
    let Some(tokenizer) = arguments.tokenizer.open(&arguments.model, vocab_size)? else {
        bail!("{} {NO_TOKENIZER}; give --tokenizer", arguments.model.name());
    };
    let ids = match (&arguments.decode, &arguments.text) {
        (Some(ids), _) => {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
                bail!("token {id} is not in the vocabulary of {vocab_size} tokens");
            }
            ids.clone()
        }
        (None, Some(text)) => tokenizer.encode(text)?,
        (None, None) => tokenizer.encode(&standard_input("give a text, --decode, or standard input")?)?,
    };
    let text = tokenizer.decode(&ids)?;
    let mut out = std::io::stdout();
    if arguments.json {
        let tokens: Vec<_> = ids.iter().map(|&id| tokenizer.token(id)).collect();
        print_json(&json!({ "ids": ids, "tokens": tokens, "text": text }))?;
    } else if arguments.decode.is_some() {
        writeln!(out, "{text}")?;
    } else {
        let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", ids.join(","))?;
    }
    Ok(())
}
