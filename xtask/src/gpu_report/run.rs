//! Takes the steps, in the folder that was packed, and keeps what comes of each.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Options, PASSED, Report, Step};
use crate::shell;

/// Where results go, in the packed folder as in the project.
pub(super) const RESULTS: &str = "benches/results";
/// How executables with tests begin.
pub(super) const TEST_PREFIX: &str = "test-";
/// The file that says which commit was packed.
pub(super) const VERSION: &str = "VERSION";
/// PyTorch's side of the comparison.
pub(super) const PYTORCH: &str = "torch_gptj.py";

/// How much is kept of what a failed step printed.
const TAIL_BYTES: usize = 4000;

pub(super) fn run(options: &Options) -> Result<()> {
    let version = fs::read_to_string(VERSION).context("this is no folder that `cargo xtask gpu-report` packed")?;
    // Whatever is kept from start to start is kept here, and in the beginning there is nothing.
    let scratch = Path::new("scratch");
    // Single steps go on where the others ended.
    if scratch.exists() && options.steps.is_empty() {
        fs::remove_dir_all(scratch).context("cannot remove what an earlier run left in scratch")?;
    }
    fs::create_dir_all(scratch).context("cannot create the folder scratch")?;

    let info = take("info", gptj("info --json"), scratch, options);
    let adapter = info.result["adapter"].clone();
    let device = adapter["name"].as_str().unwrap_or("no-gpu");
    let path = Path::new(RESULTS).join(file_name(device)).with_added_extension("json");
    let mut report = Report { version: version.trim().to_owned(), adapter, steps: vec![info] };

    let mut steps = steps()?;
    if !options.steps.is_empty() {
        let is_chosen = |name: &String| options.steps.contains(name);
        let names: Vec<_> = steps.iter().map(|(name, _)| name.clone()).collect();
        let unknown = options.steps.iter().find(|step| !names.contains(step));
        ensure!(unknown.is_none(), "{} is no step; there are {}", unknown.map_or("", |name| name), names.join(", "));
        steps.retain(|(name, _)| is_chosen(name));
        if let Ok(earlier) = Report::read(&path) {
            report.steps.extend(earlier.steps.into_iter().filter(|step| step.name != "info" && !is_chosen(&step.name)));
        }
    }
    report.write(&path)?;
    for (name, command) in steps {
        report.steps.push(take(&name, command, scratch, options));
        report.write(&path)?;
    }
    println!("\nThe results are {} and {}.", path.display(), path.with_extension("md").display());
    Ok(())
}

/// Every step but the first, which finds out what the GPU is: its name and its command.
fn steps() -> Result<Vec<(String, Command)>> {
    let mut tests: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir("bin").context("cannot read the folder bin")? {
        tests.push(entry?.path());
    }
    tests.sort();
    let mut steps = vec![("devices".to_owned(), gptj("devices --json"))];
    for test in tests {
        let name = test.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(TEST_PREFIX) {
            let mut command = Command::new(test);
            command.env("GPTJ_REQUIRE_GPU", "1");
            steps.push((name, command));
        }
    }
    // The second start finds what the first left; the driver's own cache must not help the first.
    for name in ["start-cold", "start-warm"] {
        let mut command = gptj("generate --json --greedy --max-new-tokens 2 --prompt To");
        command.env("__GL_SHADER_DISK_CACHE", "0").env("MESA_SHADER_CACHE_DISABLE", "true");
        steps.push((name.to_owned(), command));
    }
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let pytorch = |options: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(PYTORCH).args(options);
        command
    };
    for (name, command) in [
        // What it finds is used by the steps after it.
        ("tune", gptj("bench kernels --tune --json")),
        ("plan", gptj("bench plan --shapes 6b --json")),
        ("kernels", gptj("bench kernels --shapes 6b --json")),
        ("model", gptj("bench model --synthetic 6b --json")),
        ("pytorch", pytorch(&[])),
        ("pytorch-graph", pytorch(&["--cuda-graph"])),
    ] {
        steps.push((name.to_owned(), command));
    }
    Ok(steps)
}

fn gptj(words: &str) -> Command {
    let mut command = Command::new(Path::new("bin").join("gptj"));
    command.args(words.split(' '));
    command
}

/// Runs a command to its end or its limit.
fn take(name: &str, mut command: Command, scratch: &Path, options: &Options) -> Step {
    println!("{name} …");
    command.env("GPTJ_CACHE_DIR", scratch.join("cache"));
    let start = Instant::now();
    let [stdout, stderr] = ["out", "err"].map(|end| scratch.join(name).with_added_extension(end));
    let outcome = finish(&mut command, [&stdout, &stderr], Duration::from_secs(options.limit));
    let seconds = start.elapsed().as_secs_f64();
    let outcome = outcome.map_or_else(|error| format!("{error:#}"), |()| PASSED.to_owned());
    println!("{name:<16}{outcome} {seconds:>8.1} s");

    let [stdout, stderr] = [stdout, stderr].map(|path| {
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let result: Value = serde_json::from_str(&stdout).unwrap_or_default();
    let both = if result.is_null() { stdout + &stderr } else { stderr };
    let output = both[both.ceil_char_boundary(both.len().saturating_sub(TAIL_BYTES))..].to_owned();
    Step {
        name: name.to_owned(),
        command: shell::line(&command),
        date: options.date.clone(),
        outcome,
        seconds,
        result,
        output,
    }
}

/// Fails where the command does, or takes longer than `limit`.
fn finish(command: &mut Command, [stdout, stderr]: [&Path; 2], limit: Duration) -> Result<()> {
    command.stdout(File::create(stdout)?).stderr(File::create(stderr)?);
    let mut child = command.spawn().context("could not start")?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(());
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            ensure!(false, "not done after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The device's name as a file's.
fn file_name(device: &str) -> String {
    let mut name = String::new();
    for c in device.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gives_a_plain_file_name() {
        assert_eq!(file_name("NVIDIA H100 80GB HBM3"), "nvidia-h100-80gb-hbm3");
        assert_eq!(file_name("AMD Radeon RX 7900 XTX (RADV NAVI31)"), "amd-radeon-rx-7900-xtx-radv-navi31");
    }
}
