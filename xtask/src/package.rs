//! `cargo xtask package`: the crates as a registry would get them.

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{shell, workspace};

/// What registries take.
const MOST_BYTES: u64 = 10_000_000;

/// What each package must hold.
const FOR_READERS: [&str; 3] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];
/// What the engine's package must hold besides: it compiles these in.
const COMPILED_IN: [&str; 2] = ["shaders/", "models/"];

#[derive(Args)]
pub(crate) struct Options {
    /// Also build each package on its own, as `cargo publish` does
    #[arg(long)]
    verify: bool,
}

pub(crate) fn package(options: &Options) -> Result<()> {
    pack(options.verify)
}

/// Packs every crate and looks at what came out, but builds none.
pub(crate) fn check() -> Result<()> {
    pack(false)
}

fn pack(verify: bool) -> Result<()> {
    let packages = workspace::packages()?;
    let mut cargo = shell::cargo("package --workspace --allow-dirty --exclude");
    cargo.arg(env!("CARGO_PKG_NAME"));
    if !verify {
        cargo.arg("--no-verify");
    }
    shell::run(&mut cargo)?;
    let folder = shell::root().join("target/package");
    for (index, package) in packages.iter().enumerate() {
        let name = format!("{}-{}", package.name, package.version);
        let archive = folder.join(format!("{name}.crate"));
        let bytes = fs::metadata(&archive).with_context(|| format!("cannot read {}", archive.display()))?.len();
        let files = shell::output(shell::cargo("package --list --allow-dirty --package").arg(&package.name))?;
        println!("{name}: {:.2} MB, {} files", bytes as f64 / 1e6, files.lines().count());
        ensure!(bytes < MOST_BYTES, "{name} has {bytes} bytes, and registries take less than {MOST_BYTES}");
        let compiled_in = if index == 0 { &COMPILED_IN[..] } else { &[] };
        for needed in FOR_READERS.iter().chain(compiled_in) {
            ensure!(files.replace('\\', "/").lines().any(|file| file.starts_with(needed)), "{name} holds no {needed}");
        }
    }
    Ok(())
}
