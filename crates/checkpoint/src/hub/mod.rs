//! Models by their name on the [Hugging Face Hub](https://huggingface.co), through the cache of Hugging Face's own
//! programs.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use gptj_checkpoint::hub::{Extent, Hub};
//!
//! # fn main() -> gptj_checkpoint::Result<()> {
//! let hub = Hub::from_env()?;
//! let name = "EleutherAI/gpt-j-6b".parse()?;
//! let snapshot = hub.fetch(&name, Some("float16"), Extent::Model, &mut |progress| {
//!     eprintln!("{}: {} of {} bytes", progress.file, progress.done, progress.total);
//!     ControlFlow::Continue(())
//! })?;
//! println!("{}", snapshot.path.display());
//! # Ok(())
//! # }
//! ```
//!
//! The cache is shared with huggingface_hub, transformers and candle, and files in it are used as they are. Of the
//! others, only those that a model needs are downloaded: its configuration, its tokenizer, and its weights as
//! safetensors, or else as `pytorch_model.bin`. An interrupted download resumes, and no file is used before its size
//! and hash are verified. Without a network, or with `HF_HUB_OFFLINE=1`, only the cache is used.

mod cache;
mod client;
mod digest;
mod download;
mod environment;
mod files;
mod name;
mod transfer;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

pub use name::{HubName, Location};
pub use transfer::HubProgress;

use cache::{RepositoryCache, Revision};
use client::{Client, Failure, Listing, Patience, RemoteFile};
use download::Download;
use files::Weights;
use transfer::Transfer;

use crate::config::read_config;
use crate::error::{Error, Result};
use crate::formats::shards;

/// A Hub, the cache of its files, and the user's token.
#[derive(Clone)]
pub struct Hub {
    client: Client,
    cache_dir: PathBuf,
    offline: bool,
    symlinks: bool,
    first_wait: Duration,
}

/// The part of a model to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All files needed to run it.
    Model,
    /// Its configuration and tokenizer, a few megabytes. A file that is the whole model is fetched whole.
    Settings,
}

/// A model in the cache.
#[derive(Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The directory of the model's files, or the file that the name asks for.
    pub path: PathBuf,
    /// Its commit.
    pub commit: String,
    /// The number of bytes downloaded by this call.
    pub fetched: u64,
    /// The error, if the Hub could not be asked for the revision's newest commit.
    pub unchecked: Option<Error>,
}

impl Hub {
    /// The Hub at a URL, with this cache directory; ignores the environment.
    ///
    /// # Errors
    /// If the endpoint is not a URL.
    pub fn new(endpoint: &str, cache_dir: impl Into<PathBuf>) -> Result<Self> {
        let wrong =
            || Error::option("HF_ENDPOINT", format!("'{endpoint}' must be a URL, as https://huggingface.co is"));
        let client = Client::new(endpoint).ok_or_else(wrong)?;
        let first_wait = Duration::from_secs(1);
        Ok(Self { client, cache_dir: cache_dir.into(), offline: false, symlinks: true, first_wait })
    }

    /// Sets or removes the token.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.client.set_token(token);
        self
    }

    /// With `offline`, no requests are made.
    #[must_use]
    pub fn with_offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// Chooses whether snapshots are symlinks to blobs, if the file system supports them, or else hard links or copies.
    #[must_use]
    pub fn with_symlinks(self, symlinks: bool) -> Self {
        Self { symlinks, ..self }
    }

    /// Sets the wait before the first retry of a failed request; a second by default. Each further wait, up to the
    /// fifth, is twice as long, but at most eight times as long as the first.
    #[must_use]
    pub fn with_first_wait(self, first_wait: Duration) -> Self {
        Self { first_wait, ..self }
    }

    /// The URL of the Hub.
    pub fn endpoint(&self) -> &str {
        self.client.endpoint()
    }

    /// The directory of the cache.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The token for the Hub.
    pub fn token(&self) -> Option<&str> {
        self.client.token()
    }

    /// Whether it makes no requests.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// The model in the cache, if complete, at the last known commit of the revision (a branch, tag or commit; `main`
    /// if not given). Makes no request.
    ///
    /// # Errors
    /// If the revision is malformed.
    pub fn cached(&self, name: &HubName, revision: Option<&str>) -> Result<Option<Snapshot>> {
        Ok(Self::find(&self.cache_of(name), name, &Revision::new(revision)?, Extent::Model).ok())
    }

    /// The model, or a part of it, at the newest commit of a revision (a branch, tag or commit; `main` if not given).
    /// Files that the cache lacks are downloaded. A full commit hash in the cache takes no request; and if the Hub
    /// cannot be reached, the cached model is returned.
    ///
    /// `progress` is called on this thread, several times a second whether or not bytes arrive. If it breaks, the
    /// download stops within seconds, and the next call resumes it.
    ///
    /// # Errors
    /// [`Error::Hub`] if the Hub lacks or refuses the model, or it arrives damaged; [`Error::Config`] if it is not a
    /// GPT-J or CodeGen model, which is checked before its weights are downloaded; [`Error::Stopped`] if `progress`
    /// breaks; [`Error::Write`] if files cannot be written.
    pub fn fetch(
        &self,
        name: &HubName,
        revision: Option<&str>,
        extent: Extent,
        progress: &mut dyn FnMut(&HubProgress) -> ControlFlow<()>,
    ) -> Result<Snapshot> {
        let revision = Revision::new(revision)?;
        let cache = self.cache_of(name);
        if revision.is_commit()
            && let Ok(snapshot) = Self::find(&cache, name, &revision, Extent::Model)
        {
            return Ok(snapshot);
        }
        let cached = Self::find(&cache, name, &revision, extent);
        if self.offline {
            let place = self.cache_dir.display();
            let offline = format!("it is not in {place}, and HF_HUB_OFFLINE forbids a download");
            return cached.map_err(|reason| Error::hub(name, format!("{offline}: {reason}")));
        }
        let job = Job { hub: self, name, revision, extent, cache };
        watched(progress, |transfer| job.run(transfer, cached.ok()))
    }

    fn cache_of(&self, name: &HubName) -> RepositoryCache {
        RepositoryCache::new(&self.cache_dir, name.repository(), self.symlinks)
    }

    /// The model in the cache; the error says why it is not there.
    fn find(cache: &RepositoryCache, name: &HubName, revision: &Revision, extent: Extent) -> Result<Snapshot, String> {
        let commit = cache.commit(revision).ok_or_else(|| format!("no commit of '{}' is known", revision.name()))?;
        let directory = cache.snapshot(&commit);
        let path = match name.file() {
            Some(file) => directory.join(files::named(file, &files_in(&directory))?),
            None => {
                files::check_config(&directory)?;
                if extent == Extent::Model {
                    files::check_weights(&directory)?;
                }
                directory
            }
        };
        Ok(Snapshot { path, commit, fetched: 0, unchecked: None })
    }
}

impl fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint())
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// Runs work on another thread, and calls `progress` on this one until it is done.
fn watched<T: Send>(
    progress: &mut dyn FnMut(&HubProgress) -> ControlFlow<()>,
    work: impl FnOnce(&Transfer) -> Result<T> + Send,
) -> Result<T> {
    const INTERVAL: Duration = Duration::from_millis(100);
    let (sender, receiver) = channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let transfer = Transfer::new(sender, Arc::clone(&stopped));
    std::thread::scope(|scope| {
        // The channel closes when the work is done.
        let work = scope.spawn(move || work(&transfer));
        let mut latest = HubProgress::default();
        loop {
            match receiver.recv_timeout(INTERVAL) {
                Ok(update) => latest = update,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if progress(&latest).is_break() {
                stopped.store(true, Ordering::Relaxed);
                break;
            }
        }
        work.join().expect("fetching does not panic")
    })
}

/// The files in a snapshot, by their names in the repository.
fn files_in(snapshot: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![(snapshot.to_owned(), String::new())];
    while let Some((directory, prefix)) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // A symlink counts as its target, and not at all if that is gone.
            match entry.path().metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push((entry.path(), name + "/")),
                Ok(_) => files.push(name),
                Err(_) => {}
            }
        }
    }
    files.sort();
    files
}

/// A call of [`Hub::fetch`].
struct Job<'a> {
    hub: &'a Hub,
    name: &'a HubName,
    revision: Revision,
    extent: Extent,
    cache: RepositoryCache,
}

impl Job<'_> {
    fn run(&self, transfer: &Transfer, cached: Option<Snapshot>) -> Result<Snapshot> {
        let listing = match (self.list(transfer, cached.is_some()), cached) {
            (Ok(listing), _) => listing,
            (Err(failure @ (Failure::Here(_) | Failure::NoRevision(_))), _) => return Err(self.error(failure)),
            (Err(failure), Some(cached)) => return Ok(Snapshot { unchecked: Some(self.error(failure)), ..cached }),
            (Err(failure), None) => return Err(self.error(failure)),
        };
        let snapshot = self.cache.snapshot(&listing.commit);
        let path = match self.name.file() {
            Some(file) => {
                let file = files::named(file, &listing.files).map_err(|reason| Error::hub(self.name, reason))?;
                self.fetch(transfer, &listing.commit, &[&file])?;
                snapshot.join(file)
            }
            None => {
                self.fetch_model(transfer, &listing, &snapshot)?;
                snapshot
            }
        };
        // Last, so that an incomplete commit does not replace a complete one. If nothing was downloaded, the cache may
        // be read-only.
        let set = self.cache.set_commit(&self.revision, &listing.commit);
        if transfer.has_changed_cache() {
            set?;
        }
        Ok(Snapshot { path, commit: listing.commit, fetched: transfer.arrived(), unchecked: None })
    }

    fn error(&self, failure: Failure) -> Error {
        failure.about(self.name.repository())
    }

    /// The files of the revision. If the model is cached, the Hub is asked only once.
    fn list(&self, transfer: &Transfer, is_cached: bool) -> Result<Listing, Failure> {
        let mut patience = Patience::new(transfer, self.hub.first_wait);
        loop {
            match self.hub.client.list(self.name.repository(), &self.revision) {
                Ok(listing) => return Ok(listing),
                Err(failure @ Failure::Passing(..)) if !is_cached => patience.wait_after(failure)?,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Fetches a model's files, the weights last: a snapshot that has them is complete.
    fn fetch_model(&self, transfer: &Transfer, listing: &Listing, snapshot: &Path) -> Result<()> {
        let weights = files::weights(&listing.files).map_err(|reason| Error::hub(self.name, reason))?;
        self.fetch(transfer, &listing.commit, &files::settings(&listing.files))?;
        read_config(snapshot)?;
        if self.extent == Extent::Settings || files::check_weights(snapshot).is_ok() {
            return Ok(());
        }
        match weights {
            Weights::Whole(file) => self.fetch(transfer, &listing.commit, &[file]),
            Weights::Shards(index) => {
                self.fetch(transfer, &listing.commit, &[index])?;
                let shards = shards::names(&snapshot.join(index))?;
                let shards: Vec<_> = shards.iter().map(String::as_str).collect();
                self.fetch(transfer, &listing.commit, &shards)
            }
        }
    }

    /// Fetches the files that the snapshot lacks.
    fn fetch(&self, transfer: &Transfer, commit: &str, files: &[&str]) -> Result<()> {
        let snapshot = self.cache.snapshot(commit);
        let missing: Vec<_> = files.iter().filter(|file| !snapshot.join(file).exists()).collect();
        let remote = transfer.in_parallel(&missing, |file| {
            let mut patience = Patience::new(transfer, self.hub.first_wait);
            loop {
                match self.hub.client.head(self.name.repository(), commit, file) {
                    Ok(remote) => return Ok(remote),
                    Err(failure) => patience.wait_after(failure).map_err(|failure| self.error(failure))?,
                }
            }
        })?;
        if remote.is_empty() {
            return Ok(());
        }
        self.check_room(&remote)?;
        transfer.expect(remote.iter().map(|file| file.size).sum());
        transfer.in_parallel(&remote, |file| self.fetch_file(transfer, commit, file)).map(|_| ())
    }

    /// Fails if the disk has no room for the missing bytes of some files.
    fn check_room(&self, files: &[RemoteFile]) -> Result<()> {
        let blobs = self.cache.make_blobs()?;
        let length = |path: PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
        let missing = |file: &RemoteFile| {
            if self.cache.blob(&file.etag).exists() {
                0
            } else {
                file.size.saturating_sub(length(self.cache.incomplete(&file.etag)))
            }
        };
        let needed = files.iter().fold(0u64, |sum, file| sum.saturating_add(missing(file)));
        // If the system does not report the free space, a full disk shows on writing.
        match fs4::available_space(&blobs) {
            Ok(available) if available < needed => {
                let (needed, available) = (needed as f64 / 1e9, available as f64 / 1e9);
                let reason = format!(
                    "{needed:.2} GB are to be fetched, and the disk of {} has {available:.2} GB left; make room, or \
                     name another directory with HF_HUB_CACHE",
                    blobs.display()
                );
                Err(Error::hub(self.name, reason))
            }
            _ => Ok(()),
        }
    }

    fn fetch_file(&self, transfer: &Transfer, commit: &str, file: &RemoteFile) -> Result<()> {
        let mut progress = transfer.file(&file.name, file.size);
        let lock = self.cache.lock(&file.etag, transfer)?;
        if self.cache.blob(&file.etag).exists() {
            progress.set_done(file.size)?;
        } else {
            let (client, repository) = (&self.hub.client, self.name.repository());
            let download = Download { client, cache: &self.cache, repository, commit, file };
            let mut patience = Patience::new(transfer, self.hub.first_wait);
            download.run(&mut progress, &mut patience).map_err(|failure| self.error(failure))?;
        }
        self.cache.add_to_snapshot(commit, &file.name, &file.etag)?;
        drop(lock);
        Ok(())
    }
}
