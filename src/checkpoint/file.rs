//! A file that is mapped and not read: its pages come when they are looked at and can go once they are on the GPU.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file.
pub(super) struct MappedFile {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
}

impl MappedFile {
    /// Maps a file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::read(path, error))?;
        // SAFETY: the map is read-only. Should another program shorten the file meanwhile, the system ends this one;
        // there is no way to map a file that excludes it, and the alternative is a second copy in memory.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::read(path, error))?;
        Ok(Self { path: path.to_owned(), bytes: Bytes::Mapped(map) })
    }

    /// What is in memory already; `path` is what messages call it.
    pub(super) fn from_static(path: &Path, bytes: &'static [u8]) -> Self {
        Self { path: path.to_owned(), bytes: Bytes::Static(bytes) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Static(bytes) => bytes,
        }
    }

    /// Tells the system that these bytes are not needed any more, so that their pages stop counting as ours.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            assert!(range.end <= map.len(), "bytes are those of the file");
            let (offset, length) = (range.start, range.len());
            // SAFETY: the range lies within the map; the map is read-only and backed by a file, so that a dropped page
            // that is needed after all is read again. The advice may be refused, which costs memory and nothing else.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
