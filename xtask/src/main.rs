//! Set-up and developer commands of gptj, run as `cargo xtask …`.
//!
//! This file knows the commands; what one does, and its arguments if it has several, is in the module of its name.
//! Nothing here is part of the engine, and the engine does not need it.

mod api;
mod apt;
mod checks;
mod dependent;
mod drivers;
mod gpu_report;
mod isa;
mod package;
mod screenshot;
mod setup;
mod shaders;
mod shell;
mod structure;
mod tint;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Set-up and developer commands of gptj
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Generate text with the model that ships in the binary
    Demo {
        /// Options for `gptj generate`; they win over the demo's own
        #[arg(last = true, value_name = "OPTIONS")]
        options: Vec<String>,
    },
    /// Run all that continuous integration runs, or some of it
    Test(checks::Options),
    /// Show which module uses which, and fail on a circle or an arrow upwards
    Structure(structure::Options),
    /// Print all that the libraries offer
    Api(api::Options),
    /// Pack the crates as a registry would get them, and check what is in them
    Package(package::Options),
    /// Check a program outside the workspace that depends on the library alone
    Dependent,
    /// Compile every shader with Tint, Chrome's WGSL compiler
    Tint {
        /// Take the shaders from a folder that the example `dump_shaders` wrote, rather than from
        /// the engine
        #[arg(long, value_name = "DIR")]
        shaders: Option<PathBuf>,
    },
    /// Compile every shader for AMD's GPUs, with no GPU present, and say what became of it
    Isa(isa::Options),
    /// Pack all that is needed to test and measure on a machine with a GPU, without Rust or a network there
    GpuReport(gpu_report::Options),
    /// Run a few commands and draw what they print as docs/terminal.svg
    Screenshot,
    /// The part of `isa` that runs in a process of its own
    #[command(hide = true)]
    IsaTarget { shaders: PathBuf, filter: String },
}

fn main() -> ExitCode {
    if let Some(code) = api::stand_in_for_rustdoc() {
        return code;
    }
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo { options } => demo(&options),
        Task::Test(options) => checks::test(&options),
        Task::Structure(options) => structure::structure(&options),
        Task::Api(options) => api::api(&options),
        Task::Package(options) => package::package(&options),
        Task::Dependent => dependent::dependent(),
        Task::Tint { shaders } => tint::tint(shaders.as_deref()),
        Task::Isa(options) => isa::isa(&options),
        Task::GpuReport(options) => gpu_report::gpu_report(&options),
        Task::Screenshot => screenshot::screenshot(),
        Task::IsaTarget { shaders, filter } => isa::isa_target(&shaders, &filter),
    }
}

fn demo(options: &[String]) -> Result<()> {
    setup::vulkan()?;
    let mut command = shell::cargo("run --release -- generate");
    for (name, value) in [
        ("--prompt", "Ham. To be, or not"),
        ("--temperature", "0.8"),
        ("--top-k", "50"),
        ("--max-new-tokens", "200"),
        ("--seed", "1"),
    ] {
        // `--seed 2` and `--seed=2` are both the user's own.
        if !options.iter().any(|option| option.split('=').next() == Some(name)) {
            command.args([name, value]);
        }
    }
    shell::run(command.args(options))
}
