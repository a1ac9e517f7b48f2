//! `gptj info`: a model's configuration, its memory on the GPU, and whether it fits.

use std::io::Write;

use clap::Args;
use gptj::checkpoint::Adapter;
use gptj::{
    Architecture, Checkpoint, Config, DeviceCapacity, Error, LoadOptions, MemoryPlan, MemoryUsage, Selector,
    checkpoint, find_adapter,
};
use serde_json::json;

use super::{ContextArgument, LoraArguments, ModelArguments, human_bytes, json, out, print_json};

/// Show a model's configuration, its memory on the GPU, and the longest context that fits; needs no weights.
#[derive(Args)]
pub(crate) struct Info {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lora: LoraArguments,

    #[command(flatten)]
    context: ContextArgument,

    /// Print one JSON object: config, lora, parameters, context, memory, adapter, fits, problem.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) async fn run(arguments: &Info, gpu: &Selector) -> anyhow::Result<()> {
    let (checkpoint, missing) = match arguments.model.checkpoint() {
        Ok(checkpoint) => (Some(arguments.lora.add_to(checkpoint)?), None),
        // Without weights, all but the merging of adapters can be shown.
        Err(error @ checkpoint::Error::NoWeights(_)) if arguments.lora.is_empty() => (None, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let config = &checkpoint.as_ref().map_or_else(|| arguments.model.config(), |it| Ok(it.config().clone()))?;
    let options = LoadOptions { context: arguments.context.of(&arguments.model), ..LoadOptions::default() };
    // No GPU is needed, but one that was asked for must exist.
    let adapter = match find_adapter(gpu).await {
        Err(_) if *gpu == Selector::Best => None,
        found => Some(found?),
    };
    // Without a GPU, everything fits.
    let capacity = adapter.as_ref().map_or(DeviceCapacity::ANYTHING, Into::into);
    let plan = match MemoryPlan::new(capacity, config, &options) {
        Err(error @ Error::OutOfMemory { .. }) => Err(error),
        plan => Ok(plan?),
    };
    let planned = Config { n_positions: options.context.unwrap_or(config.n_positions), ..config.clone() };
    let (context, usage) = match &plan {
        Ok(plan) => (plan.config.n_positions, plan.budget),
        Err(_) => (planned.n_positions, MemoryUsage::new(&planned, &options)),
    };
    let adapters = checkpoint.as_ref().map_or(&[][..], Checkpoint::adapters);
    if arguments.json {
        let lora = |lora: &Adapter| json!({ "path": lora.path(), "scale": lora.scale(), "matrices": lora.matrices() });
        return print_json(&json::exact(json!({
            "config": json::shortest(config)?,
            "lora": adapters.iter().map(lora).collect::<Vec<_>>(),
            "parameters": config.parameter_count(),
            "context": context,
            "memory": {
                "weights": usage.weights,
                "cache": usage.cache,
                "activations": usage.activations,
                "driver": usage.driver,
                "total": usage.total(),
            },
            "adapter": adapter,
            "fits": adapter.as_ref().and_then(|adapter| adapter.memory).map(|_| plan.is_ok()),
            "problem": missing.map(|error| error.to_string()).or(plan.err().map(|error| error.to_string())),
        })));
    }

    let mut out = out();
    let Config { vocab_size, n_positions, n_embd, n_layer, n_head, rotary_dim, n_inner, .. } = config;
    let architecture = match config.architecture {
        Architecture::GptJ => "GPT-J",
        Architecture::CodeGen { .. } => "CodeGen",
    };
    writeln!(out, "{}: {architecture} of {} parameters", arguments.model.name(), config.parameter_count())?;
    writeln!(out, "  {n_layer} blocks; width {n_embd}, {n_head} heads of {}; MLP {n_inner}", config.head_dim())?;
    writeln!(out, "  vocabulary {vocab_size}; context {n_positions}; rotary dimensions {rotary_dim}")?;
    for adapter in adapters {
        let (path, scale) = (adapter.path().display(), adapter.scale());
        writeln!(out, "  {path} merged into {} matrices, times {scale}", adapter.matrices())?;
    }
    if missing.is_some() {
        writeln!(out, "no weights in this directory")?;
    }
    writeln!(out, "memory on the GPU, with a context of {context}")?;
    writeln!(out, "  weights (f16)      {:>10}", human_bytes(usage.weights))?;
    writeln!(out, "  cache (f16)        {:>10}", human_bytes(usage.cache))?;
    writeln!(out, "  activations (f32)  {:>10}", human_bytes(usage.activations))?;
    writeln!(out, "  driver, about      {:>10}", human_bytes(usage.driver))?;
    writeln!(out, "  total              {:>10}", human_bytes(usage.total()))?;
    match (&adapter, plan) {
        (None, _) => writeln!(out, "no GPU found")?,
        (Some(adapter), Err(error)) => writeln!(out, "does not fit {adapter}: {error}")?,
        (Some(adapter), Ok(_)) => match adapter.memory {
            None => writeln!(out, "{adapter}: its driver does not report its memory")?,
            Some(memory) => writeln!(out, "fits {adapter} with {}", human_bytes(memory))?,
        },
    }
    Ok(())
}
