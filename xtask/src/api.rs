//! `cargo xtask api`: everything that the libraries offer, as one list, so that a change of it shows in review.
//!
//! The list comes from rustdoc's JSON, which is for the nightly compiler alone. `RUSTC_BOOTSTRAP` gets it from the
//! stable one, but if cargo saw that variable, it would build all dependencies anew: so this program stands in for
//! rustdoc, and sets it there.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{shell, workspace};

/// The compiler whose JSON the crate `public-api`, at the version in Cargo.toml, understands.
const RUST: &str = "1.95";
const LIST: &str = "docs/public-api.txt";
/// Makes this program rustdoc.
const AS_RUSTDOC: &str = "GPTJ_XTASK_AS_RUSTDOC";

#[derive(Args)]
pub(crate) struct Options {
    /// Fail if docs/public-api.txt says otherwise
    #[arg(long)]
    check: bool,
    /// Rewrite docs/public-api.txt
    #[arg(long, conflicts_with = "check")]
    update: bool,
}

pub(crate) fn api(options: &Options) -> Result<()> {
    if options.check {
        return check();
    }
    let list = list()?;
    if options.update {
        let path = shell::root().join(LIST);
        fs::create_dir_all(path.with_file_name(""))
            .and_then(|()| fs::write(&path, list))
            .with_context(|| format!("cannot write {}", path.display()))
    } else {
        print!("{list}");
        Ok(())
    }
}

/// Whether the installed compiler is the one whose JSON can be read.
pub(crate) fn runs_here() -> bool {
    let version = Command::new("rustdoc").arg("--version").output();
    version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with(&format!("rustdoc {RUST}.")))
}

/// Fails if docs/public-api.txt says otherwise.
pub(crate) fn check() -> Result<()> {
    let kept = fs::read_to_string(shell::root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    match difference(&kept, &list()?) {
        None => Ok(()),
        Some(difference) => bail!(
            "the public API is another than {LIST} says; if that is intended, `cargo xtask api --update`:\n{difference}"
        ),
    }
}

/// The lines that are gone, with a minus, and those that are new, with a plus.
fn difference(old: &str, new: &str) -> Option<String> {
    let [old_lines, new_lines]: [BTreeSet<&str>; 2] = [old.lines().collect(), new.lines().collect()];
    let gone = old_lines.difference(&new_lines).map(|line| format!("- {line}"));
    let added = new_lines.difference(&old_lines).map(|line| format!("+ {line}"));
    let difference: Vec<_> = gone.chain(added).collect();
    (!difference.is_empty()).then(|| difference.join("\n"))
}

fn list() -> Result<String> {
    let mut list = String::new();
    for package in workspace::packages()?.iter().filter(|package| package.is_library()) {
        let mut rustdoc = shell::cargo("rustdoc --quiet --lib --package");
        rustdoc.arg(&package.name).args(["--", "-Zunstable-options", "--output-format=json"]);
        rustdoc.env("RUSTDOC", env::current_exe()?).env(AS_RUSTDOC, "1");
        shell::run(&mut rustdoc)?;
        let json = shell::root().join("target/doc").join(package.library_name()).with_added_extension("json");
        let api = public_api::Builder::from_rustdoc_json(json)
            .omit_auto_derived_impls(true)
            .omit_auto_trait_impls(true)
            .omit_blanket_impls(true)
            .build()
            .with_context(|| format!("cannot read rustdoc's JSON; it takes Rust {RUST}"))?;
        list += &api.to_string();
    }
    Ok(list)
}

/// If this program was started as rustdoc: runs it.
pub(crate) fn stand_in_for_rustdoc() -> Option<ExitCode> {
    env::var_os(AS_RUSTDOC)?;
    let mut rustdoc = Command::new("rustdoc");
    let status = rustdoc.args(env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").status();
    Some(if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "b\nc\n").as_deref(), Some("- a\n+ c"));
    }
}
