//! Hugging Face's cache of a repository, in the layout that huggingface_hub reads and writes.
//!
//! ```text
//! models--ORG--NAME/
//!   blobs/ETAG              a file's contents, complete and verified
//!   blobs/ETAG.incomplete   the part downloaded so far
//!   refs/REVISION           the commit of a branch or tag
//!   snapshots/COMMIT/FILE   a relative symlink to a blob
//! .locks/models--ORG--NAME/ETAG.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name::is_relative;
use super::transfer::Transfer;
use crate::error::{Error, Result};
use crate::message::shown;

/// A branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revision(String);

impl Revision {
    pub(super) fn new(revision: Option<&str>) -> Result<Self> {
        let revision = revision.unwrap_or("main");
        let wrong = || Error::option("revision", format!("'{}' is not a branch, tag or commit", shown(revision)));
        is_relative(revision).then(|| Self(revision.to_owned())).ok_or_else(wrong)
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is a commit's full hash, whose files never change.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

pub(super) struct RepositoryCache {
    directory: PathBuf,
    locks: PathBuf,
    /// Whether snapshots are symlinks to blobs, if the file system supports them.
    symlinks: bool,
}

impl RepositoryCache {
    pub(super) fn new(cache_dir: &Path, repository: &str, symlinks: bool) -> Self {
        let folder = format!("models--{}", repository.replace('/', "--"));
        Self { directory: cache_dir.join(&folder), locks: cache_dir.join(".locks").join(&folder), symlinks }
    }

    /// The commit of a revision when it was last fetched.
    pub(super) fn commit(&self, revision: &Revision) -> Option<String> {
        if revision.is_commit() {
            return Some(revision.name().to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision)).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    fn reference(&self, revision: &Revision) -> PathBuf {
        self.directory.join("refs").join(revision.name())
    }

    /// Stores the commit of a branch or tag.
    pub(super) fn set_commit(&self, revision: &Revision, commit: &str) -> Result<()> {
        if revision.is_commit() || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        let directory = path.parent().expect("it is in refs");
        let replaced = fs::create_dir_all(directory).and_then(|()| {
            let aside = aside(&path);
            fs::write(&aside, commit)?;
            fs::rename(&aside, &path)
        });
        replaced.map_err(|error| Error::write(&path, error))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.directory.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.directory.join("blobs").join(etag)
    }

    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.directory.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Makes the directory of the blobs and returns it.
    pub(super) fn make_blobs(&self) -> Result<PathBuf> {
        let blobs = self.directory.join("blobs");
        fs::create_dir_all(&blobs).map_err(|error| Error::write(&blobs, error))?;
        Ok(blobs)
    }

    /// Waits until no other process downloads this blob. The lock, huggingface_hub's own, is released when the returned
    /// file is dropped. On a file system without locks this does not wait, which costs at most a second download: both
    /// write the same bytes to the same places, and the hash shows errors.
    pub(super) fn lock(&self, etag: &str, transfer: &Transfer) -> Result<File> {
        const INTERVAL: Duration = Duration::from_millis(100);
        let path = self.locks.join(format!("{etag}.lock"));
        let opened = fs::create_dir_all(&self.locks)
            .and_then(|()| File::options().write(true).create(true).truncate(false).open(&path));
        let file = opened.map_err(|error| Error::write(&path, error))?;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            transfer.wait(INTERVAL)?;
        }
        Ok(file)
    }

    /// Puts a blob into a snapshot: as a relative symlink, or else as a hard link, or else as a copy.
    pub(super) fn add_to_snapshot(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(file);
        let directory = path.parent().expect("it is in a snapshot");
        let failed = |error| Error::write(&path, error);
        fs::create_dir_all(directory).map_err(failed)?;
        // From the file's directory up to the repository's.
        let up = "../".repeat(2 + file.matches('/').count());
        let blob = self.blob(etag);
        let aside = aside(&path);
        // Left by a killed process with the same id.
        _ = fs::remove_file(&aside);
        let link = if self.symlinks {
            symlink(&format!("{up}blobs/{etag}"), &aside)
        } else {
            Err(ErrorKind::Unsupported.into())
        };
        let made = link.or_else(|_| fs::hard_link(&blob, &aside)).or_else(|_| fs::copy(&blob, &aside).map(|_| ()));
        // Replaces a link to a blob that is gone, or the same link from another process.
        made.and_then(|()| fs::rename(&aside, &path)).map_err(failed)
    }
}

/// A temporary name beside a file, unique to this thread and process.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().expect("it names a file").to_owned();
    name.push(format!(".{}-{:?}.tmp", std::process::id(), std::thread::current().id()).replace(['(', ')'], ""));
    path.with_file_name(name)
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
