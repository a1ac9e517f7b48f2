//! `gptj bench`: the speed of the kernels, of a whole model and of the host.

mod cases;
mod compare;
mod kernels;
mod list;
mod model;
mod outcome;
mod output;
mod plan;
mod roofline;
mod statistics;
mod table;
mod tune;
mod workbench;

use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use gptj::internals::kernels::{Tuning, self_test};
use gptj::{Config, GemvConfig, Gpu, GpuOptions, Selector};

use super::{ModelArguments, cache_dir, note, short_name};

/// Measure how fast this GPU runs the kernels or a whole model.
///
/// Needs no checkpoint: weights are made up on the GPU. On a software adapter only ratios within one run mean anything.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    Kernels(kernels::Kernels),
    Model(model::Model),
    Plan(plan::Plan),
}

/// `start` is when the program began.
pub(crate) fn run(arguments: &Bench, gpu: &Selector, start: Instant) -> anyhow::Result<()> {
    match &arguments.subject {
        Subject::Kernels(arguments) => kernels::run(arguments, gpu),
        Subject::Model(arguments) => pollster::block_on(model::run(arguments, gpu, start)),
        Subject::Plan(arguments) => pollster::block_on(plan::run(arguments, gpu)),
    }
}

/// The sizes of a model to measure.
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
        let name = short_name(gpu.info());
        note(&format!("note: {name} is a software adapter: only ratios within one run mean anything"));
    }
    Ok(gpu)
}

/// The tuning of a model on this GPU.
async fn tuning(gpu: &Gpu) -> gptj::Result<Tuning> {
    let (tuning, _) = self_test::tuning(gpu, GemvConfig::tuned(gpu)).await?;
    Ok(tuning)
}
