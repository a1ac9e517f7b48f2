//! The engine's shaders as files, as compilers other than the engine's want them.

use std::env::consts::EXE_EXTENSION;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// The given folder that the example `dump_shaders` wrote, or else `target/COMMAND/shaders`, into which the engine now
/// writes its shaders.
pub(crate) fn folder(command: &str, given: Option<&Path>) -> Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => dump(command)?,
    };
    ensure!(
        folder.join("kernels.json").exists(),
        "{} holds no kernels.json, so the example `dump_shaders` did not write it",
        folder.display()
    );
    Ok(folder)
}

fn dump(command: &str) -> Result<PathBuf> {
    let folder = shell::root().join("target").join(command).join("shaders");
    // A kernel that is gone from the engine must go from here too.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Of the whole workspace, as the tests are: features, and with them the build of the dependencies, are the same.
    shell::run(&mut shell::cargo("build --quiet --workspace --example dump_shaders"))?;
    let example = shell::root().join("target/debug/examples/dump_shaders").with_extension(EXE_EXTENSION);
    shell::run(Command::new(example).arg(&folder).current_dir(shell::root()))?;
    Ok(folder)
}
