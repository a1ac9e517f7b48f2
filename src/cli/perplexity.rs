//! `gptj perplexity`: how well a model predicts a long text.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use gptj::{Class, LoadOptions, Perplexity, Selector, Windows};
use serde_json::json;

use super::input::{Input, encode, read_all};
use super::load::{Source, open_gpu};
use super::signals::Signals;
use super::{bar, keep_pipelines, out, print_json};

/// Measure how well the model predicts a text of any length, in windows.
///
/// Each token but the first of a window is predicted from those before it in the window, and counts once, in its first
/// window. The perplexity is exp of the mean negative log-probability. Ctrl-C prints that of the windows so far.
#[derive(Args)]
pub(crate) struct PerplexityArguments {
    #[command(flatten)]
    source: Source,

    /// The file with the text, or - for standard input, every character of it; --file drops a final line break.
    #[arg(value_name = "FILE", help_heading = "Input", conflicts_with_all = ["text", "file", "tokens"])]
    path: Option<PathBuf>,

    #[command(flatten)]
    input: Input,

    /// Tokens of a window. The default is the model's context; 256 for the built-in model, as in its training.
    #[arg(long, short, help_heading = "Input", value_name = "N", allow_negative_numbers = true)]
    context: Option<usize>,

    /// Tokens from the start of one window to that of the next. The default is half a window, so that every token has
    /// that much before it.
    #[arg(long, help_heading = "Input", value_name = "N", allow_negative_numbers = true)]
    stride: Option<usize>,

    /// Print one JSON object: perplexity, nll, scored, tokens.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &PerplexityArguments, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::CausalLm)?;
    let (config, tokenizer, model) = (opened.config(), opened.tokenizer.as_ref(), &arguments.source.model);
    let tokens = match &arguments.path {
        Some(path) => encode(&read_all(path)?, tokenizer, model)?,
        None => arguments.input.tokens(tokenizer, model)?,
    };
    let context = arguments.context.or(model.trained_context());
    let windows = Windows { context, stride: arguments.stride };
    windows.check(&tokens, config)?;
    let options = LoadOptions { context, ..LoadOptions::default() };
    let mut model = opened.load(&open_gpu(gpu).await?, &options).await?;
    let signals = Signals::listen()?;
    let template = "{prefix} {wide_bar} {pos}/{len} tokens, {msg}{eta} left";
    let bar = bar(template, Some(tokens.len() as u64)).with_prefix("reading").with_message("compiling kernels, ");
    bar.tick();
    let progress = |done: usize, so_far: Perplexity| {
        bar.set_position(done as u64);
        bar.set_message(format!("perplexity {:.4}, ", so_far.value()));
        if signals.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let result = model.perplexity_while(&tokens, windows, progress).await;
    bar.finish_and_clear();
    let result = result?;
    keep_pipelines(model.gpu());
    if arguments.json {
        print_json(&json!({
            "perplexity": result.value(),
            "nll": result.nll,
            "scored": result.scored,
            "tokens": tokens.len(),
        }))?;
    } else {
        let (scored, count) = (result.scored, tokens.len());
        writeln!(out(), "perplexity {:.4} over {scored} of {count} tokens", result.value())?;
    }
    Ok(signals.check()?)
}
