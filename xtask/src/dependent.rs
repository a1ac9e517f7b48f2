//! A program outside the workspace that depends on the library: it must build without what only the command line needs,
//! and run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// What only the command line needs; a few of it stand for all.
const COMMAND_LINE: [&str; 5] = ["anyhow", "clap", "indicatif", "plotters", "rustyline"];

pub(crate) fn dependent() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("gptj-dependent-{}", std::process::id()));
    let outcome = build_and_run(&folder);
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    outcome
}

fn build_and_run(folder: &Path) -> Result<()> {
    let root = shell::root();
    let written = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(folder.join("src")).with_context(written)?;
    let manifest = format!(
        "[package]\nname = \"dependent\"\nedition = \"2024\"\n\n[dependencies]\n\
         gptj = {{ path = '{}', default-features = false }}\npollster = \"1\"\n",
        root.display()
    );
    fs::write(folder.join("Cargo.toml"), manifest).with_context(written)?;
    fs::copy(root.join("examples/minimal.rs"), folder.join("src/main.rs")).with_context(written)?;
    // The versions that the workspace is tested with, and its build of them from one time to the next.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).with_context(written)?;
    let cargo = |words: &str| {
        let mut command = shell::cargo(words);
        command.current_dir(folder).env("CARGO_TARGET_DIR", root.join("target/dependent"));
        command
    };
    let tree = shell::output(&mut cargo("tree --edges normal --prefix none --format {p}"))?;
    let packages: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(
        packages.contains("wgpu"),
        "`cargo tree` shows no wgpu, so it does not show what the library needs:\n{tree}"
    );
    for package in COMMAND_LINE {
        ensure!(!packages.contains(package), "the library brings {package}, which only the command line needs");
    }
    let text = shell::output(cargo("run --quiet --").arg(root.join("models/shakespeare")).arg("Ham. To be, or not"))?;
    ensure!(text.starts_with("Ham. To be, or not") && text.len() > 60, "the program printed {text:?}");
    println!("{} packages; it printed: {text}", packages.len());
    Ok(())
}
