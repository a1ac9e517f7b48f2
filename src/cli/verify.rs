//! `gptj verify`: all that is wrong with a model's files.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use gptj::{Checkpoint, Error};
use serde_json::json;

use super::{ModelArguments, gigabytes, print_json, progress_bar, show};

/// Read a model through and report all that is wrong with it; needs no GPU.
///
/// Every tensor must be there in the right shape, and every number finite and, in matrices, no larger than f16 can
/// hold. Tokens must be within the vocabulary. The exit code is 1 where anything is wrong.
#[derive(Args)]
pub(crate) struct Verify {
    /// The model. Without it, the built-in Shakespeare model.
    #[arg(value_name = "DIR|FILE")]
    model: Option<PathBuf>,

    /// Print one JSON object: model, tensors, parameters, bytes, problems; where the model cannot be opened, only model
    /// and problems.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Verify) -> anyhow::Result<()> {
    let model = ModelArguments { model: arguments.model.clone() };
    let bar = progress_bar("reading");
    let mut progress = |progress| show(&bar, progress);
    let found = match &arguments.model {
        Some(path) => Checkpoint::verify(path, &mut progress),
        None => model.checkpoint().map(|checkpoint| checkpoint.read_through(&mut progress)),
    };
    bar.finish_and_clear();
    let problem = |error: &Error| {
        let tensor = if let Error::Tensor { name, .. } = error { Some(name) } else { None };
        json!({ "tensor": tensor, "problem": error.to_string() })
    };
    let mut found = match found {
        Ok(found) => found,
        Err(error) => {
            if arguments.json {
                print_json(&json!({ "model": model.name(), "problems": [problem(&error)] }))?;
            }
            return Err(error.into());
        }
    };
    let tokenizer = model.tokenizer(found.config.vocab_size);
    let has_tokenizer = matches!(tokenizer, Ok(Some(_)));
    found.problems.extend(tokenizer.err());

    let parameters = found.config.parameter_count();
    if arguments.json {
        print_json(&json!({
            "model": model.name(),
            "tensors": found.tensors,
            "parameters": parameters,
            "bytes": found.bytes,
            "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
        }))?;
    } else {
        let mut out = std::io::stdout();
        for problem in &found.problems {
            writeln!(out, "{problem}")?;
        }
        if found.problems.is_empty() {
            let tokenizer = if has_tokenizer { "a tokenizer that fits" } else { "no tokenizer" };
            let (tensors, bytes) = (found.tensors, gigabytes(found.bytes));
            writeln!(out, "{}: sound; {tensors} tensors, {parameters} parameters, {bytes}; {tokenizer}", model.name())?;
        }
    }
    match found.problems.len() {
        0 => Ok(()),
        1 => bail!("{} has a problem", model.name()),
        count => bail!("{} has {count} problems", model.name()),
    }
}
