//! `gptj bench model`: a whole model, from opening it to decoding in batches.

mod session;

use std::time::{Duration, Instant};

use clap::Args;
use gptj::internals::kv_cache::KvCache;
use gptj::internals::model::synthetic;
use gptj::internals::weights::Weights;
use gptj::{Checkpoint, Config, Error, GemvConfig, Gpu, LoadOptions, Selector};
use serde_json::{Value, json};

use self::session::{Limits, Measurement, Session, batches, decode, generate, host, prefill, tokens};
use super::compare::{CompareArguments, Comparison, Entry};
use super::list::{Item, item, numbers};
use super::output::{OutputArguments, Report, report};
use super::statistics::{TWO_DIGITS, number, percent};
use super::table::Table;
use super::{Shapes, open, tuning};
use crate::cli::signals::Signals;
use crate::cli::{LoraArguments, ModelArguments, keep_pipelines, note_wrong_matrix_units};

/// Time a whole model: loading, prompts, decoding at several depths and in batches, memory.
///
/// With -p or -n, prompts and texts of these lengths instead, as in llama-bench. Ctrl-C prints the results so far; the
/// exit code is then 130.
///
/// The JSON has version, commit, date, adapter, driver, model, context, vector, measurements, interrupted and
/// comparison. A measurement's value is the median of its runs.
#[derive(Args)]
pub(crate) struct Model {
    /// Weights of this size, made up on the GPU.
    #[arg(long, help_heading = "Model", value_name = "SHAPES", conflicts_with_all = ["model", "adapters"])]
    synthetic: Option<Shapes>,

    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    lora: LoraArguments,

    /// The context, instead of the model's own.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    context: Option<usize>,

    /// Tokens of the prompts to measure; 0 for none. The default with -n is 512. Lists take ranges: 128-512+128,
    /// 1-64*2.
    #[arg(long, short = 'p', value_name = "LIST", value_delimiter = ',', allow_negative_numbers = true)]
    #[arg(help_heading = "Measurements", value_parser = item(0..=1 << 20))]
    n_prompt: Option<Vec<Item>>,

    /// Tokens of the texts to generate, from an empty context; 0 for none. The default with -p is 128.
    #[arg(long, short = 'n', value_name = "LIST", value_delimiter = ',', allow_negative_numbers = true)]
    #[arg(help_heading = "Measurements", value_parser = item(0..=1 << 20))]
    n_gen: Option<Vec<Item>>,

    /// Runs of each measurement. The default with -p or -n is 5; without, as many as --seconds has time for.
    #[arg(long, short = 'r', value_name = "N", allow_negative_numbers = true)]
    #[arg(help_heading = "Measurements", value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: Option<u32>,

    /// Seconds to measure for, loading aside; what does not fit is not measured. The default is 60, or no limit with
    /// -p, -n or -r.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help_heading = "Measurements", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,

    #[command(flatten)]
    compare: CompareArguments,

    #[command(flatten)]
    output: OutputArguments,
}

const PREFILLS: [usize; 3] = [128, 512, 2048];
const DEPTHS: [usize; 4] = [0, 512, 1024, 1984];
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Tokens of the prompt before the first token.
const PROMPT: usize = 32;

/// Positions of a slot of a batch, so that many slots fit beside the weights.
const BATCH_POSITIONS: usize = 128;

/// The most runs of a measurement that only time limits.
const MAX_RUNS: u32 = 30;

/// The tests of llama-bench: lengths of prompts, and of generated texts.
struct Tests {
    prompts: Vec<usize>,
    texts: Vec<usize>,
}

impl Model {
    /// `None` for the measurements of this program.
    fn tests(&self) -> Option<Tests> {
        if self.n_prompt.is_none() && self.n_gen.is_none() {
            return None;
        }
        let lengths = |items: &Option<Vec<Item>>, usual| {
            let lengths = items.as_deref().map_or_else(|| vec![usual], numbers);
            lengths.into_iter().filter(|&length| length > 0).collect()
        };
        Some(Tests { prompts: lengths(&self.n_prompt, 512), texts: lengths(&self.n_gen, 128) })
    }

    fn limits(&self) -> Limits {
        let of_llama_bench = self.n_prompt.is_some() || self.n_gen.is_some();
        let is_timed = !of_llama_bench && self.repetitions.is_none();
        let runs = self.repetitions.unwrap_or(if of_llama_bench { 5 } else { MAX_RUNS });
        let seconds = self.seconds.or(is_timed.then_some(60));
        Limits { runs: runs as usize, time: seconds.map(Duration::from_secs) }
    }

    /// The configuration to measure, with the context asked for.
    fn in_context(&self, config: Config, tests: Option<&Tests>) -> Result<Config, Error> {
        let context = self.context.unwrap_or(config.n_positions);
        if self.context.is_some() && !(PROMPT + 1..=config.n_positions).contains(&context) {
            let reason = format!("{context} is not between {} and the model's {}", PROMPT + 1, config.n_positions);
            return Err(Error::Option { name: "context", reason });
        }
        let lengths = tests.map(|Tests { prompts, texts }| [("n-prompt", prompts), ("n-gen", texts)]);
        for (name, lengths) in lengths.into_iter().flatten() {
            if let Some(length) = lengths.iter().find(|&&length| length > context) {
                let reason = format!("{length} tokens exceed the context of {context}");
                return Err(Error::Option { name, reason });
            }
        }
        Ok(Config { n_positions: context, ..config })
    }
}

pub(super) async fn run(arguments: &Model, selector: &Selector, start: Instant) -> anyhow::Result<()> {
    let checkpoint = match arguments.synthetic {
        Some(_) => None,
        None => Some(arguments.lora.add_to(arguments.model.checkpoint()?)?),
    };
    let (config, name) = match (arguments.synthetic, &checkpoint) {
        (Some(shapes), _) => (shapes.config()?, format!("synthetic {shapes}")),
        (None, Some(checkpoint)) => (checkpoint.config().clone(), arguments.model.name()),
        (None, None) => unreachable!("a model is made up or from a checkpoint"),
    };
    let tests = arguments.tests();
    let config = arguments.in_context(config, tests.as_ref())?;
    let old = arguments.compare.old("measurements", "value", ("model", &name))?;

    let gpu = open(selector).await?;
    let load = Instant::now();
    let weights = weights(&gpu, &config, checkpoint.as_ref()).await?;
    let options = LoadOptions { gemv: GemvConfig::tuned(&gpu), ..LoadOptions::default() };
    let gemv = tuning(&gpu).await?.gemv;
    let mut model = gptj::Model::new(&gpu, &config, weights, &options).await?;
    let load = load.elapsed();
    note_wrong_matrix_units(&model);
    // With the context that fits.
    let config = model.config().clone();
    let context = config.n_positions;
    let prompt = tokens(&config, PROMPT.min(context - 1));
    model.greedy_token(0, &prompt).await?;
    let first_token = start.elapsed();

    let mut session = Session::new(arguments.limits(), Signals::listen()?);
    let loading = if arguments.synthetic.is_some() { "making up weights" } else { "load" };
    session.once(loading, load);
    session.once("time to first token", first_token);
    session.count("launches a token", "launches", Some(model.launches(1) as u64));
    session.count("weights a token", "bytes", Some(Weights::bytes_per_token(&config)));
    session.count("keys and values a position", "bytes", Some(KvCache::bytes_per_position(&config)));
    session.count("memory, engine's count", "bytes", Some(gpu.created().buffer_bytes));
    session.count("memory, allocator's count", "bytes", gpu.allocated_bytes());
    session.estimate(&mut model, &prompt).await?;
    match &tests {
        Some(Tests { prompts, texts }) => {
            session.expect(prompts.len() + texts.len());
            for &length in prompts {
                prefill(&mut session, &mut model, length).await?;
            }
            for &length in texts {
                generate(&mut session, &mut model, length).await?;
            }
        }
        None => {
            session.expect(1 + DEPTHS.len() + PREFILLS.len() + BATCHES.len());
            host(&mut session, &mut model).await?;
            for depth in DEPTHS {
                decode(&mut session, &mut model, depth).await?;
            }
            for length in PREFILLS {
                prefill(&mut session, &mut model, length).await?;
            }
            let config = Config { n_positions: BATCH_POSITIONS.min(context), ..config };
            batches(&mut session, &gpu, &config, model.into_weights(), &BATCHES).await?;
        }
    }
    keep_pipelines(&gpu);

    let (measurements, signal) = session.end();
    let interrupted = signal.is_some();
    let more = json!({
        "model": name,
        "context": context,
        "vector": gemv,
        "measurements": measurements.iter().map(to_json).collect::<Vec<_>>(),
        "interrupted": interrupted,
        "comparison": null,
    });
    let json = report(&gpu, more);
    // -p and -n leave the other measurements out.
    let is_selected = |_: &Value| !interrupted && tests.is_none();
    let comparison = old.map(|old| Comparison::new(old, &json, measurements.iter().map(entry).collect(), is_selected));
    let judged = arguments.compare.judge(comparison.as_ref());
    let header = vec!["measured", "unit", "min", "median", "spread", "runs"];
    let table = Table { header, n_names: 2, rows: measurements.iter().map(row).collect() };
    let footer = vec![format!("{name}; {}", gpu.info()), "spread: interquartile range of the runs / median".to_owned()];
    Report { json, list: "measurements", table, footer, comparison }.print(arguments.output.format())?;
    signal.map_or(judged, |signal| Err(signal.into()))
}

async fn weights(gpu: &Gpu, config: &Config, checkpoint: Option<&Checkpoint>) -> gptj::Result<Weights> {
    match checkpoint {
        Some(checkpoint) => Weights::load(gpu, checkpoint, &mut |_| ()).await,
        None => synthetic::weights(gpu, config, 0).await,
    }
}

fn row(measured: &Measurement) -> Vec<String> {
    let Measurement { name, unit, .. } = measured;
    let (value, spread) = (measured.value(), measured.spread());
    let [min, median, spread, runs] = match (measured.runs(), value) {
        (Some(runs), _) => {
            let digits = spread.or(Some(TWO_DIGITS));
            [number(measured.min(), digits), number(value, digits), percent(spread, None), runs.to_string()]
        }
        (None, Some(count)) => [String::new(), count.to_string(), String::new(), String::new()],
        (None, None) => [String::new(), "-".to_owned(), String::new(), String::new()],
    };
    vec![name.clone(), (*unit).to_owned(), min, median, spread, runs]
}

fn entry(measured: &Measurement) -> Entry {
    let name = measured.name.clone();
    let larger_is_better = matches!(measured.unit, "tok/s" | "GB/s");
    // A count is exact.
    let spread = if measured.runs().is_some() { measured.spread() } else { Some(0.0) };
    Entry { name, value: measured.value(), spread, larger_is_better }
}

fn to_json(measured: &Measurement) -> Value {
    json!({
        "name": measured.name,
        "unit": measured.unit,
        "value": measured.value(),
        "min": measured.min(),
        "spread_percent": measured.spread().map(|spread| 100.0 * spread),
        "runs": measured.runs(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        model: Model,
    }

    #[test]
    fn runs_or_time_limit_a_measurement() {
        let limits = |arguments: &str| {
            let Program { model } = Program::parse_from(["model"].into_iter().chain(arguments.split_whitespace()));
            let Limits { runs, time } = model.limits();
            (runs, time.map(|time| time.as_secs()))
        };
        assert_eq!(limits(""), (30, Some(60)));
        assert_eq!(limits("--seconds 8"), (30, Some(8)));
        assert_eq!(limits("-r 2"), (2, None));
        assert_eq!(limits("-p 512"), (5, None));
        assert_eq!(limits("-n 128 -r 3 --seconds 8"), (3, Some(8)));
    }
}
