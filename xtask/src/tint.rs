//! `cargo xtask tint`: the opinion of a second WGSL compiler.
//!
//! The engine compiles its shaders with naga. Chrome's compiler, Tint, reads the standard more strictly in places,
//! above all where control flow must be uniform, and what both accept is likely to be WGSL. Tint comes in Dawn,
//! Chrome's WebGPU, as a package for Node.js. Its null back end compiles and validates as Chrome does but hands nothing
//! to a driver, so on any machine it has every feature, f16 and subgroups among them, and exactly WebGPU's default
//! limits; a browser has what its adapter has.
//!
//! The work is done in `tint.mjs`; this file fetches what it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{setup, shaders, shell};

/// Dawn's package, of one version, so that the verdict changes only with the shaders.
const DAWN: &str = "webgpu@0.6.2";
const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// Compiles the shaders in a folder that the example `dump_shaders` wrote, or else the engine's.
pub(crate) fn tint(shaders: Option<&Path>) -> Result<()> {
    let shaders = shaders::folder("tint", shaders)?;
    let dawn = dawn()?;
    // Node.js looks for packages beside the script.
    let script = dawn.join("tint.mjs");
    fs::write(&script, include_str!("tint.mjs")).with_context(|| format!("cannot write {}", script.display()))?;
    shell::run(Command::new("node").arg(&script).arg(&shaders)).context("Tint does not take all shaders as they are")
}

/// A folder in which Node.js finds Dawn.
fn dawn() -> Result<PathBuf> {
    setup::programs(&[("node", "nodejs"), (NPM, "npm")], "install Node.js 18 or newer and npm")?;
    setup::folder(&format!("tint/{DAWN}"), |folder| {
        // The package is complete as it is; no script of it needs to run.
        let mut npm = Command::new(NPM);
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
        shell::run(npm.arg(folder).arg(DAWN))
    })
}
