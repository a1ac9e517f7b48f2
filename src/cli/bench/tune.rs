//! `gptj bench kernels --tune`: the fastest configuration of the matmuls with few rows on this GPU.

use anyhow::Context;
use gptj::Config;
use gptj::internals::gpu::Profiler;
use gptj::internals::kernels::{GemvConfig, KernelVariant, Tuning};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::Shapes;
use super::cases::{self, Case};
use super::outcome::Outcome;
use super::output::{Report, report};
use super::statistics::number;
use super::table::{Format, Table};
use super::workbench::Workbench;
use crate::cli::{cache_dir, keep_pipelines};

/// A configuration is faster if its time is smaller by this factor.
const GAIN: f64 = 1.02;

/// A configuration, and the time of both matrices of a block with it.
struct Trial {
    gemv: GemvConfig,
    /// Rows of the step.
    rows: usize,
    /// By matrix; `None` if it computes wrong numbers.
    microseconds: [Option<f64>; 2],
}

impl Trial {
    fn sum(&self) -> Option<f64> {
        let [block_in, block_out] = self.microseconds;
        Some(block_in? + block_out?)
    }
}

struct Tuner<'a> {
    bench: &'a mut Workbench,
    profiler: &'a Profiler,
    trials: Vec<Trial>,
    bar: ProgressBar,
}

impl Tuner<'_> {
    /// The fastest of some configurations for steps of `rows` rows; the first if none is faster.
    fn fastest(&mut self, rows: usize, configs: impl IntoIterator<Item = GemvConfig>) -> anyhow::Result<GemvConfig> {
        let mut fastest: Option<(GemvConfig, f64)> = None;
        for gemv in configs {
            if let Some(time) = self.time(gemv, rows)?
                && fastest.is_none_or(|(_, least)| time * GAIN < least)
            {
                fastest = Some((gemv, time));
            }
        }
        let (gemv, _) = fastest.context("every configuration of the matmuls with few rows computes wrong numbers")?;
        Ok(gemv)
    }

    /// The time of a configuration, measured once.
    fn time(&mut self, gemv: GemvConfig, rows: usize) -> anyhow::Result<Option<f64>> {
        self.bar.inc(1);
        if let Some(trial) = self.trials.iter().find(|trial| (trial.gemv, trial.rows) == (gemv, rows)) {
            return Ok(trial.sum());
        }
        self.bench.set_gemv(gemv);
        let variant = self.bench.tuning.head_variant(rows);
        let config = self.bench.config.clone();
        let mut time = |case: fn(&Config, KernelVariant, usize) -> Case| {
            let outcome = Outcome::measure(case(&config, variant, rows), self.bench, self.profiler, &|| false)?;
            anyhow::Ok(outcome.microseconds())
        };
        let trial = Trial { gemv, rows, microseconds: [time(cases::block_in)?, time(cases::block_out)?] };
        let sum = trial.sum();
        self.trials.push(trial);
        Ok(sum)
    }
}

/// Tries one parameter after another, each with the best values of those before it, and keeps the result.
pub(super) fn run(shapes: Shapes, format: Format, bench: &mut Workbench, profiler: &Profiler) -> anyhow::Result<()> {
    let gpu = bench.gpu.clone();
    let gemv = Tuning::for_adapter(gpu.info()).gemv;
    let n_trials = GemvConfig::LANES.len() + GemvConfig::DEPTHS.len() + GemvConfig::ROWS.len() + 4;
    let mut tuner = Tuner { bench, profiler, trials: Vec::new(), bar: ProgressBar::new(n_trials as u64) };
    // This does not count: an idle GPU has yet to raise its clocks.
    tuner.time(gemv, 1)?;
    tuner.trials.clear();
    let all = GemvConfig::LANES.map(|lanes| GemvConfig { lanes, ..gemv });
    let gemv = tuner.fastest(1, [gemv].into_iter().chain(all))?;
    let all = GemvConfig::DEPTHS.map(|depth| GemvConfig { depth, ..gemv });
    let gemv = tuner.fastest(1, [gemv].into_iter().chain(all))?;
    let all = GemvConfig::ROWS.map(|rows| GemvConfig { rows, ..gemv });
    let gemv = tuner.fastest(8, [gemv].into_iter().chain(all))?;
    tuner.bar.finish_and_clear();

    gemv.keep(&gpu)?;
    keep_pipelines(&gpu);
    let trials = tuner.trials;
    let more = json!({
        "clock": profiler.clock(),
        "shapes": shapes.to_string(),
        "trials": trials.iter().map(to_json).collect::<Vec<_>>(),
        "fastest": gemv,
        "kept": cache_dir().is_some(),
    });
    let row = |trial: &Trial| {
        let Trial { gemv, rows, microseconds } = trial;
        let time = |time: Option<f64>| time.map_or_else(|| "WRONG".to_owned(), |time| number(Some(time), None));
        let [block_in, block_out] = microseconds.map(time);
        vec![
            rows.to_string(),
            gemv.lanes.to_string(),
            gemv.depth.to_string(),
            gemv.rows.to_string(),
            block_in,
            block_out,
            number(trial.sum(), None),
        ]
    };
    let header = vec!["rows", "lanes", "depth", "rows per pass", "block_in µs", "block_out µs", "both"];
    let table = Table { header, n_names: 0, rows: trials.iter().map(row).collect() };
    let GemvConfig { lanes, rows, depth, .. } = gemv;
    let kept = match cache_dir() {
        Some(directory) => format!("kept in {}", directory.display()),
        None => "not kept: there is no cache directory".to_owned(),
    };
    let footer = vec![
        format!("{}; shapes of {shapes}", gpu.info()),
        format!("fastest: {lanes} lanes, depth {depth}, {rows} rows per pass; {kept}"),
    ];
    Report { json: report(&gpu, more), list: "trials", table, footer, comparison: None }.print(format)
}

fn to_json(trial: &Trial) -> Value {
    let Trial { gemv, rows, microseconds: [block_in, block_out] } = trial;
    json!({
        "rows": rows,
        "lanes": gemv.lanes,
        "depth": gemv.depth,
        "rows_of_a_pass": gemv.rows,
        "block_in_microseconds": block_in,
        "block_out_microseconds": block_out,
    })
}
