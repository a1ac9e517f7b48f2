//! Small files that outlive the process: data about a GPU that took long to compute.
//!
//! They lie in a directory that the user of the library names. A file's name identifies its adapter and driver. A file
//! is replaced whole, so processes that share the directory never see a part of one; the last to write wins. A missing
//! or unreadable file, or another adapter's, counts as never written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::AdapterInfo;
use crate::error::{Error, Result};

/// The directory, for one adapter with its driver.
pub(crate) struct CacheDir {
    path: PathBuf,
    owner: u64,
}

impl CacheDir {
    /// Touches no file.
    pub(crate) fn new(path: &Path, info: &AdapterInfo) -> Self {
        // The text of `info` differs if the driver or its version does.
        Self { path: path.to_owned(), owner: xxh3_64(info.to_string().as_bytes()) }
    }

    /// A hash of the adapter with its driver.
    pub(crate) fn owner(&self) -> u64 {
        self.owner
    }

    /// The path of a file.
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path.join(format!("{name}-{:016x}.{extension}", self.owner))
    }

    /// The file's contents, if it can be read and is not larger than `limit`.
    pub(crate) fn read(&self, name: &str, extension: &str, limit: u64) -> Option<Vec<u8>> {
        let path = self.file(name, extension);
        (fs::metadata(&path).ok()?.len() <= limit).then(|| fs::read(path).ok())?
    }

    /// Replaces the file, and creates the directory if it does not exist.
    pub(crate) fn write(&self, name: &str, extension: &str, parts: &[&[u8]]) -> Result<()> {
        let path = self.file(name, extension);
        let replace = || {
            fs::create_dir_all(&self.path)?;
            // It removes itself if a later step fails.
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.persist(&path).map_err(|error| error.error)
        };
        replace().map(drop).map_err(|error| Error::write(&path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_files_while_several_write() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let cache_dir = CacheDir { path: directory.path().to_owned(), owner: 1 };
        let whole = |letter: u8| vec![letter; 100_000];
        cache_dir.write("name", "bin", &[&whole(b'a')]).expect("room for a small file");
        std::thread::scope(|scope| {
            for letter in *b"abc" {
                let first = whole(letter)[..1].to_vec();
                let second = whole(letter)[1..].to_vec();
                let cache_dir = &cache_dir;
                scope.spawn(move || {
                    for _ in 0..50 {
                        cache_dir.write("name", "bin", &[&first, &second]).expect("room for a small file");
                        let read = cache_dir.read("name", "bin", u64::MAX).expect("there is always one");
                        assert!(b"abc".iter().any(|&letter| read == whole(letter)), "it is one writer's alone");
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(directory.path()).expect("the directory is there").count(), 1, "nothing is left over");
        assert_eq!(cache_dir.read("name", "bin", 99_999), None, "larger than allowed");
    }
}
