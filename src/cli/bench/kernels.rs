//! `gptj bench kernels`: each kernel, checked and then timed.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use gptj::internals::gpu::{Clock, Profiler, Times};
use gptj::{Gpu, Selector};
use indicatif::{ProgressBar, ProgressStyle};
use pollster::block_on;
use serde_json::{Value, json};

use super::cases::{self, Case, product_name};
use super::compare::{Comparison, Entry, Old};
use super::roofline::{self, Point};
use super::workbench::Workbench;
use super::{Shapes, geometry, number, open, print_table, tune};
use crate::cli::{keep_pipelines, print_json};

/// Check every kernel of the forward pass against a plain computation, then time it.
///
/// Rates, of the median time of some runs, are shown beside what this device reaches at its fastest, before or after
/// them, when it does nothing but read or nothing but multiply and add. A kernel that computes wrong numbers is not
/// timed and ends the run with exit code 1.
#[derive(Args)]
pub(crate) struct Kernels {
    /// Only the cases whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,

    /// The sizes of the model whose blocks' shapes to measure.
    #[arg(long, default_value = "6b")]
    shapes: Shapes,

    /// Rows of a step, in place of those that matter to each kernel.
    #[arg(long, allow_negative_numbers = true, value_name = "N,N,..", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    rows: Option<Vec<u32>>,

    /// Find the fastest shape of the products with few rows, and keep it for later runs of `gptj generate` and `gptj
    /// bench` on this GPU.
    #[arg(long, conflicts_with_all = ["filter", "rows", "plot", "compare"])]
    tune: bool,

    /// Draw the kernels under the device's ceilings (a roofline), as SVG. Points have their rows beside them, those of
    /// attention also their positions.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// Show what changed since an earlier run, whose --json output this file is.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,

    /// Print one JSON object: adapter, clock, shapes, vector, ceilings, cases, comparison; with --tune adapter, clock,
    /// shapes, trials, fastest, kept.
    #[arg(long)]
    json: bool,
}

/// What came out of a case.
pub(super) struct Outcome {
    case: Case,
    bytes: u64,
    flops: u64,
    launches: usize,
    /// Where the numbers are right.
    times: Option<Times>,
    fault: Option<String>,
}

impl Outcome {
    pub(super) fn measure(case: Case, bench: &mut Workbench, profiler: &Profiler) -> anyhow::Result<Self> {
        let name = case.name();
        let work = (case.make)(bench).with_context(|| name.clone())?;
        let fault = work.check(&bench.gpu).with_context(|| name.clone())?;
        let times = match fault {
            Some(_) => None,
            None => Some(block_on(profiler.time(&work.plans, work.step)).with_context(|| name)?),
        };
        let launches = work.plans[0].dispatches().len();
        Ok(Self { case, bytes: work.bytes, flops: work.flops, launches, times, fault })
    }

    pub(super) fn microseconds(&self) -> Option<f64> {
        self.times.map(|times| times.median.as_secs_f64() * 1e6)
    }

    fn gigabytes(&self) -> Option<f64> {
        self.times.map(|times| self.bytes as f64 / times.median.as_secs_f64() / 1e9)
    }

    /// `None` for a kernel that only moves numbers.
    fn gigaflops(&self) -> Option<f64> {
        let times = self.times.filter(|_| self.flops > 0);
        times.map(|times| self.flops as f64 / times.median.as_secs_f64() / 1e9)
    }
}

/// What the device reaches at most, in GB/s and GFLOP/s.
struct Ceilings {
    read: f64,
    fma: f64,
}

impl Ceilings {
    fn measure(bench: &mut Workbench, profiler: &Profiler) -> anyhow::Result<Self> {
        let measured = cases::ceilings(bench.gpu.info().is_software()).map(|case| {
            let outcome = Outcome::measure(case, bench, profiler)?;
            if let Some(fault) = &outcome.fault {
                bail!("{} computes wrong numbers: {fault}", outcome.case.name());
            }
            let fastest = outcome.times.context("what is right is timed")?.fastest.as_secs_f64();
            anyhow::Ok([outcome.bytes, outcome.flops].map(|amount| amount as f64 / fastest / 1e9))
        });
        let [read, fma] = measured;
        Ok(Self { read: read?[0], fma: fma?[1] })
    }

    fn of_read(&self, outcome: &Outcome) -> Option<f64> {
        outcome.gigabytes().map(|rate| 100.0 * rate / self.read)
    }

    /// `None` for products on matrix units, which are no matter of this ceiling.
    fn of_fma(&self, outcome: &Outcome) -> Option<f64> {
        let by_lanes = outcome.case.product.is_none_or(|product| !product.is_cooperative());
        outcome.gigaflops().filter(|_| by_lanes).map(|rate| 100.0 * rate / self.fma)
    }

    /// The higher of two measurements: what else the machine did may have lowered either.
    fn max(self, other: &Self) -> Self {
        Self { read: self.read.max(other.read), fma: self.fma.max(other.fma) }
    }
}

pub(super) fn run(arguments: &Kernels, selector: &Selector) -> anyhow::Result<()> {
    let old = arguments.compare.as_ref().map(|path| Old::read(path, "cases", "microseconds")).transpose()?;
    if let Some(path) = &arguments.plot {
        // Better now than after minutes of measuring.
        fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let config = arguments.shapes.config()?;
    let gpu = block_on(open(selector))?;
    let profiler = block_on(Profiler::new(&gpu))?;
    let mut bench = Workbench::new(&gpu, &config, block_on(geometry(&gpu))?)?;
    if arguments.tune {
        return tune::run(arguments.shapes, arguments.json, &mut bench, &profiler);
    }
    let rows: Option<Vec<usize>> = arguments.rows.as_ref().map(|rows| rows.iter().map(|&n| n as usize).collect());
    let mut cases = cases::all(&bench, rows.as_deref());
    cases.retain(|case| case.name().contains(&arguments.filter));
    if cases.is_empty() {
        bail!("there is no case for these rows whose name contains {:?}", arguments.filter);
    }

    let ceilings = Ceilings::measure(&mut bench, &profiler)?;
    let style = ProgressStyle::with_template("{pos}/{len} {msg}").expect("the template is valid");
    let bar = ProgressBar::new(cases.len() as u64).with_style(style);
    let mut outcomes = Vec::new();
    for case in cases {
        bar.set_message(case.name());
        outcomes.push(Outcome::measure(case, &mut bench, &profiler)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let ceilings = ceilings.max(&Ceilings::measure(&mut bench, &profiler)?);
    keep_pipelines(&gpu);

    if let Some(path) = &arguments.plot {
        let title = format!("{}, shapes of {}", gpu.info().name, arguments.shapes);
        let svg = roofline::svg(&title, ceilings.read, ceilings.fma, &points(&outcomes))?;
        fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut report = report(arguments, &bench, &profiler, &ceilings, &outcomes);
    let comparison = old.map(|old| Comparison::new(old, &report, entries(&outcomes)));
    if arguments.json {
        report["comparison"] = serde_json::to_value(&comparison)?;
        print_json(&report)?;
    } else {
        print(&gpu, &profiler, &ceilings, &outcomes)?;
        if let Some(comparison) = &comparison {
            comparison.print()?;
        }
    }
    let wrong: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {}", outcome.case.name(), outcome.fault.as_ref()?)))
        .collect();
    if !wrong.is_empty() {
        bail!("{} of {} cases compute wrong numbers\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
    }
    Ok(())
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
    let entry =
        |outcome: &Outcome| Entry { name: outcome.case.name(), value: outcome.microseconds(), larger_is_better: false };
    outcomes.iter().map(entry).collect()
}

fn print(gpu: &Gpu, profiler: &Profiler, ceilings: &Ceilings, outcomes: &[Outcome]) -> anyhow::Result<()> {
    // What suits the device suits the column.
    let (unit, gigaflops) = if ceilings.fma < 1000.0 { ("GFLOP/s", 1.0) } else { ("TFLOP/s", 1000.0) };
    let header = ["kernel", "shape", "product", "rows", "positions", "µs", "GB/s", "% read", unit, "% fma"];
    let row = |outcome: &Outcome| {
        let case = &outcome.case;
        let time = match outcome.fault {
            Some(_) => "WRONG".to_owned(),
            None => number(outcome.microseconds()),
        };
        vec![
            case.kernel.to_owned(),
            case.shape.clone(),
            case.product.map_or_else(String::new, product_name),
            case.rows.to_string(),
            case.positions.map_or_else(String::new, |positions| positions.to_string()),
            time,
            number(outcome.gigabytes()),
            number(ceilings.of_read(outcome)),
            number(outcome.gigaflops().map(|rate| rate / gigaflops)),
            number(ceilings.of_fma(outcome)),
        ]
    };
    print_table(&header, 3, outcomes.iter().map(row).collect())?;
    let clock = match profiler.clock() {
        Clock::Gpu => "the GPU's",
        Clock::Host => "the host's",
    };
    let Ceilings { read, fma } = ceilings;
    writeln!(
        std::io::stdout(),
        "{}; {clock} clock; ceilings: read {} GB/s, fma {} {unit}",
        gpu.info(),
        number(Some(*read)),
        number(Some(fma / gigaflops))
    )?;
    Ok(())
}

fn report(
    arguments: &Kernels,
    bench: &Workbench,
    profiler: &Profiler,
    ceilings: &Ceilings,
    outcomes: &[Outcome],
) -> Value {
    let case = |outcome: &Outcome| {
        let Outcome { case, bytes, flops, launches, fault, .. } = outcome;
        json!({
            "name": case.name(),
            "kernel": case.kernel,
            "shape": case.shape,
            "product": case.product.map(product_name),
            "rows": case.rows,
            "positions": case.positions,
            "launches": launches,
            "bytes": bytes,
            "flops": flops,
            "correct": fault.is_none(),
            "fault": fault,
            "microseconds": outcome.microseconds(),
            "gb_per_second": outcome.gigabytes(),
            "gflop_per_second": outcome.gigaflops(),
            "percent_of_read": ceilings.of_read(outcome),
            "percent_of_fma": ceilings.of_fma(outcome),
        })
    };
    json!({
        "adapter": bench.gpu.info().to_string(),
        "clock": profiler.clock(),
        "shapes": arguments.shapes.to_string(),
        "vector": bench.geometry.vector,
        "ceilings": { "read_gb_per_second": ceilings.read, "fma_gflop_per_second": ceilings.fma },
        "cases": outcomes.iter().map(case).collect::<Vec<_>>(),
        "comparison": null,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gptj::internals::gpu::Product;

    use super::*;

    /// What moves 5 GB and computes 1 GFLOP in a second.
    fn outcome(product: Option<Product>, fault: Option<String>) -> Outcome {
        let make = Box::new(|_: &mut Workbench| unreachable!("it has been measured"));
        let case = Case { kernel: "some", shape: String::new(), product, rows: 1, positions: None, make };
        let second = Duration::from_secs(1);
        let times = fault.is_none().then_some(Times { median: second, fastest: second / 2 });
        Outcome { case, bytes: 5_000_000_000, flops: 1_000_000_000, launches: 1, times, fault }
    }

    #[test]
    fn rates_are_shares_of_their_own_ceilings() {
        let ceilings = Ceilings { read: 10.0, fma: 100.0 };
        let vector = outcome(Some(Product::Vector), None);
        assert_eq!((ceilings.of_read(&vector), ceilings.of_fma(&vector)), (Some(50.0), Some(1.0)));
        let cooperative = outcome(Some(Product::Cooperative16), None);
        assert_eq!((ceilings.of_read(&cooperative), ceilings.of_fma(&cooperative)), (Some(50.0), None));
        let higher = ceilings.max(&Ceilings { read: 5.0, fma: 200.0 });
        assert_eq!((higher.read, higher.fma), (10.0, 200.0));
    }

    #[test]
    fn what_is_wrong_has_no_rates() {
        let (wrong, ceilings) = (outcome(None, Some("element 3".to_owned())), Ceilings { read: 10.0, fma: 100.0 });
        assert_eq!((wrong.microseconds(), ceilings.of_read(&wrong), ceilings.of_fma(&wrong)), (None, None, None));
        assert!(points(&[wrong]).is_empty());
    }
}
