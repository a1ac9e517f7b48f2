//! `cargo xtask test`: what must hold before a change lands, cheapest step first.
//!
//! The steps that only check code share their build of the dependencies, and so do those that run it, so nothing is
//! compiled more than twice.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::drivers::Driver;
use crate::{api, dependent, isa, package, setup, shell, structure, tint, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// Run only these steps; `--list` shows what there is
    #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(STEPS.map(|step| step.name)), hide_possible_values = true)]
    steps: Vec<String>,
    /// List the steps and exit
    #[arg(long)]
    list: bool,
    /// Run only the tests, on this Vulkan driver: lavapipe, lavapipe-22, lavapipe-next, swiftshader, or the path of a
    /// driver's ICD file (.json)
    #[arg(long, value_name = "NAME|ICD", conflicts_with_all = ["steps", "list"])]
    driver: Option<Driver>,
}

struct Step {
    name: &'static str,
    about: &'static str,
    /// Whether this machine can take it.
    runs_here: fn() -> bool,
    run: fn() -> Result<()>,
}

const STEPS: [Step; 10] = [
    Step { name: "format", about: "rustfmt", runs_here: anywhere, run: || cargo("fmt --all --check") },
    Step { name: "structure", about: "which module may use which", runs_here: anywhere, run: structure::check },
    Step {
        name: "lints",
        about: "clippy",
        runs_here: anywhere,
        run: || cargo("clippy --workspace --all-targets -- -D warnings"),
    },
    Step { name: "docs", about: "rustdoc", runs_here: anywhere, run: documentation },
    Step {
        name: "api",
        about: "the libraries' public API is that of docs/public-api.txt",
        runs_here: api::runs_here,
        run: api::check,
    },
    Step {
        name: "dependent",
        about: "a program outside the workspace that depends on the library alone",
        runs_here: anywhere,
        run: dependent::dependent,
    },
    Step {
        name: "package",
        about: "what a registry would get: complete, and not too large",
        runs_here: anywhere,
        run: package::check,
    },
    Step { name: "tests", about: "all tests, on this machine's GPU", runs_here: anywhere, run: || tests(None) },
    Step {
        name: "shaders",
        about: "every shader, compiled with naga, with Tint, and on Linux for AMD's GPUs",
        runs_here: anywhere,
        run: shaders,
    },
    Step {
        name: "matrix-units",
        about: "the matmuls on matrix units, on a software driver that has some",
        runs_here: || Driver::LavapipeNext.can_be_fetched(),
        run: matrix_units,
    },
];

fn anywhere() -> bool {
    true
}

pub(crate) fn test(options: &Options) -> Result<()> {
    if options.list {
        for Step { name, about, runs_here, .. } in &STEPS {
            let note = if runs_here() { "" } else { " (not on this machine)" };
            println!("{name:<14}{about}{note}");
        }
        return Ok(());
    }
    if options.driver.is_some() {
        return tests(options.driver.as_ref());
    }
    let chosen = |step: &Step| match options.steps.is_empty() {
        true => (step.runs_here)(),
        false => options.steps.iter().any(|name| name == step.name),
    };
    run(STEPS.iter().filter(|step| chosen(step)))
}

/// Runs the steps up to the first that fails, then prints how each went and how long it took.
fn run<'a>(steps: impl Iterator<Item = &'a Step>) -> Result<()> {
    let start = Instant::now();
    let mut outcome = Ok(());
    let mut table = format!("{:<14}{:<8}{:>8}", "step", "", "seconds");
    for step in steps {
        if outcome.is_err() {
            table += &format!("\n{:<14}not run", step.name);
            continue;
        }
        println!("\n== {}: {}", step.name, step.about);
        let start = Instant::now();
        outcome = (step.run)();
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        table += &format!("\n{:<14}{verdict:<8}{:>8.1}", step.name, start.elapsed().as_secs_f64());
    }
    println!("\n{table}\n{:<22}{:>8.1}", "total", start.elapsed().as_secs_f64());
    if let Some(bytes) = target_bytes() {
        println!("{:<22}{:>5.2} GB", "target/", bytes as f64 / 1e9);
    }
    outcome
}

/// What `target` takes on disk; `None` without the program `du`.
fn target_bytes() -> Option<u64> {
    let output = Command::new("du").arg("-sk").arg(shell::root().join("target")).output().ok()?;
    let kibibytes: u64 = String::from_utf8(output.stdout).ok()?.split_whitespace().next()?.parse().ok()?;
    Some(1024 * kibibytes)
}

fn cargo(words: &str) -> Result<()> {
    shell::run(&mut shell::cargo(words))
}

fn documentation() -> Result<()> {
    shell::run(shell::cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"))
}

/// All tests, on the driver if one is given, or else on the adapter that the engine would choose.
fn tests(driver: Option<&Driver>) -> Result<()> {
    setup::vulkan()?;
    // Some tests run them.
    cargo("build --workspace --examples")?;
    let packages = workspace::packages()?;
    let mut others = test_command("test --workspace --lib --bins");
    for test in packages.iter().flat_map(workspace::Package::tests).filter(|&test| test != "kernels") {
        others.args(["--test", test]);
    }
    for mut tests in [kernel_tests(), others, test_command("test --workspace --doc")] {
        if let Some(driver) = driver {
            driver.select(&mut tests)?;
        }
        shell::run(&mut tests)?;
    }
    Ok(())
}

/// What compilers make of the shaders, with no GPU.
fn shaders() -> Result<()> {
    cargo("test --workspace --test kernels shaders::")?;
    tint::tint(None)?;
    if cfg!(target_os = "linux") {
        isa::check()?;
    }
    Ok(())
}

fn matrix_units() -> Result<()> {
    let mut tests = kernel_tests();
    tests.args(["--", "block_in", "block_out", "lm_head", "matrix_units", "every_matmul"]);
    tests.env("GPTJ_REQUIRE_MATRIX_UNITS", "1");
    Driver::LavapipeNext.select(&mut tests)?;
    shell::run(&mut tests)
}

/// On Mesa's software driver, these compile shaders far longer than they run them, and most of that is optimising,
/// which they do without. Whole models run long enough to gain from it, and from then on find what was compiled in
/// the driver's cache.
fn kernel_tests() -> Command {
    let mut tests = test_command("test --workspace --test kernels");
    tests.env("GALLIVM_PERF", "nopt");
    tests
}

fn test_command(words: &str) -> Command {
    let mut tests = shell::cargo(words);
    // Without it, a test that finds no adapter would only say that it was skipped.
    tests.env("GPTJ_REQUIRE_GPU", "1");
    tests
}
