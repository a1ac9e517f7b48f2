//! Fills `target/gpu-report`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::shell;

/// What cargo says of a file that it built.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    target: Target,
    profile: Profile,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Artifact {
    /// Where it lies in the folder; `None` where it has no place there.
    fn packed_path(&self) -> Option<PathBuf> {
        let (folder, name) = match (self.profile.test, self.target.kind.first()?.as_str()) {
            (false, "bin") => ("bin", self.target.name.clone()),
            // Beside the tests' folder, as where cargo builds them.
            (false, "example") => ("examples", self.target.name.clone()),
            (true, "lib") => ("bin", format!("{}lib", super::run::TEST_PREFIX)),
            (true, "test") => ("bin", format!("{}{}", super::run::TEST_PREFIX, self.target.name)),
            _ => return None,
        };
        Some(Path::new(folder).join(name + std::env::consts::EXE_SUFFIX))
    }
}

pub(super) fn pack() -> Result<()> {
    let target = shell::root().join("target");
    let folder = target.join("gpu-report");
    let results = folder.join(super::run::RESULTS);
    ensure!(!results.exists(), "{} holds results: move them to a better place first", results.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    for folder in ["bin", "examples"].map(|name| folder.join(name)) {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }

    for words in ["build --release --workspace --bins", "test --release --package gptj --no-run"] {
        let messages = shell::output(shell::cargo(words).arg("--message-format=json"))?;
        for artifact in messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok()) {
            if let (Some(executable), Some(path)) = (&artifact.executable, artifact.packed_path()) {
                let packed = folder.join(path);
                copy(executable, &packed)?;
                // It runs without its symbols as well, and not everywhere is there a program to take them out.
                _ = Command::new("strip").arg(&packed).status();
            }
        }
    }
    // The tests find these from the folder in which they run.
    for data in ["tests/golden", "tests/formats", "models/shakespeare", "shaders"] {
        copy(&shell::root().join(data), &folder.join(data))?;
    }
    for (name, text) in [
        ("run.sh", include_str!("../../gpu-report/run.sh")),
        (super::run::PYTORCH, include_str!("../../gpu-report/torch_gptj.py")),
        (super::run::VERSION, &version()),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }

    println!("\n{} is ready: take it to a machine with a GPU and run `sh run.sh` in it.", folder.display());
    let mut tar = Command::new("tar");
    tar.current_dir(&target).args(["-czf", "gpu-report.tar.gz", "gpu-report"]);
    if tar.status().is_ok_and(|status| status.success()) {
        println!("{} holds the same.", target.join("gpu-report.tar.gz").display());
    }
    Ok(())
}

/// The commit, as git describes it.
fn version() -> String {
    let mut git = Command::new("git");
    let described = git.current_dir(shell::root()).args(["describe", "--always", "--dirty"]).output();
    let described = described.ok().filter(|output| output.status.success());
    described.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || -> Result<()> {
        if !from.is_dir() {
            return Ok(fs::copy(from, to).map(drop)?);
        }
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
