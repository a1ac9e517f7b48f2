//! Opening a GPU, or saying loudly that a test was skipped.

use std::fmt::Display;
use std::io::Write;

use gptj::internals::gpu::{Gpu, GpuOptions, Specialisation};
use pollster::block_on;

/// Says that a test tests nothing, and why; a failure where the variable `required` is 1.
pub fn skip(required: &str, reason: &dyn Display) {
    assert!(std::env::var_os(required).is_none_or(|value| value != "1"), "{required} is set, but: {reason}");
    let thread = std::thread::current();
    // Not by `eprintln!`, of which the test harness shows nothing where a test passes.
    let said = writeln!(std::io::stderr(), "SKIPPED {}: {reason}", thread.name().unwrap_or("a test"));
    said.expect("standard error can be written");
}

/// The GPU as users have it.
pub fn gpu() -> Option<Gpu> {
    open(&GpuOptions::default())
}

/// The GPU with these options; a test that gets none is skipped.
pub fn open(options: &GpuOptions) -> Option<Gpu> {
    block_on(Gpu::open(options)).inspect_err(|error| skip("GPTJ_REQUIRE_GPU", error)).ok()
}

/// The GPU with every check of memory accesses in place, in each specialisation that it has; empty where there is none.
pub fn gpus() -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = Vec::new();
    for Specialisation { f16, subgroups } in Specialisation::all() {
        let Some(gpu) = open(&GpuOptions { f16, subgroups, checked: true, ..GpuOptions::default() }) else { break };
        if gpus.iter().all(|other| other.specialisation() != gpu.specialisation()) {
            gpus.push(gpu);
        }
    }
    gpus
}

/// The GPU, where it has matrix units. That it has none is a failure where `GPTJ_REQUIRE_MATRIX_UNITS` is 1.
pub fn gpu_with_matrix_units() -> Option<Gpu> {
    let gpu = gpu()?;
    if gpu.matrix_sides().is_empty() {
        skip("GPTJ_REQUIRE_MATRIX_UNITS", &format_args!("{} has no matrix units", gpu.info()));
        return None;
    }
    Some(gpu)
}
