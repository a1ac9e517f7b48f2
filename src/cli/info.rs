//! `gptj info`: what a model is and whether it fits a GPU.

use std::io::Write;

use clap::Args;
use gptj::checkpoint::Adapter;
use gptj::gpu::{AdapterInfo, find_adapter};
use gptj::{Budget, Config, LoadOptions, Selector};
use serde_json::json;

use super::{LoraArguments, ModelArguments, gigabytes, print_json};

/// Show a model's configuration, its size, and whether it fits the GPU.
#[derive(Args)]
pub(crate) struct Info {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lora: LoraArguments,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &Info, gpu: &Selector) -> anyhow::Result<()> {
    let checkpoint = arguments.lora.add_to(arguments.model.checkpoint()?)?;
    let config = checkpoint.config();
    let budget = Budget::new(config, &LoadOptions::default());
    // A model can be looked at on a machine without a GPU, but a GPU that was asked for must be there.
    let adapter = match find_adapter(gpu).await {
        Err(_) if *gpu == Selector::Best => None,
        found => Some(found?),
    };
    let fits = adapter.as_ref().and_then(|adapter| fits(config, &budget, adapter));
    let adapters = checkpoint.adapters();
    if arguments.json {
        let one = |adapter: &Adapter| json!({ "path": adapter.path(), "scale": adapter.scale(), "matrices": adapter.matrices() });
        let adapters: Vec<_> = adapters.iter().map(one).collect();
        return print_json(&json!({
            "config": config,
            "lora": adapters,
            "parameters": config.parameter_count(),
            "memory": {
                "weights": budget.weights,
                "cache": budget.cache,
                "activations": budget.activations,
                "total": budget.total(),
            },
            "adapter": adapter,
            "fits": fits,
        }));
    }

    let mut out = std::io::stdout();
    let Config { vocab_size, n_positions, n_embd, n_layer, n_head, rotary_dim, n_inner, .. } = config;
    writeln!(out, "{}: GPT-J of {} parameters", arguments.model.name(), config.parameter_count())?;
    writeln!(out, "  {n_layer} blocks; width {n_embd}, {n_head} heads of {}; MLP {n_inner}", config.head_dim())?;
    writeln!(out, "  vocabulary {vocab_size}; context {n_positions}; rotary dimensions {rotary_dim}")?;
    for adapter in adapters {
        let (path, scale) = (adapter.path().display(), adapter.scale());
        writeln!(out, "  {path} merged into {} matrices, times {scale}", adapter.matrices())?;
    }
    writeln!(out, "memory on the GPU")?;
    writeln!(out, "  weights (f16)      {:>10}", gigabytes(budget.weights))?;
    writeln!(out, "  cache (f16)        {:>10}", gigabytes(budget.cache))?;
    writeln!(out, "  activations (f32)  {:>10}", gigabytes(budget.activations))?;
    writeln!(out, "  total              {:>10}", gigabytes(budget.total()))?;
    match (adapter, fits) {
        (None, _) => writeln!(out, "no GPU found")?,
        (Some(adapter), None) => writeln!(out, "{adapter}: its driver does not tell how much memory it has")?,
        (Some(adapter), Some(fits)) => {
            let verdict = if fits { "fits" } else { "does not fit" };
            let memory = gigabytes(adapter.memory.unwrap_or_default());
            writeln!(out, "{verdict} {adapter} with {memory}")?;
        }
    }
    Ok(())
}

/// Whether everything fits the adapter; `None` where its driver does not tell its memory.
fn fits(config: &Config, budget: &Budget, adapter: &AdapterInfo) -> Option<bool> {
    let whole = Budget::largest_piece(config, &LoadOptions::default());
    adapter.memory.map(|memory| budget.total() <= memory && whole <= adapter.max_buffer.min(adapter.max_binding))
}
