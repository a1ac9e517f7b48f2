//! `gptj repl`: prompts typed one after another, each continued.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use gptj::{Class, Error, GenerateOptions, Generation, LoadOptions, Model, Selector, Tokenizer};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::Value;

use super::input::encode;
use super::load::{Source, open_gpu};
use super::sampling::{SamplingArguments, set};
use super::{ContextArgument, cache_dir, keep_pipelines, note, on_ctrl_c};

/// Continue prompts as they are typed.
///
/// A line is a prompt, an empty one continues the text before it. Ctrl-C stops a text, Ctrl-D ends the program. /help
/// lists the commands. Lines are kept for the arrow keys, with what else is kept in the user's cache directory.
#[derive(Args)]
pub(crate) struct Repl {
    #[command(flatten)]
    source: Source,

    #[command(flatten, next_help_heading = "Sampling")]
    sampling: SamplingArguments,

    #[command(flatten)]
    context: ContextArgument,
}

const HELP: &str = "\
/set NAME VALUE   change an option: temperature, top_k, top_p, greedy, seed, max_new_tokens, stop, …;
                  VALUE is JSON, as in 0.8, true, [5, 6], {\"5\": -1.5}, \"\\n\", or else simply a text
/show             show the options
/help             show this
/quit             end the program, as Ctrl-D does
A line that is none of these is a prompt; an empty one continues the text before it. Ctrl-C stops a text.";

pub(crate) async fn run(arguments: &Repl, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::CausalLm)?;
    let Some(tokenizer) = opened.tokenizer.clone() else {
        // Says what is missing.
        return encode("", None, &arguments.source.model).map(|_| ());
    };
    let mut options = arguments.sampling.options(Some(&tokenizer), &arguments.source.model)?;
    options.check(opened.config(), Some(&tokenizer))?;
    let load_options = LoadOptions { context: arguments.context.context, ..LoadOptions::default() };
    let mut model = opened.load(&open_gpu(gpu).await?, &load_options).await?;

    let interrupted = on_ctrl_c()?;
    let mut editor = DefaultEditor::new().context("cannot read from the terminal")?;
    let history = cache_dir().map(|directory| directory.join("history"));
    if let Some(history) = &history {
        // There is none before the first time.
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
            Some(("help", _)) => note(HELP),
            Some(("show", _)) => note(&show(&options)?),
            Some(("set", assignment)) => match changed(&options, assignment, &model, &tokenizer) {
                Ok(changed) => options = changed,
                Err(error) => note(&format!("error: {error:#}")),
            },
            Some((other, _)) => note(&format!("error: there is no command /{other}; /help lists those that there are")),
            None => {
                match complete(&mut model, &tokenizer, &line, &mut text, &options, &interrupted).await {
                    // The line, the text so far or the options are at fault, and the next ones may not be.
                    Err(error @ (Error::Prompt(_) | Error::Option { .. })) => note(&format!("error: {error}")),
                    other => other?,
                }
                keep_pipelines(model.gpu());
            }
        }
    }
    if let Some(history) = &history {
        // Where it cannot be kept, nothing else is lost.
        _ = history.parent().map(std::fs::create_dir_all);
        _ = editor.save_history(history);
    }
    Ok(())
}

/// Continues a line, or `text` where it is empty, until the text ends or somebody interrupts.
async fn complete(
    model: &mut Model,
    tokenizer: &Tokenizer,
    line: &str,
    text: &mut Vec<u32>,
    options: &GenerateOptions,
    interrupted: &AtomicBool,
) -> Result<(), Error> {
    if !line.is_empty() {
        *text = tokenizer.encode(line)?;
    } else if text.len() > model.config().n_positions {
        return Err(Error::Prompt("the text has filled the model's context; type a new prompt".to_owned()));
    }
    let mut out = std::io::stdout();
    let mut generation = Generation::new(model, Some(tokenizer), text, options)?;
    interrupted.store(false, Ordering::Relaxed);
    let mut show = |piece: &str| match write!(out, "{piece}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => interrupted.store(true, Ordering::Relaxed),
        _ => {}
    };
    show(&tokenizer.decode(text)?);
    let mut outcome = Ok(());
    while !interrupted.load(Ordering::Relaxed) {
        match generation.next().await {
            Ok(Some(token)) => show(&token.text),
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    show("\n");
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
    let (name, text) = assignment.trim().split_once(' ').context("say /set NAME VALUE")?;
    // What is no JSON is a text.
    let value = serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text.trim()));
    let mut changed = options.clone();
    set(&mut changed, name, value)?;
    changed.check(model.config(), Some(tokenizer))?;
    Ok(changed)
}

fn show(options: &GenerateOptions) -> anyhow::Result<String> {
    let mut all = serde_json::to_value(&options.sampling)?;
    for (token, bias) in options.sampling.logit_bias.iter().filter(|(_, bias)| bias.is_infinite()) {
        // JSON has no such number.
        all["logit_bias"][token.to_string()] = bias.to_string().into();
    }
    all["max_new_tokens"] = options.max_new_tokens.into();
    all["max_length"] = options.max_length.into();
    all["eos_token_id"] = options.eos_token_ids.clone().into();
    all["stop"] = options.stop.clone().into();
    Ok(format!("{all:#}"))
}
