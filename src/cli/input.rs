//! The text that a command works on, in whatever form it comes.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Args;
use gptj::Tokenizer;

use super::{ModelArguments, NO_TOKENIZER};

/// A text or its tokens.
#[derive(Args, Default)]
#[group(multiple = false)]
pub(crate) struct Input {
    /// The text. Without any of the options for it, standard input.
    #[arg(long, short = 'p', visible_alias = "prompt", value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,

    /// A file with the text; a line break at its very end is not part of it.
    #[arg(long, short, visible_alias = "prompt-file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The text as token ids, for which a model needs no tokenizer.
    #[arg(long, visible_alias = "prompt-tokens", value_name = "IDS", allow_negative_numbers = true)]
    pub(crate) tokens: Option<Ids>,
}

/// Token ids as people and programs write them: `1,2,3`, `1 2 3` or `[1, 2, 3]`.
#[derive(Clone)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list = text.trim();
        let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(list);
        let id = |word: &str| -> Result<u32, String> {
            word.trim().parse().map_err(|_| format!("{:?} is no token id; say them as in 1,2,3", word.trim()))
        };
        let by_commas = list.contains(',');
        let ids: Result<_, _> =
            if by_commas { list.split(',').map(id).collect() } else { list.split_whitespace().map(id).collect() };
        ids.map(Self)
    }
}

impl Input {
    /// The text, unless it came as tokens.
    pub(crate) fn read(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self { tokens: Some(_), .. } => Ok(None),
            Self { text: Some(text), .. } => Ok(Some(text.clone())),
            Self { file: Some(path), .. } => read_file(path).map(Some),
            _ => standard_input("give a text: --text, --file, --tokens, or standard input").map(Some),
        }
    }

    /// The text's tokens.
    pub(crate) fn tokens(&self, tokenizer: Option<&Tokenizer>, model: &ModelArguments) -> anyhow::Result<Vec<u32>> {
        match (self.read()?, &self.tokens) {
            (Some(text), _) => encode(&text, tokenizer, model),
            (None, tokens) => Ok(tokens.as_ref().map_or_else(Vec::new, |ids| ids.0.clone())),
        }
    }
}

/// The tokens of a text, where the model has a tokenizer.
pub(crate) fn encode(text: &str, tokenizer: Option<&Tokenizer>, model: &ModelArguments) -> anyhow::Result<Vec<u32>> {
    let Some(tokenizer) = tokenizer else {
        bail!("{} {NO_TOKENIZER}; give --tokenizer, or token ids in place of text", model.name());
    };
    Ok(tokenizer.encode(text)?)
}

/// A file's text without a line break at its very end.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path);
    Ok(without_editors_marks(text.with_context(|| format!("cannot read the text from {}", path.display()))?))
}

/// Standard input; a person at a terminal, who may wait for something to happen, gets an `advice` instead.
pub(crate) fn standard_input(advice: &'static str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        bail!(advice);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(without_editors_marks(text))
}

/// The text itself: Windows' editors put a mark before it, and most put a line break after it.
fn without_editors_marks(text: String) -> String {
    let mut text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
