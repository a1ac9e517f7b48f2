//! Small files that outlive the process: what took long to find out about a GPU.
//!
//! They lie in a directory that the user of the library names, each under a name that says which adapter and driver it
//! is for. A file is replaced whole, so processes that share the directory never see a part of one; the last to write
//! wins. What is missing, unreadable or meant for another adapter counts as never written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AdapterInfo, Gpu};
use crate::error::{Error, Result};

/// The directory, as one adapter with its driver sees it.
pub(super) struct CacheDir {
    path: PathBuf,
    owner: u64,
}

impl CacheDir {
    /// Touches no file yet.
    pub(super) fn new(path: &Path, info: &AdapterInfo) -> Self {
        // `info` shows whatever another driver, or another version of it, would say differently.
        Self { path: path.to_owned(), owner: checksum(0, info.to_string().as_bytes()) }
    }

    /// A number that stands for the adapter with its driver.
    pub(super) fn owner(&self) -> u64 {
        self.owner
    }

    /// The path of a file.
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path.join(format!("{name}-{:016x}.{extension}", self.owner))
    }

    /// The file's contents where it can be read and is not larger than `limit`.
    pub(super) fn read(&self, name: &str, extension: &str, limit: u64) -> Option<Vec<u8>> {
        let path = self.file(name, extension);
        (fs::metadata(&path).ok()?.len() <= limit).then(|| fs::read(path).ok())?
    }

    /// Replaces the file, and creates the directory where there is none.
    pub(super) fn write(&self, name: &str, extension: &str, parts: &[&[u8]]) -> Result<()> {
        let path = self.file(name, extension);
        let replace = || {
            fs::create_dir_all(&self.path)?;
            // It removes itself where a later step fails.
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.persist(&path).map_err(|error| error.error)
        };
        replace().map(drop).map_err(|reason| Error::Write { path: path.clone(), reason })
    }
}

/// FNV-1a over `bytes`, begun with `seed`: it tells apart what accidents do to a file, not what malice does.
pub(super) fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325 ^ seed, mix)
}

/// More than any table takes.
const JSON_LIMIT: u64 = 1 << 20;

impl Gpu {
    /// What [`Gpu::write_json`] last wrote under this name in [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir)
    /// for the same adapter and driver; `None` where there is nothing of that form.
    #[doc(hidden)]
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = self.cache_dir()?.read(name, "json", JSON_LIMIT)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps `value` for later processes that open the same adapter with the same driver; does nothing where there is
    /// no [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir). `name` is part of a file's name. What else the value
    /// depends on, the kernels' version for one, belongs into it.
    ///
    /// # Errors
    /// [`Error::Write`] where the file cannot be written.
    ///
    /// # Panics
    /// Where `T` does not go into JSON, as a map whose keys are no strings.
    #[doc(hidden)]
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let Some(directory) = self.cache_dir() else { return Ok(()) };
        let json = serde_json::to_vec_pretty(value).expect("the engine's tables go into JSON");
        directory.write(name, "json", &[&json])
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
                let [first, second] = [whole(letter)[..1].to_vec(), whole(letter)[1..].to_vec()];
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
