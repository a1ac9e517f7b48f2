//! `gptj pull`: a model from the Hugging Face Hub into its cache.

use std::io::Write;
use std::ops::ControlFlow;

use clap::Args;
use gptj::hub::{Extent, HubName};
use serde_json::json;

use super::signals::Signals;
use super::{hub, out, print_json};

/// Fetch a model from the Hugging Face Hub without running it, and print its path.
///
/// Its files go into Hugging Face's own cache (HF_HOME, HF_HUB_CACHE), which transformers reads too; files in it are
/// not fetched again. The next run resumes an interrupted download.
#[derive(Args)]
pub(crate) struct Pull {
    /// The model: ORG/NAME; or ORG/NAME:FILE, or ORG/NAME:Q8_0, for a GGUF file.
    #[arg(value_name = "NAME")]
    name: HubName,

    /// A branch, tag or commit. The default is main.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,

    /// Print one JSON object: name, revision, commit, path, fetched (bytes).
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) fn run(arguments: &Pull) -> anyhow::Result<()> {
    let Pull { name, revision, json } = arguments;
    let signals = Signals::listen()?;
    let fetched = hub::fetch(name, revision.as_deref(), Extent::Model, &mut || {
        if signals.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    signals.check()?;
    let snapshot = fetched?;
    if *json {
        return print_json(&json!({
            "name": name.to_string(),
            "revision": revision.as_deref().unwrap_or("main"),
            "commit": snapshot.commit,
            "path": snapshot.path,
            "fetched": snapshot.fetched,
        }));
    }
    Ok(writeln!(out(), "{}", snapshot.path.display())?)
}
