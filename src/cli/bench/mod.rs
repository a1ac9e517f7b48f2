//! `gptj bench`: how fast the kernels, a whole model and the host are.

mod cases;
mod compare;
mod kernels;
mod model;
mod plan;
mod roofline;
mod tune;
mod workbench;

use std::io::Write;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use gptj::internals::regime::Geometry;
use gptj::internals::self_test;
use gptj::{Config, Gpu, GpuOptions, Selector};

use super::tuned::tuned;
use super::{ModelArguments, cache_dir, note};

/// Measure how fast this GPU runs the kernels or a whole model.
///
/// Needs no checkpoint: weights are made up on the GPU. On a software adapter only ratios within one run mean anything.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Kernels(kernels::Kernels),
    Model(model::Model),
    Plan(plan::Plan),
}

/// `start` is when the program began.
pub(crate) fn run(arguments: &Bench, gpu: &Selector, start: Instant) -> anyhow::Result<()> {
    match &arguments.what {
        What::Kernels(arguments) => kernels::run(arguments, gpu),
        What::Model(arguments) => pollster::block_on(model::run(arguments, gpu, start)),
        What::Plan(arguments) => pollster::block_on(plan::run(arguments, gpu)),
    }
}

/// Sizes of a model to measure with.
#[derive(Clone, Copy, ValueEnum)]
enum Shapes {
    /// GPT-J-6B.
    #[value(name = "6b")]
    SixB,
    /// 1.1 billion parameters, with GPT-J-6B's heads.
    #[value(name = "1b")]
    OneB,
    /// Four blocks 256 wide, for software adapters.
    Tiny,
    /// Those of the built-in model.
    Demo,
}

impl Shapes {
    fn config(self) -> gptj::Result<Config> {
        let preset = |name| Ok(Config::preset(name).expect("every name here is a preset"));
        match self {
            Self::SixB => preset("6b"),
            Self::OneB => preset("1b"),
            Self::Tiny => preset("tiny"),
            Self::Demo => Ok(ModelArguments::default().checkpoint()?.config().clone()),
        }
    }
}

impl std::fmt::Display for Shapes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SixB => "6b",
            Self::OneB => "1b",
            Self::Tiny => "tiny",
            Self::Demo => "demo",
        })
    }
}

async fn open(selector: &Selector) -> gptj::Result<Gpu> {
    let options = GpuOptions { selector: selector.clone(), cache_dir: cache_dir(), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).await?;
    if gpu.info().is_software() {
        note(&format!("note: {} is a software adapter: only ratios within one run mean anything", gpu.info()));
    }
    Ok(gpu)
}

/// The geometry that a model on this GPU has.
async fn geometry(gpu: &Gpu) -> gptj::Result<Geometry> {
    let (geometry, _) = self_test::geometry(gpu, tuned(gpu)).await?;
    Ok(geometry)
}

/// A table whose first `n_names` columns are names and the others numbers.
fn print_table(header: &[&str], n_names: usize, rows: Vec<Vec<String>>) -> std::io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(n_names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(std::io::stdout(), "{table}")
}

/// A number with about three digits, however large or small; `-` for none.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The median of some numbers, the larger of the two in the middle.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}
