//! `gptj bench plan`: the launches and bytes of a step, and the host's time for it, without memory for the model.

use std::time::Instant;

use clap::Args;
use gptj::internals::gpu::padded;
use gptj::internals::kv_cache::KvCache;
use gptj::internals::model::synthetic;
use gptj::internals::weights::Weights;
use gptj::{Error, GemvConfig, Gpu, GpuOptions, LoadOptions, MemoryUsage, Selector};
use serde_json::json;

use super::Shapes;
use super::output::{OutputArguments, Report, report};
use super::statistics::{Statistics, number};
use super::table::Table;
use crate::cli::{cache_dir, counted, human_bytes, keep_pipelines};

/// Show the launches and bytes of a step, and the host's time to prepare it.
///
/// The weights are not allocated and the kernels do not run; the host does all of its work for a step.
///
/// The JSON has version, commit, date, adapter, driver, shapes, rows, depth, launches, weight_bytes, kv_bytes,
/// activation_bytes, memory and host_us.
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

    #[command(flatten)]
    output: OutputArguments,
}

/// Steps whose median is the host's time.
const STEPS: usize = 50;

pub(super) async fn run(arguments: &Plan, selector: &Selector) -> anyhow::Result<()> {
    let config = arguments.shapes.config()?;
    let rows = arguments.rows as usize;
    let positions = arguments.depth.saturating_add(rows);
    if positions > config.n_positions {
        let reason = format!("{positions} positions exceed the context of {}", config.n_positions);
        return Err(Error::Option { name: "depth", reason }.into());
    }
    let cache_dir = cache_dir();
    let gpu_options = GpuOptions { selector: selector.clone(), dry_run: true, cache_dir, ..GpuOptions::default() };
    let gpu = Gpu::open(&gpu_options).await?;
    let chunk = rows.max(LoadOptions::default().chunk);
    let options = LoadOptions { chunk, gemv: GemvConfig::tuned(&gpu), ..LoadOptions::default() };
    let weights = synthetic::weights(&gpu, &config, 0).await?;
    let mut model = gptj::Model::new(&gpu, &config, weights, &options).await?;

    let tokens = vec![0; rows];
    let mut times = Vec::new();
    // The first step does not count: the driver clears new memory.
    for step in 0..=STEPS {
        model.truncate(0, 0);
        model.skip(0, arguments.depth);
        let start = Instant::now();
        let submitted = model.submit_greedy_token(0, &tokens)?;
        let time = start.elapsed();
        submitted.take::<u32>().await?;
        if step > 0 {
            times.push(time.as_secs_f64() * 1e6);
        }
    }

    keep_pipelines(&gpu);
    let host = Statistics::of(times).expect("there are steps");
    let launches = model.launches(rows);
    // Each row reads its own row of the embedding; everything else is read once.
    let embedding = (rows * padded(config.n_embd)) as u64 * 2;
    let weight_bytes = Weights::bytes_per_token(&config) + embedding;
    let kv_bytes = KvCache::bytes_per_position(&config) * positions as u64;
    let memory = MemoryUsage::new(&config, &options);
    let (depth, shapes) = (arguments.depth, arguments.shapes);
    let more = json!({
        "shapes": shapes.to_string(),
        "rows": rows,
        "depth": depth,
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
        "host_us": host.median,
    });
    let rows = [
        ("launches", launches.to_string()),
        ("weights read", human_bytes(weight_bytes)),
        ("keys and values", human_bytes(kv_bytes)),
        ("activations", human_bytes(memory.activations)),
        ("host", format!("{} µs", number(Some(host.median), host.spread))),
    ];
    let (n_rows, depth) = (counted(arguments.rows as usize, "row"), counted(depth, "position"));
    let footer = vec![format!("a step of {n_rows} after {depth}, shapes of {shapes}")];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]).into();
    let table = Table { header: vec!["a step", ""], n_names: 1, rows };
    Report { json: report(&gpu, more), list: "", table, footer, comparison: None }.print(arguments.output.format())
}
