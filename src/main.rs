//! The command line: arguments in, text or JSON out.
//!
//! Everything else is the library's business. Errors are printed here, once, and end the program with exit code 1; or
//! 2 where an option has a value that it cannot have, as clap has it for what is no option; or 130 after Ctrl-C.

mod cli;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use cli::{Arguments, Command};

fn main() -> ExitCode {
    let start = Instant::now();
    let arguments = Arguments::parse();
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
        Command::Bench(bench) => cli::bench::run(&bench, gpu, start),
        Command::Completions { shell } => {
            // Straight to standard output it would panic where the reader is gone.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "gptj", &mut script);
            std::io::stdout().write_all(&script).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(match error.downcast_ref() {
                Some(gptj::Error::Option { .. }) => 2,
                // As shells have it for what Ctrl-C ends.
                Some(gptj::Error::Stopped) => 130,
                _ => 1,
            })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
