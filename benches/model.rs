//! `cargo bench --bench model [-- OPTION..]`: what `gptj bench model` prints.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::bench("model")
}
