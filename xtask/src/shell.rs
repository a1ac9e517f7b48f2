//! Runs commands. Each is printed first, as one would type it, and a failure names it.
//!
//! What the commands are for is known to the callers alone.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The root of the workspace, which is where commands run.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A cargo command, its words separated by spaces.
pub(crate) fn cargo(words: &str) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(words.split(' '));
    command
}

/// Whether there is such a program.
pub(crate) fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Prints the command, then runs it to its end; an exit status other than zero is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed with {status}");
    Ok(())
}

/// The same, for what the command writes to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    println!("$ {line}");
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote something other than text"))
}

/// The command as one would type it, with the variables that it sets.
pub(crate) fn line(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default();
        let _ = write!(line, "{}={} ", name.display(), quoted(&value.to_string_lossy()));
    }
    line += &quoted(&command.get_program().to_string_lossy());
    for argument in command.get_args() {
        let _ = write!(line, " {}", quoted(&argument.to_string_lossy()));
    }
    line
}

/// The word as a shell would take it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:@,+~\\".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_printed_as_one_would_type_it() {
        let mut command = Command::new("cargo");
        command.env("RUSTDOCFLAGS", "-D warnings").args(["run", "--prompt", "To be, or 't", ""]);
        assert_eq!(line(&command), r"RUSTDOCFLAGS='-D warnings' cargo run --prompt 'To be, or '\''t' ''");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(&mut cargo("no-such-command")).expect_err("cargo has no such command");
        assert!(error.to_string().starts_with("`cargo no-such-command` failed with exit"), "{error}");
    }
}
