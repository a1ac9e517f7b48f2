//! `gptj perplexity`: how well a model predicts a long text.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use gptj::{Class, LoadOptions, Selector, Windows};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::input::{Input, encode};
use super::load::{Source, open_gpu};
use super::{keep_pipelines, print_json};

/// Measure how well the model predicts a text of any length, in windows.
///
/// Each token but the first of a window is predicted from those before it in the window, and counts once, in the first
/// window that it is in. The perplexity is exp of the mean negative log-probability.
#[derive(Args)]
pub(crate) struct PerplexityArguments {
    #[command(flatten)]
    source: Source,

    /// The file with the text, every character of which counts; of --file and standard input, a line break at the very
    /// end does not.
    #[arg(value_name = "FILE", conflicts_with_all = ["text", "file", "tokens"])]
    path: Option<PathBuf>,

    #[command(flatten)]
    input: Input,

    /// Tokens of a window. The default is the model's context.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    context: Option<usize>,

    /// Tokens from the start of one window to that of the next. The default is half a window, so that every token has
    /// that much before it.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    stride: Option<usize>,

    /// Print one JSON object: perplexity, nll, scored, tokens.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &PerplexityArguments, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::CausalLm)?;
    let (config, tokenizer, model) = (opened.config(), opened.tokenizer.as_ref(), &arguments.source.model);
    let tokens = match &arguments.path {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            encode(&text, tokenizer, model)?
        }
        None => arguments.input.tokens(tokenizer, model)?,
    };
    let windows = Windows { context: arguments.context, stride: arguments.stride };
    windows.check(&tokens, config)?;
    let options = LoadOptions { context: arguments.context, ..LoadOptions::default() };
    let mut model = opened.load(&open_gpu(gpu).await?, &options).await?;
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} tokens, {eta} left")?;
    let bar = ProgressBar::new(tokens.len() as u64).with_style(style).with_prefix("reading");
    let result = model.perplexity(&tokens, windows, |done| bar.set_position(done as u64)).await;
    bar.finish_and_clear();
    let result = result?;
    keep_pipelines(model.gpu());
    if arguments.json {
        return print_json(&json!({
            "perplexity": result.value(),
            "nll": result.nll,
            "scored": result.scored,
            "tokens": tokens.len(),
        }));
    }
    let (scored, count) = (result.scored, tokens.len());
    writeln!(std::io::stdout(), "perplexity {:.4} over {scored} of {count} tokens", result.value())?;
    Ok(())
}
