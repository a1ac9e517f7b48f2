//! One text or many, for the commands that analyse texts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use gptj::{Error, LoadOptions, Model, Selector};
use serde_json::{Value, json};

use super::input::{Input, encode};
use super::lines::{Content, Items, Line, Next};
use super::load::{Opened, Source, first_step, open_gpu};
use super::sampling::take;
use super::signals::Signals;
use super::{keep_pipelines, print_json, print_json_line};

/// A text or its tokens, or many of them.
#[derive(Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct Inputs {
    #[command(flatten)]
    one: Input,

    /// Many texts: FILE (- for standard input) has one per line, or JSON lines like {"text": "…", "id": 7}. Prints a
    /// JSON line for each.
    ///
    /// A JSON line has a text or tokens, and an id to repeat in the output. Results come in the order of the lines,
    /// with the index of each. A bad line's result is an error, and the exit code is then 1.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "tokens"])]
    texts: Option<PathBuf>,
}

/// A line with one of many texts.
struct TextLine {
    index: usize,
    id: Option<Value>,
    location: String,
    tokens: anyhow::Result<Vec<u32>>,
}

/// A command's analysis of a text.
pub(crate) trait Analysis {
    type Found;

    async fn run(&self, model: &mut Model, tokens: &[u32]) -> gptj::Result<Self::Found>;

    /// A JSON object.
    fn json(&self, tokens: &[u32], found: &Self::Found) -> Value;

    fn print(&self, tokens: &[u32], found: &Self::Found) -> anyhow::Result<()>;
}

impl Inputs {
    /// Analyses each text and prints the result.
    pub(crate) async fn each(
        &self,
        source: &Source,
        opened: &Opened,
        gpu: &Selector,
        json: bool,
        analysis: &impl Analysis,
    ) -> anyhow::Result<()> {
        let Some(path) = &self.texts else {
            let tokens = self.one.tokens(opened.tokenizer.as_ref(), &source.model)?;
            opened.config().check_prompt(&tokens)?;
            let mut model = opened.load_for(tokens.len(), gpu).await?;
            let found = first_step(analysis.run(&mut model, &tokens)).await?;
            keep_pipelines(model.gpu());
            return if json { print_json(&analysis.json(&tokens, &found)) } else { analysis.print(&tokens, &found) };
        };
        let read = |line: Line| read(line, source, opened);
        let mut texts = Items::open(path, read)?;
        let length = |text: &TextLine| text.tokens.as_ref().map(Vec::len).ok();
        let context = texts.look_ahead()?.map(|all| all.iter().filter_map(length).max());
        let mut model = match context {
            // All lines are bad.
            Some(None) => None,
            Some(Some(longest)) => Some(opened.load_for(longest, gpu).await?),
            None => Some(opened.load(&open_gpu(gpu).await?, &LoadOptions::default()).await?),
        };
        let signals = Signals::listen()?;
        let (mut count, mut failures) = (0, Failures::default());
        while signals.received().is_none() {
            let text = match texts.next()? {
                Next::Item(text) => text,
                Next::Later => {
                    texts.wait(Duration::from_millis(100))?;
                    continue;
                }
                Next::End => break,
            };
            count += 1;
            let found = match (text.tokens, &mut model) {
                (Ok(tokens), Some(model)) => {
                    let found = analysis.run(model, &tokens);
                    let found = if count == 1 { first_step(found).await } else { found.await };
                    match found {
                        Err(error @ Error::Gpu(_)) => return Err(error).context(text.location),
                        found => found.map(|found| analysis.json(&tokens, &found)).map_err(anyhow::Error::from),
                    }
                }
                (Ok(_), None) => unreachable!("a model is loaded unless all lines are bad"),
                (Err(error), _) => Err(error),
            };
            let mut line = found.unwrap_or_else(|error| json!({ "error": failures.add(&text.location, &error) }));
            line["index"] = text.index.into();
            if let Some(id) = text.id {
                line["id"] = id;
            }
            print_json_line(&line)?;
        }
        if let Some(model) = &model {
            keep_pipelines(model.gpu());
        }
        signals.check()?;
        failures.check(count)
    }
}

fn read(line: Line, source: &Source, opened: &Opened) -> TextLine {
    let (index, location) = (line.index, line.location.clone());
    let (id, content) = line.content();
    let tokens = content.and_then(|content| tokens(content, source, opened));
    TextLine { index, id, location, tokens }
}

/// The tokens of a text, or of an object like `{"text": "…"}`, if the model can take them.
fn tokens(content: Content, source: &Source, opened: &Opened) -> anyhow::Result<Vec<u32>> {
    let encode = |text: &str| encode(text, opened.tokenizer.as_ref(), &source.model);
    let tokens = match content {
        Content::Text(text) => encode(&text)?,
        Content::Object(mut object) => match (object.remove("text"), object.remove("tokens"), object.keys().next()) {
            (_, _, Some(other)) => bail!("a text has no field {other}, only text or tokens, and id"),
            (Some(text), None, None) => encode(&take::<String>("text", text)?)?,
            (None, Some(tokens), None) => take("tokens", tokens)?,
            _ => bail!("it must have either a text or tokens"),
        },
    };
    opened.config().check_prompt(&tokens)?;
    Ok(tokens)
}

/// The failures among many texts.
#[derive(Default)]
pub(crate) struct Failures {
    count: usize,
    first: String,
}

impl Failures {
    /// Counts a failure, and returns its message.
    pub(crate) fn add(&mut self, location: &str, error: &anyhow::Error) -> String {
        let message = format!("{location}: {error:#}");
        if self.count == 0 {
            self.first.clone_from(&message);
        }
        self.count += 1;
        message
    }

    /// Fails if any of `n_texts` texts did.
    pub(crate) fn check(&self, n_texts: usize) -> anyhow::Result<()> {
        match self.count {
            0 => Ok(()),
            count => Err(anyhow!("{count} of {n_texts} texts failed; {}", self.first)),
        }
    }
}
