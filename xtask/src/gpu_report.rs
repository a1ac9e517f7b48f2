//! `cargo xtask gpu-report`: tests and measurements of a machine with a GPU, which needs neither Rust nor a network.
//!
//! Here, `pack` fills a folder with all that is needed. There, `sh run.sh` has this same program take the steps, each
//! in a process of its own, and write the results; a step that fails costs only itself. `--render` turns results into
//! something to read, there at once and here again whenever that changes.

mod pack;
mod render;
mod run;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Args)]
pub(crate) struct Options {
    /// Write what is to be read of these results beside them, as .md, and do nothing else
    #[arg(long, value_name = "FILE.json")]
    render: Option<PathBuf>,
    /// Take the steps, in a folder that was packed before
    #[arg(long, conflicts_with = "render")]
    run: bool,
    /// The date of the results
    #[arg(long, requires = "run", default_value = "")]
    date: String,
    /// Give up on a step after this many seconds
    #[arg(long, requires = "run", value_name = "SECONDS", default_value_t = 3600)]
    limit: u64,
    /// Take only these steps, and keep earlier results of the others
    #[arg(requires = "run", value_name = "STEP")]
    steps: Vec<String>,
}

/// What is known of one GPU.
#[derive(Serialize, Deserialize)]
struct Report {
    /// The commit that was measured.
    version: String,
    /// What `gptj info` says of the GPU.
    adapter: Value,
    steps: Vec<Step>,
}

/// What became of one step.
#[derive(Serialize, Deserialize)]
struct Step {
    name: String,
    command: String,
    date: String,
    /// `passed`, or what went wrong.
    outcome: String,
    seconds: f64,
    /// The JSON that it printed, if it did.
    result: Value,
    /// Otherwise the end of what it printed.
    output: String,
}

const PASSED: &str = "passed";

impl Report {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no results of gpu-report", path.display()))
    }

    /// Both files: for programs and for people.
    fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
            .and_then(|()| fs::write(path.with_extension("md"), render::markdown(self)))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The JSON that a step printed, null where it did not.
    fn result(&self, name: &str) -> &Value {
        self.step(name).map_or(&Value::Null, |step| &step.result)
    }
}

pub(crate) fn gpu_report(options: &Options) -> Result<()> {
    match &options.render {
        Some(results) => Report::read(results)?.write(results),
        None if options.run => run::run(options),
        None => pack::pack(),
    }
}
