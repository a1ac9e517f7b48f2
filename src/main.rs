//! The command line: arguments in, text or JSON out.
//!
//! The rest is the library. Errors are printed here, once, and end the program with exit code 1, or 2 for an option
//! with an invalid value, as in clap. A signal ends it with the exit code that shells use: 130 for Ctrl-C, 143 for
//! SIGTERM, 129 for SIGHUP.

mod cli;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser};

use self::cli::signals::Interrupted;
use self::cli::{Arguments, Command};

fn main() -> ExitCode {
    let start = Instant::now();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    if arguments.quiet {
        cli::be_quiet();
    }
    let gpu = &arguments.gpu;
    let result = match arguments.command {
        Command::Generate(generate) => pollster::block_on(cli::generate::run(&generate, gpu, start)),
        Command::Repl(repl) => pollster::block_on(cli::repl::run(&repl, gpu)),
        Command::Score(score) => pollster::block_on(cli::score::run(&score, gpu)),
        Command::Perplexity(perplexity) => pollster::block_on(cli::perplexity::run(&perplexity, gpu)),
        Command::Classify(classify) => pollster::block_on(cli::classify::run(&classify, gpu)),
        Command::Answer(answer) => pollster::block_on(cli::answer::run(&answer, gpu)),
        Command::Embed(embed) => pollster::block_on(cli::embed::run(&embed, gpu)),
        Command::HiddenStates(hidden) => pollster::block_on(cli::hidden_states::run(&hidden, gpu)),
        Command::Tokenize(tokenize) => cli::tokenize::run(&tokenize),
        Command::Devices(devices) => pollster::block_on(cli::devices::run(&devices)),
        Command::Info(info) => pollster::block_on(cli::info::run(&info, gpu)),
        Command::Verify(verify) => cli::verify::run(&verify),
        Command::Convert(convert) => cli::convert::run(&convert),
        Command::Pull(pull) => cli::pull::run(&pull),
        Command::Bench(bench) => cli::bench::run(&bench, gpu, start),
        Command::Completions { shell } => {
            // Written to a closed pipe directly, it would panic.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "gptj", &mut script);
            cli::out().write_all(&script).map_err(Into::into)
        }
    };
    end(result.and_then(|()| Ok(cli::out().flush()?)))
}

/// Prints help, the version, or the error in the arguments.
fn explain(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failed) if !error.use_stderr() => end(Err(cli::named(&failed).into())),
        _ => ExitCode::from(error.exit_code() as u8),
    }
}

/// A command's exit code; prints its error.
fn end(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        // The reader has seen enough, like `head`.
        return ExitCode::SUCCESS;
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return ExitCode::from(interrupted.status());
    }
    // A closed standard error does not matter.
    _ = writeln!(std::io::stderr(), "error: {error:#}");
    let is_bad_option = matches!(error.downcast_ref(), Some(gptj::Error::Option { .. }))
        || matches!(error.downcast_ref(), Some(gptj::checkpoint::Error::Option { .. }));
    ExitCode::from(if is_bad_option { 2 } else { 1 })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
