//! `gptj verify`: all problems of a model's files.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use gptj::Checkpoint;
use gptj::checkpoint::Error;
use serde_json::{Value, json};

use super::{ModelArguments, human_bytes, json, out, print_json, progress_bar, show};

/// Read all of a model and report every problem; needs no GPU.
///
/// Every tensor must exist in the right shape; every number must be finite and, in matrices, within f16's range. Tokens
/// must be within the vocabulary. The exit code is 1 if there is a problem.
#[derive(Args)]
pub(crate) struct Verify {
    /// The model. The default is the built-in Shakespeare model.
    #[arg(value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,

    /// The branch, tag or commit of a model on the Hugging Face Hub. The default is main.
    #[arg(long, value_name = "REVISION", requires = "model")]
    revision: Option<String>,

    /// Print one JSON object: model, tensors, parameters, bytes, problems; if the model cannot be opened, only model
    /// and problems.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) fn run(arguments: &Verify) -> anyhow::Result<()> {
    let model = ModelArguments::new(arguments.model.clone(), arguments.revision.clone());
    let path = model.path()?;
    let bar = progress_bar("reading");
    let mut progress = |progress| show(&bar, progress);
    let found = match path {
        Some(path) => Checkpoint::verify(path, &mut progress),
        None => model.checkpoint().map(|checkpoint| checkpoint.read_through(&mut progress)),
    };
    bar.finish_and_clear();
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let error = error.into();
            if arguments.json {
                print_json(&json!({ "model": model.name(), "problems": [to_json(&error)] }))?;
            }
            return Err(error);
        }
    };
    let tokenizer = model.tokenizer(found.config.vocab_size);
    let has_tokenizer = matches!(tokenizer, Ok(Some(_)));
    let mut problems: Vec<anyhow::Error> = found.problems.into_iter().map(Into::into).collect();
    problems.extend(tokenizer.err().map(anyhow::Error::from));

    let parameters = found.config.parameter_count();
    if arguments.json {
        print_json(&json::exact(json!({
            "model": model.name(),
            "tensors": found.tensors,
            "parameters": parameters,
            "bytes": found.bytes,
            "problems": problems.iter().map(to_json).collect::<Vec<_>>(),
        })))?;
    } else {
        let mut out = out();
        for problem in &problems {
            writeln!(out, "{problem:#}")?;
        }
        if problems.is_empty() {
            let tokenizer = if has_tokenizer { "a tokenizer that fits" } else { "no tokenizer" };
            let (tensors, bytes) = (found.tensors, human_bytes(found.bytes));
            writeln!(out, "{}: sound; {tensors} tensors, {parameters} parameters, {bytes}; {tokenizer}", model.name())?;
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => bail!("{} has a problem", model.name()),
        count => bail!("{} has {count} problems", model.name()),
    }
}

fn to_json(problem: &anyhow::Error) -> Value {
    let tensor = match problem.downcast_ref() {
        Some(Error::Tensor { name, .. }) => Some(name),
        _ => None,
    };
    json!({ "tensor": tensor, "problem": format!("{problem:#}") })
}
