//! The text that a command works on, in whatever form it comes, or the texts.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Args;
use gptj::Tokenizer;
use serde_json::{Map, Value};

use super::load::Opened;
use super::sampling::take;
use super::{ModelArguments, NO_TOKENIZER, print_json};

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
#[derive(Clone, Default)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list = text.trim();
        if list.is_empty() {
            return Err("there are none; say them as in 1,2,3".to_owned());
        }
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
            (None, tokens) => Ok(tokens.clone().unwrap_or_default().0),
        }
    }
}

/// A text or its tokens, or many of them.
#[derive(Args)]
pub(crate) struct Inputs {
    #[command(flatten)]
    one: Input,

    /// Many texts: FILE has one a line, or JSON lines like {"text": "…"} or {"tokens": [1, 2]}. Prints a JSON line for
    /// each, in their order, with the index that it has.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "tokens"])]
    texts: Option<PathBuf>,
}

/// A text that a model is to look at.
pub(crate) struct Text {
    pub(crate) tokens: Vec<u32>,
    /// Which of many it is.
    pub(crate) index: Option<usize>,
    /// Where it was read, if it is one of many.
    place: Option<String>,
}

impl Inputs {
    /// The texts that there are, each of which a model of this configuration can take.
    pub(crate) fn read(&self, opened: &Opened, model: &ModelArguments) -> anyhow::Result<Vec<Text>> {
        let tokenizer = opened.tokenizer.as_ref();
        let Some(path) = &self.texts else {
            let tokens = self.one.tokens(tokenizer, model)?;
            opened.config().check_prompt(&tokens)?;
            return Ok(vec![Text { tokens, index: None, place: None }]);
        };
        let (lines, are_json) = read_lines(path)?;
        let read = |line: &str| -> anyhow::Result<Vec<u32>> {
            let tokens = if are_json { parse(line, tokenizer, model)? } else { encode(line, tokenizer, model)? };
            opened.config().check_prompt(&tokens)?;
            Ok(tokens)
        };
        let text = |(index, line): (usize, &Line)| {
            let tokens = read(&line.text).with_context(|| line.place.clone())?;
            Ok(Text { tokens, index: Some(index), place: Some(line.place.clone()) })
        };
        lines.iter().enumerate().map(text).collect()
    }
}

impl Text {
    /// Tokens of the longest of some texts.
    pub(crate) fn longest(texts: &[Self]) -> usize {
        texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0)
    }

    /// What was found of it, or an error that says which of many it is.
    pub(crate) fn found<T>(&self, found: gptj::Result<T>) -> anyhow::Result<T> {
        match &self.place {
            Some(place) => found.with_context(|| place.clone()),
            None => Ok(found?),
        }
    }

    /// Prints what was found for machines: an object, or a line where it is of one of many texts.
    pub(crate) fn print_json(&self, mut found: Value) -> anyhow::Result<()> {
        let Some(index) = self.index else { return print_json(&found) };
        found["index"] = index.into();
        Ok(writeln!(std::io::stdout(), "{found}")?)
    }
}

/// The tokens of a line like `{"text": "…"}`.
fn parse(line: &str, tokenizer: Option<&Tokenizer>, model: &ModelArguments) -> anyhow::Result<Vec<u32>> {
    let mut line: Map<String, Value> = serde_json::from_str(line)?;
    match (line.remove("text"), line.remove("tokens"), line.keys().next()) {
        (_, _, Some(other)) => bail!("a text has no {other}; it has text or tokens"),
        (Some(text), None, None) => encode(&take::<String>("text", text)?, tokenizer, model),
        (None, Some(tokens), None) => take("tokens", tokens),
        _ => bail!("it must have either a text or tokens"),
    }
}

/// A line of a file with many texts.
pub(crate) struct Line {
    pub(crate) text: String,
    /// Where it is, for messages.
    pub(crate) place: String,
}

/// The lines of a file with many texts, but for empty ones; and whether they are JSON lines, as they are if the first
/// begins like one.
pub(crate) fn read_lines(path: &Path) -> anyhow::Result<(Vec<Line>, bool)> {
    let text = read_file(path)?;
    let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    if list.first().is_some_and(|first| first.is_object() || first.is_string()) {
        bail!("{} is a JSON list; JSON lines are wanted, an object each", path.display());
    }
    let place = |index: usize| format!("line {} of {}", index + 1, path.display());
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines: Vec<_> = lines.map(|(index, line)| Line { text: line.to_owned(), place: place(index) }).collect();
    if lines.is_empty() {
        bail!("{} has no texts", path.display());
    }
    Ok((lines, text.trim_start().starts_with('{')))
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
