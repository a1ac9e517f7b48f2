//! `gptj bench model`: a whole model, from opening it to decoding in batches.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use gptj::internals::cache::Cache;
use gptj::internals::synthetic;
use gptj::internals::weights::Weights;
use gptj::{Checkpoint, Config, Error, Feed, Gpu, LoadOptions, Selector};
use serde_json::{Value, json};

use super::compare::{Comparison, Entry, Old};
use super::{Shapes, geometry, median, number, open, print_table};
use crate::cli::tuned::tuned;
use crate::cli::{LoraArguments, ModelArguments, keep_pipelines, note_wrong_matrix_units, print_json};

/// Time a whole model: loading, prompts, decoding at several depths and in batches, memory.
#[derive(Args)]
pub(crate) struct Model {
    /// Weights of this size, made up on the GPU.
    #[arg(long, value_name = "SHAPES", conflicts_with_all = ["model", "adapters"])]
    synthetic: Option<Shapes>,

    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lora: LoraArguments,

    /// Positions to have room for, in place of the model's own number.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    context: Option<usize>,

    /// Seconds to measure for, loading aside; what does not fit is not measured.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Show what changed since an earlier run, whose --json output this file is.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,

    /// Print one JSON object: adapter, model, context, vector, measurements, comparison.
    #[arg(long)]
    json: bool,
}

const PREFILLS: [usize; 3] = [128, 512, 2048];
const DEPTHS: [usize; 4] = [0, 512, 1024, 1984];
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Tokens of the prompt before the first token.
const PROMPT: usize = 32;

/// Positions of a slot of a batch, so that many slots find room beside the weights.
const BATCH_POSITIONS: usize = 128;

/// Steps of a measurement of decoding at most.
const STEPS: usize = 32;

/// One number.
struct Measurement {
    name: String,
    unit: &'static str,
    value: Option<f64>,
    /// How many runs it is the median of, where it is one.
    runs: Option<usize>,
}

/// The median of some runs.
#[derive(Clone, Copy)]
struct Timed {
    seconds: f64,
    runs: usize,
}

/// The measurements so far, and the time that is left for others.
struct Session {
    done: Vec<Measurement>,
    end: Instant,
    /// Measurements to come that take time.
    left: usize,
}

impl Session {
    fn add(&mut self, name: impl Into<String>, unit: &'static str, value: Option<f64>) {
        self.done.push(Measurement { name: name.into(), unit, value, runs: None });
    }

    /// What comes of some runs; nothing where there were none.
    fn add_timed(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        timed: Option<Timed>,
        of: impl Fn(f64) -> f64,
    ) {
        let (value, runs) = (timed.map(|timed| of(timed.seconds)), timed.map(|timed| timed.runs));
        self.done.push(Measurement { name: name.into(), unit, value, runs });
    }

    /// The next measurement's share of the time that is left; `None` where one run of it, which takes about `estimate`,
    /// would take most of what there is for all.
    fn share(&mut self, estimate: Duration) -> Option<Duration> {
        let rest = self.end.saturating_duration_since(Instant::now());
        let share = rest / self.left.max(1) as u32;
        self.left = self.left.saturating_sub(1);
        (!rest.is_zero() && estimate < rest / 2).then_some(share)
    }
}

pub(super) async fn run(arguments: &Model, selector: &Selector, start: Instant) -> anyhow::Result<()> {
    let old = arguments.compare.as_ref().map(|path| Old::read(path, "measurements", "value")).transpose()?;
    let checkpoint = match arguments.synthetic {
        Some(_) => None,
        None => Some(arguments.lora.add_to(arguments.model.checkpoint()?)?),
    };
    let (mut config, name) = match (arguments.synthetic, &checkpoint) {
        (Some(shapes), _) => (shapes.config()?, format!("synthetic {shapes}")),
        (None, Some(checkpoint)) => (checkpoint.config().clone(), arguments.model.name()),
        (None, None) => unreachable!("a model is made up or from a checkpoint"),
    };
    if let Some(context) = arguments.context {
        if !(PROMPT + 1..=config.n_positions).contains(&context) {
            let reason = format!("{context} is not between {} and the model's {}", PROMPT + 1, config.n_positions);
            return Err(Error::Option { name: "context", reason }.into());
        }
        config.n_positions = context;
    }

    let gpu = open(selector).await?;
    let load = Instant::now();
    let weights = weights(&gpu, &config, checkpoint.as_ref()).await?;
    let options = LoadOptions { vector: tuned(&gpu), ..LoadOptions::default() };
    let vector = geometry(&gpu).await?.vector;
    let mut model = gptj::Model::new(&gpu, &config, weights, &options).await?;
    let load = load.elapsed();
    note_wrong_matrix_units(&model);
    // As many as it has room for.
    let config = model.config().clone();
    let context = config.n_positions;
    let prompt = tokens(&config, PROMPT.min(context - 1));
    model.most_likely(0, &prompt, false).await?;
    let first_token = start.elapsed();

    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    model.truncate(0, 0);
    let again = Instant::now();
    model.most_likely(0, &prompt, false).await?;
    let of_prompt = again.elapsed() / prompt.len() as u32;
    model.truncate(0, 1);
    let decoded = Instant::now();
    model.most_likely(0, &[0], false).await?;
    let per_token = decoded.elapsed();
    let left = PREFILLS.len() + DEPTHS.len() + BATCHES.len() + 1;
    let mut session = Session { done: Vec::new(), end, left };
    let loading = if arguments.synthetic.is_some() { "making up weights" } else { "load" };
    session.add(loading, "s", Some(load.as_secs_f64()));
    session.add("time to first token", "s", Some(first_token.as_secs_f64()));
    session.add("launches a token", "launches", Some(model.launches(1) as f64));
    session.add("weights a token", "bytes", Some(Weights::bytes_per_token(&config) as f64));
    session.add("keys and values a position", "bytes", Some(Cache::bytes_per_position(&config) as f64));
    session.add("memory, engine's count", "bytes", Some(gpu.created().buffer_bytes as f64));
    session.add("memory, allocator's count", "bytes", gpu.allocated_bytes().map(|bytes| bytes as f64));

    host(&mut session, &mut model, per_token).await?;
    for depth in DEPTHS {
        decode(&mut session, &mut model, depth, per_token).await?;
    }
    for length in PREFILLS {
        prefill(&mut session, &mut model, length, of_prompt * length as u32).await?;
    }
    let weights = model.into_weights();
    let config = Config { n_positions: BATCH_POSITIONS.min(config.n_positions), ..config };
    batches(&mut session, &gpu, &config, weights, per_token).await?;
    keep_pipelines(&gpu);

    let measurements = session.done;
    let mut report = json!({
        "adapter": gpu.info().to_string(),
        "model": name,
        "context": context,
        "vector": vector,
        "measurements": measurements.iter().map(to_json).collect::<Vec<_>>(),
        "comparison": null,
    });
    let comparison = old.map(|old| Comparison::new(old, &report, measurements.iter().map(entry).collect()));
    if arguments.json {
        report["comparison"] = serde_json::to_value(&comparison)?;
        return print_json(&report);
    }
    let row = |measured: &Measurement| {
        let value = match measured.value {
            Some(value) if matches!(measured.unit, "bytes" | "launches") => value.to_string(),
            value => number(value),
        };
        vec![measured.name.clone(), measured.unit.to_owned(), value]
    };
    print_table(&["measured", "unit", "value"], 2, measurements.iter().map(row).collect())?;
    writeln!(std::io::stdout(), "{name}; {}", gpu.info())?;
    comparison.map_or(Ok(()), |comparison| comparison.print())
}

async fn weights(gpu: &Gpu, config: &Config, checkpoint: Option<&Checkpoint>) -> gptj::Result<Weights> {
    match checkpoint {
        Some(checkpoint) => Weights::load(gpu, checkpoint, &mut |_| ()).await,
        None => synthetic::weights(gpu, config, 0).await,
    }
}

fn tokens(config: &Config, count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * 7919 % config.vocab_size) as u32).collect()
}

/// The host's time to put a token's step together and hand it over. On a software driver, whose threads take the
/// processor while the host works, it would say nothing; `gptj bench plan` measures it without them.
async fn host(session: &mut Session, model: &mut gptj::Model, per_token: Duration) -> anyhow::Result<()> {
    let share = session.share(per_token).filter(|_| !model.gpu().info().is_software());
    let Some(share) = share else {
        session.add("host", "µs/token", None);
        return Ok(());
    };
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || (times.len() < STEPS && begin.elapsed() < share) {
        model.truncate(0, 0);
        let start = Instant::now();
        let submitted = model.submit_most_likely(0, &[0])?;
        times.push(start.elapsed().as_secs_f64());
        submitted.take::<u32>().await?;
    }
    let runs = times.len();
    session
        .add_timed("host", "µs/token", median(times).map(|seconds| Timed { seconds, runs }), |seconds| seconds * 1e6);
    Ok(())
}

async fn decode(
    session: &mut Session,
    model: &mut gptj::Model,
    depth: usize,
    per_token: Duration,
) -> anyhow::Result<()> {
    let name = format!("decode at depth {depth}");
    let fits = depth + STEPS < model.config().n_positions;
    let timed = match session.share(per_token) {
        Some(share) if fits => {
            model.truncate(0, 0);
            model.skip(0, depth);
            // As in generating text, the GPU has the next step before the host knows this one's token.
            let mut token = 0;
            let run = async || {
                token = model.most_likely(0, &[token], true).await?;
                Ok(())
            };
            // The runs, the one before them and the one after.
            let timed = repeat(share, STEPS - 2, run).await?;
            // So that the next measurement need not wait for the step under way.
            model.most_likely(0, &[token], false).await?;
            timed
        }
        _ => None,
    };
    let config = model.config();
    let bytes = Weights::bytes_per_token(config) + Cache::bytes_per_position(config) * (depth as u64 + 1);
    session.add(format!("{name}, reads"), "bytes", Some(bytes as f64));
    session.add_timed(&name, "tok/s", timed, f64::recip);
    session.add_timed(format!("{name}, memory"), "GB/s", timed, |seconds| bytes as f64 / seconds / 1e9);
    Ok(())
}

async fn prefill(
    session: &mut Session,
    model: &mut gptj::Model,
    length: usize,
    estimate: Duration,
) -> anyhow::Result<()> {
    let fits = length <= model.config().n_positions;
    let timed = match session.share(2 * estimate) {
        Some(share) if fits => {
            let prompt = tokens(model.config(), length);
            let run = async || {
                model.truncate(0, 0);
                model.most_likely(0, &prompt, false).await.map(|_| ())
            };
            repeat(share, STEPS, run).await?
        }
        _ => None,
    };
    session.add_timed(format!("prefill of {length}"), "tok/s", timed, |seconds| length as f64 / seconds);
    Ok(())
}

/// Decoding several sequences at once, in a model with many short slots.
async fn batches(
    session: &mut Session,
    gpu: &Gpu,
    config: &Config,
    weights: Weights,
    per_token: Duration,
) -> anyhow::Result<()> {
    let n_slots = BATCHES.into_iter().max().unwrap_or(1);
    let options = LoadOptions { n_slots, vector: tuned(gpu), ..LoadOptions::default() };
    let model = gptj::Model::new(gpu, config, weights, &options).await;
    let mut model = match model {
        Ok(model) => Some(model),
        Err(Error::OutOfMemory { .. }) => None,
        Err(error) => return Err(error).context("a model for batches"),
    };
    if let Some(model) = &mut model {
        // Pays for what drivers put off until a kernel runs.
        model.most_likely(0, &[0], false).await?;
    }
    for rows in BATCHES {
        let timed = match (session.share(per_token * rows as u32), &mut model) {
            (Some(share), Some(model)) => {
                let next: Vec<_> = (0..rows).map(|slot| Feed { slot, tokens: &[0] }).collect();
                let steps = STEPS.min(config.n_positions - 1) - 1;
                (0..rows).for_each(|slot| model.truncate(slot, 0));
                repeat(share, steps, async || model.most_likely_of_feeds(&next).await.map(|_| ())).await?
            }
            _ => None,
        };
        session.add_timed(format!("decode of {rows} sequences"), "tok/s", timed, |seconds| rows as f64 / seconds);
    }
    Ok(())
}

/// The median time of some work: of as many runs as `share` has room for, up to `limit`, after one that does not count,
/// since it may compile kernels or find caches cold.
async fn repeat(
    share: Duration,
    limit: usize,
    mut run: impl AsyncFnMut() -> gptj::Result<()>,
) -> gptj::Result<Option<Timed>> {
    let begin = Instant::now();
    run().await?;
    let mut times = Vec::new();
    while times.is_empty() || (times.len() < limit && begin.elapsed() < share) {
        let start = Instant::now();
        run().await?;
        times.push(start.elapsed().as_secs_f64());
    }
    let runs = times.len();
    Ok(median(times).map(|seconds| Timed { seconds, runs }))
}

fn entry(measured: &Measurement) -> Entry {
    let Measurement { name, unit, value, .. } = measured;
    Entry { name: name.clone(), value: *value, larger_is_better: matches!(*unit, "tok/s" | "GB/s") }
}

fn to_json(measured: &Measurement) -> Value {
    let Measurement { name, unit, value, runs } = measured;
    json!({ "name": name, "unit": unit, "value": value, "runs": runs })
}
