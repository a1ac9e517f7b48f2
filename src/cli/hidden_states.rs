//! `gptj hidden-states`: the hidden states of every layer, as a file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use gptj::{Class, Config, Selector, Stages};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::input::Input;
use super::load::{Source, first_step};
use super::signals::Signals;
use super::{counted, keep_pipelines, out, print_json};

/// Write the hidden states of every layer to a safetensors file.
///
/// hidden_states.0 is the embedding and the last is after the final layer norm, as in transformers'
/// output_hidden_states; each is (tokens, n_embd) of f32.
#[derive(Args)]
pub(crate) struct HiddenStates {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    input: Input,

    /// The file to write.
    #[arg(long, short, help_heading = "Output", value_name = "FILE")]
    out: PathBuf,

    /// Write the attention weights as well: attentions.0 to attentions.(n_layer - 1), each (n_head, tokens, tokens).
    #[arg(long, help_heading = "Output")]
    attentions: bool,

    /// Print one JSON object: tokens, tensors (name to shape).
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &HiddenStates, gpu: &Selector) -> anyhow::Result<()> {
    let opened = arguments.source.open(Class::Model)?;
    let tokens = arguments.input.tokens(opened.tokenizer.as_ref(), &arguments.source.model)?;
    opened.config().check_prompt(&tokens)?;
    let mut model = opened.load_for(tokens.len(), gpu).await?;
    let stages = first_step(model.stages(0, &tokens, arguments.attentions)).await?;
    keep_pipelines(model.gpu());
    let tensors = tensors(&stages, opened.config(), tokens.len());
    let shapes: BTreeMap<_, _> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
    write(&arguments.out, &tensors)?;
    if arguments.json {
        return print_json(&json!({ "tokens": tokens, "tensors": shapes }));
    }
    let (path, count) = (arguments.out.display(), shapes.len());
    writeln!(out(), "{path}: {count} tensors of {}", counted(tokens.len(), "token"))?;
    Ok(())
}

fn tensors<'a>(stages: &'a Stages, config: &Config, n_tokens: usize) -> Vec<(String, TensorView<'a>)> {
    let tensor = |shape: &[usize], numbers: &'a Vec<f32>| {
        let bytes = bytemuck::cast_slice(numbers);
        TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("there are as many numbers as the shape says")
    };
    let hidden = stages.hidden_states.iter().enumerate();
    let hidden =
        hidden.map(|(index, states)| (format!("hidden_states.{index}"), tensor(&[n_tokens, config.n_embd], states)));
    let attentions = stages.attentions.iter().enumerate();
    let attentions = attentions
        .map(|(index, weights)| (format!("attentions.{index}"), tensor(&[config.n_head, n_tokens, n_tokens], weights)));
    hidden.chain(attentions).collect()
}

/// Writes the file under another name and renames it, so that it is never incomplete. A device, a link or any other
/// path that is not a regular file is written through and stays.
fn write(path: &Path, tensors: &[(String, TensorView<'_>)]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let tensors = || tensors.iter().map(|(name, tensor)| (name, tensor));
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let bytes = safetensors::serialize(tensors(), None).with_context(failed)?;
        return std::fs::write(path, bytes).with_context(failed);
    }
    let signals = Signals::listen()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let staged = builder.prefix(".hidden-states").tempfile_in(directory).map_err(|error| error.kind());
    let staged = staged.map_err(std::io::Error::from).with_context(failed)?;
    let metadata = path.metadata().or_else(|_| staged.as_file().metadata()).with_context(failed)?;
    // This replaces the file by one that only its owner can read.
    safetensors::serialize_to_file(tensors(), None, staged.path()).with_context(failed)?;
    std::fs::set_permissions(staged.path(), metadata.permissions()).with_context(failed)?;
    // Dropping the staged file removes it.
    signals.check()?;
    staged.persist(path).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}
