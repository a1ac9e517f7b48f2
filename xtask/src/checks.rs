//! `cargo xtask test`: what must hold before a change lands, cheapest step first.
//!
//! A step is one cargo command. The steps that only check code share their build of the
//! dependencies, and so do those that run it, so nothing is compiled more than twice.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::drivers::Driver;
use crate::{setup, shell};

/// All steps, on whatever adapter the machine has.
pub(crate) fn all() -> Result<()> {
    setup::vulkan()?;
    let mut steps: Vec<Step> = vec![
        ("format", || Ok(shell::cargo("fmt --all --check"))),
        ("lints", || Ok(shell::cargo("clippy --workspace --all-targets -- -D warnings"))),
        ("documentation", || Ok(documentation())),
        ("library alone", || Ok(shell::cargo("check --package gptj --lib --no-default-features"))),
        ("tests", || Ok(tests())),
        ("a program of its own", || Ok(shell::cargo("xtask dependent"))),
        ("second WGSL compiler", || Ok(shell::cargo("xtask tint"))),
    ];
    if cfg!(target_os = "linux") {
        steps.push(("a GPU's compiler", || Ok(shell::cargo("xtask isa --check"))));
    }
    if Driver::LavapipeNext.can_be_fetched() {
        steps.push(("matrix units", matrix_units));
    }
    run(steps)
}

/// What a step is called, and its command, which may have to fetch something first.
type Step = (&'static str, fn() -> Result<Command>);

fn documentation() -> Command {
    let mut doc = shell::cargo("doc --workspace --no-deps");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    doc
}

/// The tests on one driver; no other step depends on it.
pub(crate) fn tests_on(driver: &Driver) -> Result<()> {
    setup::vulkan()?;
    let mut tests = tests();
    driver.select(&mut tests)?;
    shell::run(&mut tests)
}

/// The products by matrix units, on the one software driver that has some.
fn matrix_units() -> Result<Command> {
    let mut tests =
        shell::cargo("test --test kernels --test self_test -- block_in block_out lm_head matrix_units every_product");
    tests.env("GPTJ_REQUIRE_GPU", "1").env("GPTJ_REQUIRE_MATRIX_UNITS", "1").env("GALLIVM_PERF", "nopt");
    Driver::LavapipeNext.select(&mut tests)?;
    Ok(tests)
}

fn tests() -> Command {
    let mut tests = shell::cargo("test --workspace");
    // Without it, a test that finds no adapter would only say that it was skipped.
    tests.env("GPTJ_REQUIRE_GPU", "1");
    // Mesa's software driver: the tests compile far more shaders than they run long, and half of that is optimising.
    tests.env("GALLIVM_PERF", "nopt");
    tests
}

/// Runs the steps up to the first that fails, then prints how each went and how long it took.
fn run(steps: Vec<Step>) -> Result<()> {
    let mut outcome = Ok(());
    let mut summary = Vec::new();
    for (name, command) in steps {
        if outcome.is_err() {
            summary.push(format!("{name:<22}not run"));
            continue;
        }
        println!("\n== {name}");
        let start = Instant::now();
        outcome = command().and_then(|mut command| shell::run(&mut command));
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        let seconds = start.elapsed().as_secs_f32();
        summary.push(format!("{name:<22}{verdict} {seconds:>8.1} s"));
    }
    println!("\n{}", summary.join("\n"));
    outcome
}
