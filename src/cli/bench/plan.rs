//! `gptj bench plan`: what a step would do, and what it costs the host, without room for the model.

use std::io::Write;
use std::time::Instant;

use clap::Args;
use gptj::internals::cache::Cache;
use gptj::internals::gpu::padded;
use gptj::internals::synthetic;
use gptj::internals::weights::Weights;
use gptj::{Budget, Error, Gpu, GpuOptions, LoadOptions, Selector};
use serde_json::json;

use super::{Shapes, median, number};
use crate::cli::tuned::tuned;
use crate::cli::{cache_dir, gigabytes, keep_pipelines, print_json};

/// Show what a step would do: launches, bytes, and the host's time to put it together.
///
/// The weights are not allocated and the kernels do not run; the host does all of its work for a step.
#[derive(Args)]
pub(crate) struct Plan {
    /// The sizes of the model.
    #[arg(long, default_value = "6b")]
    shapes: Shapes,

    /// Rows of the step; one is decoding, several are a prompt.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    rows: u32,

    /// Positions before the step.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 0)]
    depth: usize,

    /// Print one JSON object: launches, weight_bytes, kv_bytes, activation_bytes, memory, host_us.
    #[arg(long)]
    json: bool,
}

/// Steps whose median is the host's time.
const STEPS: usize = 50;

pub(super) async fn run(arguments: &Plan, selector: &Selector) -> anyhow::Result<()> {
    let config = arguments.shapes.config()?;
    let rows = arguments.rows as usize;
    let positions = arguments.depth.saturating_add(rows);
    if positions > config.n_positions {
        let room = config.n_positions;
        return Err(Error::Option { name: "depth", reason: format!("{positions} positions exceed {room}") }.into());
    }
    let cache_dir = cache_dir();
    let gpu_options = GpuOptions { selector: selector.clone(), rehearsal: true, cache_dir, ..GpuOptions::default() };
    let gpu = Gpu::open(&gpu_options).await?;
    let chunk = rows.max(LoadOptions::default().chunk);
    let options = LoadOptions { chunk, vector: tuned(&gpu), ..LoadOptions::default() };
    let weights = synthetic::weights(&gpu, &config, 0).await?;
    let mut model = gptj::Model::new(&gpu, &config, weights, &options).await?;

    let tokens = vec![0; rows];
    let mut times = Vec::new();
    // The first step is not like the others: the driver clears new memory.
    for step in 0..=STEPS {
        model.truncate(0, 0);
        model.skip(0, arguments.depth);
        let start = Instant::now();
        let submitted = model.submit_most_likely(0, &tokens)?;
        let time = start.elapsed();
        submitted.take::<u32>().await?;
        if step > 0 {
            times.push(time.as_secs_f64() * 1e6);
        }
    }

    keep_pipelines(&gpu);
    let host = median(times);
    let launches = model.launches(rows);
    // Each row takes its own row of the embedding; everything else is read once.
    let embedding = (rows * padded(config.n_embd)) as u64 * 2;
    let weight_bytes = Weights::bytes_per_token(&config) + embedding;
    let kv_bytes = Cache::bytes_per_position(&config) * positions as u64;
    let memory = Budget::new(&config, &options);
    if arguments.json {
        return print_json(&json!({
            "adapter": gpu.info().to_string(),
            "shapes": arguments.shapes.to_string(),
            "rows": rows,
            "depth": arguments.depth,
            "launches": launches,
            "weight_bytes": weight_bytes,
            "kv_bytes": kv_bytes,
            "activation_bytes": memory.activations,
            "memory": {
                "weights": memory.weights,
                "cache": memory.cache,
                "activations": memory.activations,
                "total": memory.total(),
            },
            "host_us": host,
        }));
    }
    let mut out = std::io::stdout();
    writeln!(out, "a step of {rows} rows after {} positions, shapes of {}", arguments.depth, arguments.shapes)?;
    writeln!(out, "  launches           {launches:>10}")?;
    writeln!(out, "  weights read       {:>10}", gigabytes(weight_bytes))?;
    writeln!(out, "  keys and values    {:>10}", gigabytes(kv_bytes))?;
    writeln!(out, "  activations hold   {:>10}", gigabytes(memory.activations))?;
    writeln!(out, "  host               {:>10} µs", number(host))?;
    Ok(())
}
