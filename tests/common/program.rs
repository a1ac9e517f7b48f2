//! Running the program, for the tests that see it from outside.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

pub fn gptj(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("gptj").expect("the program is built");
    command.args(arguments);
    command
}

/// The program where there is no GPU: with an API that this system does not have.
pub fn gptj_without_gpu(arguments: &[&str]) -> Command {
    let mut command = gptj(arguments);
    command.env("WGPU_BACKEND", if cfg!(target_vendor = "apple") { "dx12" } else { "metal" });
    command
}

/// A file or directory of the project.
pub fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
