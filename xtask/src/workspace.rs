//! The workspace's packages, as cargo knows them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Package {
    /// Whether Rust programs can depend on it.
    pub(crate) fn is_library(&self) -> bool {
        self.targets.iter().flat_map(|target| &target.kind).any(|kind| kind == "lib")
    }

    /// The programs of tests in its folder `tests`.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &str> {
        let tests = self.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
        tests.map(|target| target.name.as_str())
    }

    /// The name by which Rust programs use it.
    pub(crate) fn library_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// All packages but this one, the package at the root first.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let json = shell::output(&mut shell::cargo("metadata --no-deps --format-version 1"))?;
    let Metadata { mut packages } =
        serde_json::from_str(&json).context("cannot read what cargo says of the packages")?;
    packages.retain(|package| package.name != env!("CARGO_PKG_NAME"));
    packages.sort_by_key(|package| (package.manifest_path.components().count(), package.name.clone()));
    Ok(packages)
}
