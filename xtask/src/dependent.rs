//! `cargo xtask dependent`: a program outside the workspace that depends on the library must compile without anything
//! that only the command line or the tests need.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// A few of the crates that only the command line needs; they stand for all.
const COMMAND_LINE: [&str; 5] = ["anyhow", "clap", "indicatif", "plotters", "rustyline"];

pub(crate) fn dependent() -> Result<()> {
    let root = shell::root();
    // Within the workspace's folder, so that .cargo/config.toml holds for it and cargo can share what it built.
    let folder = root.join("target/dependent");
    let written = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(folder.join("src")).with_context(written)?;
    let manifest = "[package]\nname = \"dependent\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
                    gptj = { path = \"../..\", default-features = false }\npollster = \"1\"\n";
    fs::write(folder.join("Cargo.toml"), manifest).with_context(written)?;
    fs::copy(root.join("examples/minimal.rs"), folder.join("src/main.rs")).with_context(written)?;
    // The versions that the workspace is tested with.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).with_context(written)?;
    let cargo = |words: &str| {
        let mut command = shell::cargo(words);
        command.current_dir(&folder).env("CARGO_TARGET_DIR", root.join("target"));
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
    println!("The library brings {} packages.", packages.len());
    shell::run(&mut cargo("check"))
}
