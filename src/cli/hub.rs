//! Models by their name on the Hugging Face Hub.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gptj::checkpoint::{Error, Result};
use gptj::hub::{Extent, Hub, HubName, HubProgress, Location, Snapshot};
use indicatif::{ProgressBar, ProgressStyle};

use super::{human_bytes, note};

/// Where a model's files are; fetches them to this extent if `--model` names one on the Hub.
pub(crate) fn locate(model: &Path, revision: Option<&str>, extent: Extent) -> Result<PathBuf> {
    match (Location::of(model)?, revision) {
        (Location::Path(path), None) => Ok(path),
        (Location::Path(path), Some(_)) => {
            let reason = format!("only models on the Hugging Face Hub have one, and {} is on disk", path.display());
            Err(Error::Option { name: "--revision", reason })
        }
        // Ctrl-C ends the program; the next run resumes the download.
        (Location::Hub(name), _) => match fetch(&name, revision, extent, &mut || ControlFlow::Continue(())) {
            Ok(snapshot) => Ok(snapshot.path),
            Err(Error::Hub { name, reason }) => {
                let reason = format!("{reason} (and there is no file or directory of this name)");
                Err(Error::Hub { name, reason })
            }
            Err(error) => Err(error),
        },
    }
}

/// Fetches the files of a model that the cache lacks, with a progress bar if standard error is a terminal, until
/// `check` breaks.
pub(crate) fn fetch(
    name: &HubName,
    revision: Option<&str>,
    extent: Extent,
    check: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Snapshot> {
    let style = "fetching {wide_msg} {bar:30} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta}";
    let style = ProgressStyle::with_template(style).expect("the template is valid");
    let bar = ProgressBar::new(0).with_style(style).with_message(name.to_string());
    let mut is_shown = false;
    let fetched = Hub::from_env()?.fetch(name, revision, extent, &mut |progress| {
        // Nothing is shown for a model that is in the cache.
        if progress.total > 0 {
            if !is_shown {
                bar.enable_steady_tick(Duration::from_millis(200));
                is_shown = true;
            }
            show(&bar, progress);
        }
        check()
    });
    bar.finish_and_clear();
    let snapshot = fetched?;
    if snapshot.fetched > 0 {
        note(&format!("note: fetched {} of {name} into {}", human_bytes(snapshot.fetched), snapshot.path.display()));
    }
    if let Some(error) = &snapshot.unchecked {
        note(&format!("note: using {name} from the cache, unchecked: {error}"));
    }
    Ok(snapshot)
}

fn show(bar: &ProgressBar, progress: &HubProgress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(progress.file.to_string());
}
