//! Starting the program, for the tests that see it from outside, and reading what it prints.

use std::path::PathBuf;
use std::process;

use assert_cmd::Command;
use assert_cmd::cargo::CommandCargoExt;
use serde::de::DeserializeOwned;

/// The program, as the standard library starts it. All that tests start share what is kept from start to start, so that
/// kernels are compiled once; `GPTJ_CACHE_DIR` may name another folder.
pub fn plain_gptj(arguments: &[&str]) -> process::Command {
    let mut command = process::Command::cargo_bin("gptj").expect("the program is built");
    command.args(arguments).env("GPTJ_CACHE_DIR", cache_dir());
    command
}

/// A folder that stays from one run of the tests to the next, and one of the system's where the tests were built on
/// another machine.
fn cache_dir() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if target.is_dir() { target } else { std::env::temp_dir() }.join("gptj-tests")
}

/// The program.
pub fn gptj(arguments: &[&str]) -> Command {
    Command::from_std(plain_gptj(arguments))
}

/// The program where there is no GPU: with an API that this system does not have.
pub fn gptj_without_gpu(arguments: &[&str]) -> Command {
    let mut command = gptj(arguments);
    command.env("WGPU_BACKEND", if cfg!(target_vendor = "apple") { "dx12" } else { "metal" });
    command
}

/// The exit code of a command, what is on standard output, and what is on standard error.
pub fn finish(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("the program starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = output.status.code().unwrap_or_else(|| panic!("{}: {stderr}", output.status));
    (code, stdout, stderr)
}

/// Runs a command to its good end and returns what is on standard output and on standard error.
pub fn run(command: &mut Command) -> (String, String) {
    let (code, stdout, stderr) = finish(command);
    assert_eq!(code, 0, "{command:?}: {stderr}");
    (stdout, stderr)
}

/// The same where standard output holds nothing but JSON.
pub fn run_json<T: DeserializeOwned>(command: &mut Command) -> T {
    let (stdout, _) = run(command);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout}"))
}

/// Token ids as an argument.
pub fn ids(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
