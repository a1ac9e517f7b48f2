//! `cargo bench --bench kernels [-- FILTER.. OPTION..]`: what `gptj bench kernels` prints.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::bench("kernels")
}
