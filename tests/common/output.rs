//! What the program prints, for the tests that read it.

use assert_cmd::Command;
use serde::de::DeserializeOwned;

/// Runs a command to its good end and returns what is on standard output and on standard error.
pub fn run(command: &mut Command) -> (String, String) {
    let output = command.assert().success().get_output().clone();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    (stdout, stderr)
}

/// The same where standard output holds nothing but JSON.
pub fn run_json<T: DeserializeOwned>(command: &mut Command) -> T {
    let (stdout, _) = run(command);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout}"))
}
