//! `gptj bench kernels --tune`: which shape of the products with few rows is the fastest on this GPU.

use std::io::Write;

use anyhow::Context;
use gptj::Config;
use gptj::internals::gpu::Profiler;
use gptj::internals::regime::{Geometry, Regime, VectorShape};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::cases::{self, Case};
use super::kernels::Outcome;
use super::workbench::Workbench;
use super::{Shapes, number, print_table};
use crate::cli::tuned;
use crate::cli::{cache_dir, keep_pipelines, print_json};

/// A shape that is faster by less than this is as fast.
const GAIN: f64 = 1.02;

/// A shape, and how long both matrices of a block take with it.
struct Trial {
    shape: VectorShape,
    /// Rows of the step.
    rows: usize,
    /// By matrix; `None` where it computes wrong numbers.
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
    /// The fastest of some shapes for steps of so many rows; the first, where none is faster.
    fn fastest(&mut self, rows: usize, shapes: impl IntoIterator<Item = VectorShape>) -> anyhow::Result<VectorShape> {
        let mut fastest: Option<(VectorShape, f64)> = None;
        for shape in shapes {
            if let Some(time) = self.time(shape, rows)?
                && fastest.is_none_or(|(_, least)| time * GAIN < least)
            {
                fastest = Some((shape, time));
            }
        }
        let (shape, _) = fastest.context("every shape of the products with few rows computes wrong numbers")?;
        Ok(shape)
    }

    /// How long a shape takes, which is measured once.
    fn time(&mut self, shape: VectorShape, rows: usize) -> anyhow::Result<Option<f64>> {
        self.bar.inc(1);
        if let Some(trial) = self.trials.iter().find(|trial| (trial.shape, trial.rows) == (shape, rows)) {
            return Ok(trial.sum());
        }
        self.bench.reshape(shape);
        let regime = self.bench.geometry.head_regime(rows);
        let config = self.bench.config.clone();
        let mut time = |case: fn(&Config, Regime, usize) -> Case| {
            let outcome = Outcome::measure(case(&config, regime, rows), self.bench, self.profiler)?;
            anyhow::Ok(outcome.microseconds())
        };
        let trial = Trial { shape, rows, microseconds: [time(cases::block_in)?, time(cases::block_out)?] };
        let sum = trial.sum();
        self.trials.push(trial);
        Ok(sum)
    }
}

/// Tries one number of the shape after another, each with the best of those before it, and keeps the result.
pub(super) fn run(shapes: Shapes, as_json: bool, bench: &mut Workbench, profiler: &Profiler) -> anyhow::Result<()> {
    let gpu = bench.gpu.clone();
    let shape = Geometry::for_adapter(gpu.info()).vector;
    let bar =
        ProgressBar::new((VectorShape::LANES.len() + VectorShape::DEPTHS.len() + VectorShape::ROWS.len() + 4) as u64);
    let mut tuner = Tuner { bench, profiler, trials: Vec::new(), bar };
    // A GPU that idled has yet to raise its clocks.
    tuner.time(shape, 1)?;
    tuner.trials.clear();
    let all = VectorShape::LANES.map(|lanes| VectorShape { lanes, ..shape });
    let shape = tuner.fastest(1, [shape].into_iter().chain(all))?;
    let all = VectorShape::DEPTHS.map(|depth| VectorShape { depth, ..shape });
    let shape = tuner.fastest(1, [shape].into_iter().chain(all))?;
    let all = VectorShape::ROWS.map(|rows| VectorShape { rows, ..shape });
    let shape = tuner.fastest(8, [shape].into_iter().chain(all))?;
    tuner.bar.finish_and_clear();

    tuned::keep(&gpu, shape)?;
    keep_pipelines(&gpu);
    let trials = tuner.trials;
    if as_json {
        return print_json(&json!({
            "adapter": gpu.info().to_string(),
            "clock": profiler.clock(),
            "shapes": shapes.to_string(),
            "trials": trials.iter().map(to_json).collect::<Vec<_>>(),
            "fastest": shape,
            "kept": cache_dir().is_some(),
        }));
    }
    let row = |trial: &Trial| {
        let Trial { shape, rows, microseconds } = trial;
        let time = |time: Option<f64>| time.map_or_else(|| "WRONG".to_owned(), |time| number(Some(time)));
        let [lanes, depth, pass] = [shape.lanes.to_string(), shape.depth.to_string(), shape.rows.to_string()];
        let [block_in, block_out] = microseconds.map(time);
        vec![rows.to_string(), lanes, depth, pass, block_in, block_out, number(trial.sum())]
    };
    let header = ["rows", "lanes", "depth", "rows of a pass", "block_in µs", "block_out µs", "both"];
    print_table(&header, 0, trials.iter().map(row).collect())?;
    let VectorShape { lanes, rows, depth, .. } = shape;
    let kept = match cache_dir() {
        Some(directory) => format!("kept in {}", directory.display()),
        None => "not kept, since there is no cache directory".to_owned(),
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}; shapes of {shapes}", gpu.info())?;
    writeln!(out, "fastest: {lanes} lanes, depth {depth}, {rows} rows of a pass; {kept}")?;
    Ok(())
}

fn to_json(trial: &Trial) -> Value {
    let Trial { shape, rows, microseconds: [block_in, block_out] } = trial;
    json!({
        "rows": rows,
        "lanes": shape.lanes,
        "depth": shape.depth,
        "rows_of_a_pass": shape.rows,
        "block_in_microseconds": block_in,
        "block_out_microseconds": block_out,
    })
}
