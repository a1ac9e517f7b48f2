//! `gptj repl`: prompts typed one after another, each continued.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use gptj::{Class, Error, GenerateOptions, Generation, LoadOptions, Model, Selector, Tokenizer};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::Value;

use super::input::encode;
use super::load::{Source, first_step, open_gpu};
use super::sampling::{SamplingArguments, set, settled};
use super::signals::Signals;
use super::{ContextArgument, cache_dir, json, keep_pipelines, note, out, say};

/// Continue prompts as they are typed.
///
/// A line is a prompt; an empty one continues the text before it. Ctrl-C ends a text, Ctrl-D the program. /help lists
/// the commands. The arrow keys recall earlier lines, even of earlier runs.
#[derive(Args)]
pub(crate) struct Repl {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    context: ContextArgument,

    #[command(flatten)]
    sampling: SamplingArguments,
}

const HELP: &str = "\
/set NAME VALUE   change an option: temperature, top_k, top_p, greedy, seed, max_new_tokens, stop, …;
                  VALUE is JSON, as in 0.8, true, [5, 6], {\"5\": -1.5}, \"\\n\", or a text
/show             show the options
/help             show this
/quit             end the program, like Ctrl-D
Any other line is a prompt; an empty one continues the text before it. Ctrl-C ends a text.";

pub(crate) async fn run(arguments: &Repl, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::CausalLm)?;
    let Some(tokenizer) = opened.tokenizer.clone() else {
        // Fails, with the reason.
        return encode("", None, &arguments.source.model).map(|_| ());
    };
    let mut options = arguments.sampling.options(Some(&tokenizer), &arguments.source.model)?;
    settled(options.clone()).check(opened.config(), Some(&tokenizer))?;
    let context = arguments.context.of(&arguments.source.model);
    let load_options = LoadOptions { context, ..LoadOptions::default() };
    let mut model = opened.load(&open_gpu(gpu).await?, &load_options).await?;

    let signals = Signals::listen()?;
    let mut editor = DefaultEditor::new().context("cannot read from the terminal")?;
    let history = cache_dir().map(|directory| directory.join("history"));
    if let Some(history) = &history {
        // The first run has none.
        _ = editor.load_history(history);
    }
    note("Type a prompt; /help lists the commands.");
    let mut text = Vec::new();
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("cannot read a line"),
        };
        if !line.is_empty() {
            editor.add_history_entry(&line).context("cannot keep a line")?;
        }
        let command = line.strip_prefix('/').map(str::trim);
        match command.map(|command| command.split_once(' ').unwrap_or((command, ""))) {
            Some(("quit", _)) => break,
            Some(("help", _)) => say(HELP),
            Some(("show", _)) => say(&show(&options)?),
            Some(("set", assignment)) => match changed(&options, assignment, &model, &tokenizer) {
                Ok(changed) => options = changed,
                Err(error) => say(&format!("error: {error:#}")),
            },
            Some((other, _)) => say(&format!("error: there is no command /{other}; /help lists all")),
            None => {
                match complete(&mut model, &tokenizer, &line, &mut text, &settled(options.clone()), &signals).await {
                    Ok(()) => {}
                    // The line, the text so far or the options are wrong; the next ones may be right.
                    Err(error) if matches!(error.downcast_ref(), Some(Error::Prompt(_) | Error::Option { .. })) => {
                        say(&format!("error: {error}"));
                    }
                    Err(error) => return Err(error),
                }
                keep_pipelines(model.gpu());
                signals.forget_ctrl_c();
                if signals.received().is_some() {
                    break;
                }
            }
        }
    }
    if let Some(history) = &history {
        // If it cannot be kept, nothing else is lost.
        _ = history.parent().map(std::fs::create_dir_all);
        _ = editor.save_history(history);
    }
    Ok(signals.check()?)
}

/// Continues a line, or `text` if it is empty, until the text ends or a signal comes.
async fn complete(
    model: &mut Model,
    tokenizer: &Tokenizer,
    line: &str,
    text: &mut Vec<u32>,
    options: &GenerateOptions,
    signals: &Signals,
) -> anyhow::Result<()> {
    if !line.is_empty() {
        *text = tokenizer.encode(line)?;
    } else if text.len() > model.config().n_positions {
        return Err(Error::Prompt("the text has filled the model's context; type a new prompt".to_owned()).into());
    }
    let mut out = out();
    let mut generation = Generation::new(model, Some(tokenizer), text, options)?;
    let mut show = |part: &str| write!(out, "{part}").and_then(|()| out.flush());
    let mut next = first_step(generation.next()).await;
    show(&tokenizer.decode(text)?)?;
    let mut outcome = Ok(());
    loop {
        match next {
            Ok(Some(token)) => show(&token.text)?,
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        }
        if signals.received().is_some() {
            break;
        }
        next = generation.next().await;
    }
    show("\n")?;
    text.extend(generation.generated());
    outcome
}

/// The options with one of them changed: `temperature 0.8`.
fn changed(
    options: &GenerateOptions,
    assignment: &str,
    model: &Model,
    tokenizer: &Tokenizer,
) -> anyhow::Result<GenerateOptions> {
    let (name, text) = assignment.trim().split_once(' ').context("write /set NAME VALUE")?;
    // A value that is not JSON is a text.
    let value = serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text.trim()));
    let mut changed = options.clone();
    set(&mut changed, name, value)?;
    settled(changed.clone()).check(model.config(), Some(tokenizer))?;
    Ok(changed)
}

fn show(options: &GenerateOptions) -> anyhow::Result<String> {
    let mut all = json::shortest(&options.sampling)?;
    for (token, bias) in options.sampling.logit_bias.iter().filter(|(_, bias)| bias.is_infinite()) {
        // JSON has no such number.
        all["logit_bias"][token.to_string()] = bias.to_string().into();
    }
    all["seed"] = json::seed(options.sampling.seed);
    all["max_new_tokens"] = options.max_new_tokens.into();
    all["max_length"] = options.max_length.into();
    all["eos_token_id"] = options.eos_token_ids.clone().into();
    all["stop"] = options.stop.clone().into();
    Ok(json::pretty(&all))
}
