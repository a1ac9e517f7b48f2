//! Running the program, for the tests that see it from outside.

use assert_cmd::Command;

/// The program, leaving nothing behind.
pub fn gptj(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("gptj").expect("the program is built");
    command.args(arguments).env("GPTJ_CACHE_DIR", "");
    command
}

/// The program where there is no GPU: with an API that this system does not have.
pub fn gptj_without_gpu(arguments: &[&str]) -> Command {
    let mut command = gptj(arguments);
    command.env("WGPU_BACKEND", if cfg!(target_vendor = "apple") { "dx12" } else { "metal" });
    command
}
