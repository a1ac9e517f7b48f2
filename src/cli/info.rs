//! `gptj info`: what a model is, what it takes of a GPU's memory, and whether it fits.

use std::io::Write;

use clap::Args;
use gptj::Architecture;
use gptj::checkpoint::Adapter;
use gptj::find_adapter;
use gptj::{Budget, Config, Error, LoadOptions, MemoryPlan, Room, Selector};
use serde_json::json;

use super::{ContextArgument, LoraArguments, ModelArguments, gigabytes, print_json};

/// Show a model's configuration, what it takes of the GPU's memory, and the longest context that fits.
#[derive(Args)]
pub(crate) struct Info {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lora: LoraArguments,

    #[command(flatten)]
    context: ContextArgument,

    /// Print one JSON object: config, lora, parameters, context, memory, adapter, fits, problem.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &Info, gpu: &Selector) -> anyhow::Result<()> {
    let checkpoint = arguments.lora.add_to(arguments.model.checkpoint()?)?;
    let config = checkpoint.config();
    let options = LoadOptions { context: arguments.context.context, ..LoadOptions::default() };
    // A model can be looked at on a machine without a GPU, but a GPU that was asked for must be there.
    let adapter = match find_adapter(gpu).await {
        Err(_) if *gpu == Selector::Best => None,
        found => Some(found?),
    };
    // Without a GPU, everything fits.
    let room = adapter.as_ref().map_or(Room::ANYTHING, Into::into);
    let plan = match MemoryPlan::new(room, config, &options) {
        Err(error @ Error::OutOfMemory { .. }) => Err(error),
        plan => Ok(plan?),
    };
    let planned = Config { n_positions: options.context.unwrap_or(config.n_positions), ..config.clone() };
    let (context, budget) = match &plan {
        Ok(plan) => (plan.config.n_positions, plan.budget),
        Err(_) => (planned.n_positions, Budget::new(&planned, &options)),
    };
    let adapters = checkpoint.adapters();
    if arguments.json {
        let one = |adapter: &Adapter| json!({ "path": adapter.path(), "scale": adapter.scale(), "matrices": adapter.matrices() });
        let adapters: Vec<_> = adapters.iter().map(one).collect();
        return print_json(&json!({
            "config": config,
            "lora": adapters,
            "parameters": config.parameter_count(),
            "context": context,
            "memory": {
                "weights": budget.weights,
                "cache": budget.cache,
                "activations": budget.activations,
                "driver": budget.driver,
                "total": budget.total(),
            },
            "adapter": adapter,
            "fits": adapter.as_ref().and_then(|adapter| adapter.memory).map(|_| plan.is_ok()),
            "problem": plan.as_ref().err().map(ToString::to_string),
        }));
    }

    let mut out = std::io::stdout();
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
    writeln!(out, "memory on the GPU, with a context of {context}")?;
    writeln!(out, "  weights (f16)      {:>10}", gigabytes(budget.weights))?;
    writeln!(out, "  cache (f16)        {:>10}", gigabytes(budget.cache))?;
    writeln!(out, "  activations (f32)  {:>10}", gigabytes(budget.activations))?;
    writeln!(out, "  driver, about      {:>10}", gigabytes(budget.driver))?;
    writeln!(out, "  total              {:>10}", gigabytes(budget.total()))?;
    match (&adapter, plan) {
        (None, _) => writeln!(out, "no GPU found")?,
        (Some(adapter), Err(error)) => writeln!(out, "does not fit {adapter}: {error}")?,
        (Some(adapter), Ok(_)) => match adapter.memory {
            None => writeln!(out, "{adapter}: its driver does not tell how much memory it has")?,
            Some(memory) => writeln!(out, "fits {adapter} with {}", gigabytes(memory))?,
        },
    }
    Ok(())
}
