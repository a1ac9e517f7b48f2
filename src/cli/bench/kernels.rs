//! `gptj bench kernels`: each kernel, checked and then timed.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use gptj::internals::gpu::{Clock, Profiler};
use gptj::internals::kernels::{Matmul, Tuning};
use gptj::{Config, Error, Gpu, Selector};
use indicatif::{ProgressBar, ProgressStyle};
use pollster::block_on;
use serde_json::{Value, json};

use super::cases::{self, Case, Selection, earlier_matmul_name};
use super::compare::{CompareArguments, Comparison, Entry};
use super::list::{Item, item, numbers};
use super::outcome::{Ceilings, Outcome};
use super::output::{OutputArguments, Report, report};
use super::roofline::{self, Picture, Point};
use super::statistics::{number, percent};
use super::table::{Format, Table};
use super::workbench::Workbench;
use super::{Shapes, open, tune, tuning};
use crate::cli::signals::Signals;
use crate::cli::{keep_pipelines, note, print_json};

/// Check every kernel of the forward pass against a plain computation, then time it.
///
/// Rates are of the median time, and compared with this device's ceilings in the same run: only reading, and only
/// multiplying and adding. A kernel with wrong results is not timed, and the exit code is then 1. Ctrl-C prints the
/// results so far; the exit code is then 130.
///
/// The JSON has version, commit, date, adapter, driver, clock, shapes, vector, ceilings, cases, left_out, interrupted
/// and comparison; with --tune, trials, fastest and kept instead of the last six.
#[derive(Args)]
pub(crate) struct Kernels {
    /// Only the cases whose names contain one of these, in upper or lower case.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,

    /// A further filter.
    #[arg(long = "filter", value_name = "TEXT", hide = true)]
    more_filters: Vec<String>,

    /// Print the names of the cases and measure nothing. They depend on the GPU, but nothing runs on it.
    #[arg(long)]
    list: bool,

    /// The model whose shapes to measure.
    #[arg(long, default_value = "6b")]
    shapes: Shapes,

    /// Only matmuls of these shapes, output features x inputs, by the kernel lm_head.
    #[arg(long = "shape", value_name = "MxN,..", value_delimiter = ',', value_parser = shape)]
    #[arg(conflicts_with_all = ["shapes", "depth"])]
    free_shapes: Option<Vec<[usize; 2]>>,

    /// Rows of a step, instead of each kernel's usual ones. Lists take ranges: 1-8, 8-64+8, 1-64*2.
    #[arg(long, allow_negative_numbers = true, value_name = "LIST", value_delimiter = ',')]
    #[arg(value_parser = item(1..=4096))]
    rows: Option<Vec<Item>>,

    /// Positions that attention looks back on, the step's own included.
    #[arg(long, allow_negative_numbers = true, value_name = "LIST", value_delimiter = ',')]
    #[arg(value_parser = item(1..=1 << 20))]
    depth: Option<Vec<Item>>,

    /// Find the fastest configuration of the matmuls with few rows, and keep it for later runs of gptj on this GPU.
    #[arg(long)]
    #[arg(conflicts_with_all = ["filters", "more_filters", "list", "free_shapes", "rows", "depth", "plot", "compare"])]
    tune: bool,

    /// Draw the kernels under the device's ceilings (a roofline). Labels are rows, and positions for attention.
    #[arg(long, help_heading = "Output", value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    compare: CompareArguments,

    #[command(flatten)]
    output: OutputArguments,
}

/// Output features and inputs of a matrix.
fn shape(text: &str) -> Result<[usize; 2], String> {
    let size = |text: &str| text.parse().ok().filter(|size| (1..=1 << 20).contains(size));
    let sizes = text.split_once(['x', 'X']).and_then(|(features, inputs)| Some([size(features)?, size(inputs)?]));
    sizes.ok_or_else(|| "a shape is output features x inputs, as in 4096x16384, each from 1 to 1048576".to_owned())
}

impl Kernels {
    fn selection(&self) -> Selection {
        let filters = self.filters.iter().chain(&self.more_filters);
        Selection {
            filters: filters.map(|filter| filter.to_lowercase()).collect(),
            rows: self.rows.as_deref().map(numbers),
            depths: self.depth.as_deref().map(numbers),
            shapes: self.free_shapes.clone(),
        }
    }

    /// The model's sizes, with room for the deepest history asked for.
    fn config(&self, selection: &Selection) -> gptj::Result<Config> {
        let config = self.shapes.config()?;
        let deepest = selection.depths.iter().flatten().copied().max().unwrap_or(0);
        Ok(Config { n_positions: config.n_positions.max(deepest), ..config })
    }
}

pub(super) fn run(arguments: &Kernels, selector: &Selector) -> anyhow::Result<()> {
    let shapes = arguments.shapes.to_string();
    let selection = arguments.selection();
    let config = arguments.config(&selection)?;
    let old = arguments.compare.old("cases", "microseconds", ("shapes", &shapes))?;
    let picture = arguments.plot.as_deref().map(Picture::at).transpose()?;
    let gpu = block_on(open(selector))?;
    let format = arguments.output.format();
    if arguments.list {
        return list(&cases::all(&gpu, &config, untested_tuning(&gpu), &selection), format);
    }
    let profiler = block_on(Profiler::new(&gpu))?;
    let mut bench = Workbench::new(&gpu, &config, block_on(tuning(&gpu))?)?;
    if arguments.tune {
        return tune::run(arguments.shapes, format, &mut bench, &profiler);
    }
    let cases = cases::all(&gpu, &config, bench.tuning, &selection);
    if cases.is_empty() {
        bail!("no case is selected; `gptj bench kernels --list` shows all names");
    }

    let signals = Signals::listen()?;
    let stopped = || signals.received().is_some();
    let ceilings = Ceilings::measure(&mut bench, &profiler, &stopped)?;
    let style = ProgressStyle::with_template("{pos}/{len} {msg}").expect("the template is valid");
    let bar = ProgressBar::new(cases.len() as u64).with_style(style);
    let mut measured = Measured { outcomes: Vec::new(), left_out: Vec::new(), interrupted: false };
    for case in cases {
        if stopped() {
            break;
        }
        let name = case.name();
        bar.set_message(name.clone());
        match Outcome::measure(case, &mut bench, &profiler, &stopped) {
            // Cut short, it has too few samples.
            Ok(_) if stopped() => break,
            Ok(outcome) => measured.outcomes.push(outcome),
            Err(error) => match error.downcast_ref() {
                Some(reason @ Error::OutOfMemory { .. }) => measured.left_out.push((name, reason.to_string())),
                _ => return Err(error),
            },
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let signal = signals.received();
    measured.interrupted = signal.is_some();
    let ceilings = if measured.interrupted {
        ceilings
    } else {
        ceilings.max(&Ceilings::measure(&mut bench, &profiler, &stopped)?)
    };
    keep_pipelines(&gpu);
    for (name, reason) in &measured.left_out {
        note(&format!("left out: {name}: {reason}"));
    }

    let outcomes = &measured.outcomes;
    if let Some(picture) = picture {
        let title = format!("{}, shapes of {shapes}", gpu.info().name);
        picture.write(&roofline::svg(&title, ceilings.read, ceilings.fma, &points(outcomes))?)?;
    }
    let json = to_json(arguments, &bench, &profiler, &ceilings, &measured);
    let is_selected = |entry: &Value| !measured.interrupted && selection.has_entry(entry);
    let comparison = old.map(|old| Comparison::new(old, &json, entries(outcomes), is_selected));
    let judged = arguments.compare.judge(comparison.as_ref());
    let (table, footer) = to_text(&gpu, &profiler, &ceilings, outcomes);
    Report { json, list: "cases", table, footer, comparison }.print(format)?;

    if let Some(signal) = signal {
        return Err(signal.into());
    }
    let wrong = |outcome: &Outcome| Some(format!("{}: {}", outcome.case.name(), outcome.fault.as_ref()?));
    let wrong: Vec<_> = outcomes.iter().filter_map(wrong).collect();
    if !wrong.is_empty() {
        bail!("{} of {} cases compute wrong numbers\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
    }
    if outcomes.is_empty() {
        bail!("none of the selected cases fits this GPU");
    }
    judged
}

/// The results of a run.
struct Measured {
    outcomes: Vec<Outcome>,
    /// Cases that the GPU has no room for, and why.
    left_out: Vec<(String, String)>,
    /// Whether Ctrl-C ended it early.
    interrupted: bool,
}

/// The tuning of a model on this GPU if its matrix units pass their self-test, which does not run here.
fn untested_tuning(gpu: &Gpu) -> Tuning {
    let many = gpu.matrix_sides().first().map_or(Matmul::Tiled, |&side| Matmul::on_matrix_units(side));
    Tuning { many, ..Tuning::for_adapter(gpu.info()) }
}

fn list(cases: &[Case], format: Format) -> anyhow::Result<()> {
    let names: Vec<_> = cases.iter().map(Case::name).collect();
    if format == Format::Json {
        return print_json(&json!(names));
    }
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    Ok(write!(std::io::stdout(), "{lines}")?)
}

fn points(outcomes: &[Outcome]) -> Vec<Point> {
    let point = |outcome: &Outcome| {
        let Case { rows, positions, .. } = &outcome.case;
        Some(Point {
            series: outcome.case.series(),
            label: positions.map_or_else(|| rows.to_string(), |positions| format!("{rows} of {positions}")),
            flops_per_byte: outcome.flops as f64 / outcome.bytes as f64,
            gflops: outcome.gigaflops()?,
        })
    };
    outcomes.iter().filter_map(point).collect()
}

fn entries(outcomes: &[Outcome]) -> Vec<Entry> {
    let entry = |outcome: &Outcome| Entry {
        name: outcome.case.name(),
        value: outcome.microseconds(),
        spread: outcome.spread(),
        larger_is_better: false,
    };
    outcomes.iter().map(entry).collect()
}

/// The table, and the lines below it.
fn to_text(gpu: &Gpu, profiler: &Profiler, ceilings: &Ceilings, outcomes: &[Outcome]) -> (Table, Vec<String>) {
    // The unit that suits the device.
    let (unit, gigaflops) = if ceilings.fma < 1000.0 { ("GFLOP/s", 1.0) } else { ("TFLOP/s", 1000.0) };
    let header = vec![
        "kernel",
        "shape",
        "matmul",
        "rows",
        "positions",
        "min µs",
        "median µs",
        "spread",
        "runs",
        "GB/s",
        "of read",
        unit,
        "of fma",
    ];
    let row = |outcome: &Outcome| {
        let (case, spread) = (&outcome.case, outcome.spread());
        let median = match outcome.fault {
            Some(_) => "WRONG".to_owned(),
            None => number(outcome.microseconds(), spread),
        };
        vec![
            case.kernel.to_owned(),
            case.shape.clone(),
            case.matmul.map_or_else(String::new, |matmul| matmul.name().to_owned()),
            case.rows.to_string(),
            case.positions.map_or_else(String::new, |positions| positions.to_string()),
            number(outcome.min_microseconds(), spread),
            median,
            percent(spread, None),
            outcome.seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.runs.to_string()),
            number(outcome.gigabytes(), spread),
            percent(ceilings.of_read(outcome), spread),
            number(outcome.gigaflops().map(|rate| rate / gigaflops), spread),
            percent(ceilings.of_fma(outcome), spread),
        ]
    };
    let clock = match profiler.clock() {
        Clock::Gpu => "the GPU's",
        Clock::Host => "the host's",
    };
    let Ceilings { read, fma } = ceilings;
    let [read, fma] = [*read, fma / gigaflops].map(|rate| number(Some(rate), None));
    let footer = vec![
        format!("{}; {clock} clock", gpu.info()),
        format!("ceilings: read {read} GB/s, fma {fma} {unit}"),
        "spread: interquartile range of the runs / median; rates are of the median".to_owned(),
    ];
    (Table { header, n_names: 3, rows: outcomes.iter().map(row).collect() }, footer)
}

fn to_json(
    arguments: &Kernels,
    bench: &Workbench,
    profiler: &Profiler,
    ceilings: &Ceilings,
    measured: &Measured,
) -> Value {
    let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
    let case = |outcome: &Outcome| {
        let Outcome { case, bytes, flops, launches, seconds, fault } = outcome;
        json!({
            "name": case.name(),
            "kernel": case.kernel,
            "shape": case.shape,
            "product": case.matmul.map(earlier_matmul_name),
            "matmul": case.matmul.map(Matmul::name),
            "rows": case.rows,
            "positions": case.positions,
            "launches": launches,
            "bytes": bytes,
            "flops": flops,
            "correct": fault.is_none(),
            "fault": fault,
            "microseconds": outcome.microseconds(),
            "min_microseconds": outcome.min_microseconds(),
            "spread_percent": percent(outcome.spread()),
            "runs": seconds.map(|seconds| seconds.runs),
            "gb_per_second": outcome.gigabytes(),
            "gflop_per_second": outcome.gigaflops(),
            "percent_of_read": percent(ceilings.of_read(outcome)),
            "percent_of_fma": percent(ceilings.of_fma(outcome)),
        })
    };
    let left_out = |(name, reason): &(String, String)| json!({ "name": name, "reason": reason });
    let more = json!({
        "clock": profiler.clock(),
        "shapes": arguments.shapes.to_string(),
        "vector": bench.tuning.gemv,
        "ceilings": { "read_gb_per_second": ceilings.read, "fma_gflop_per_second": ceilings.fma },
        "cases": measured.outcomes.iter().map(case).collect::<Vec<_>>(),
        "left_out": measured.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "interrupted": measured.interrupted,
        "comparison": null,
    });
    report(&bench.gpu, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_features_by_inputs() {
        assert_eq!(shape("4096x16384"), Ok([4096, 16_384]));
        assert_eq!(shape("1X1"), Ok([1, 1]));
        for wrong in ["", "4096", "4096x", "0x8", "-1x8", "8x8x8", "8x1048577"] {
            assert!(shape(wrong).is_err(), "{wrong:?}");
        }
    }
}
