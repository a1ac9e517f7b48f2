//! The program that measures, started with the arguments of `cargo bench`.

use std::process::{Command, ExitCode};

/// Runs `gptj bench SUBJECT` with this process's arguments, and ends as it ends.
pub(crate) fn bench(subject: &str) -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else { return ExitCode::SUCCESS };
    match Command::new(env!("CARGO_BIN_EXE_gptj")).args(["bench", subject]).args(arguments).status() {
        // Without a code, a signal ended it.
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: cannot start {}: {error}", env!("CARGO_BIN_EXE_gptj"));
            ExitCode::FAILURE
        }
    }
}

/// The arguments that are meant for the program. `cargo bench` adds `--bench`; without it, as in `cargo test --benches`,
/// there is nothing to measure.
pub(crate) fn arguments(given: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let (flags, rest): (Vec<_>, Vec<_>) = given.partition(|argument| argument == "--bench");
    (!flags.is_empty()).then_some(rest)
}
