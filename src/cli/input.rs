//! A command's text: an argument, a file, standard input, or token ids.

use std::io::{IsTerminal, Read, Stdin};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Args;
use gptj::Tokenizer;

use super::{ModelArguments, NO_TOKENIZER, note};

/// A text or its tokens.
#[derive(Args, Default)]
#[group(multiple = false)]
#[command(next_help_heading = "Input")]
pub(crate) struct Input {
    /// The text. The default is standard input.
    #[arg(long, short = 'p', visible_alias = "prompt", value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,

    /// A file with the text, or - for standard input; a final line break is dropped.
    #[arg(long, short, visible_alias = "prompt-file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The text as token ids; needs no tokenizer.
    #[arg(long, visible_alias = "prompt-tokens", value_name = "IDS", allow_negative_numbers = true)]
    pub(crate) tokens: Option<Ids>,
}

/// Token ids as people and programs write them: `1,2,3`, `1 2 3` or `[1, 2, 3]`.
#[derive(Clone, Default)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list = text.trim();
        if list.is_empty() {
            return Err("there are no token ids; write them as in 1,2,3".to_owned());
        }
        let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(list);
        let id = |word: &str| -> Result<u32, String> {
            word.trim().parse().map_err(|_| format!("{:?} is not a token id; write them as in 1,2,3", word.trim()))
        };
        let has_commas = list.contains(',');
        let ids: Result<_, _> =
            if has_commas { list.split(',').map(id).collect() } else { list.split_whitespace().map(id).collect() };
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
            _ => read_file(Path::new(STANDARD_INPUT)).map(Some),
        }
    }

    /// The text's tokens.
    pub(crate) fn tokens(&self, tokenizer: Option<&Tokenizer>, model: &ModelArguments) -> anyhow::Result<Vec<u32>> {
        match (self.read()?, &self.tokens) {
            (Some(text), _) => encode(&text, tokenizer, model),
            (None, tokens) => Ok(tokens.clone().unwrap_or_default().0),
        }
    }
}

/// The tokens of a text, if the model has a tokenizer.
pub(crate) fn encode(text: &str, tokenizer: Option<&Tokenizer>, model: &ModelArguments) -> anyhow::Result<Vec<u32>> {
    let Some(tokenizer) = tokenizer else {
        bail!("{} {NO_TOKENIZER}; give --tokenizer, or token ids in place of text", model.name());
    };
    Ok(tokenizer.encode(text)?)
}

/// Standard input's name.
const STANDARD_INPUT: &str = "-";

/// Whether a path means standard input.
pub(crate) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == STANDARD_INPUT
}

/// The text of a file, or of standard input if it is `-`, without a final line break.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<String> {
    read_all(path).map(without_editors_marks)
}

/// The same with every character.
pub(crate) fn read_all(path: &Path) -> anyhow::Result<String> {
    if !is_standard_input(path) {
        let text = std::fs::read_to_string(path);
        return text.with_context(|| format!("cannot read the text from {}", path.display()));
    }
    let mut text = String::new();
    open_standard_input().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

/// Standard input; a note says so at a terminal.
pub(crate) fn open_standard_input() -> Stdin {
    let input = std::io::stdin();
    if input.is_terminal() {
        let end = if cfg!(windows) { "Ctrl-Z and Enter" } else { "Ctrl-D" };
        note(&format!("reading the text from the terminal: end it with {end} on a new line"));
    }
    input
}

/// The text without the marks of editors: a byte order mark before it, a line break after it.
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
