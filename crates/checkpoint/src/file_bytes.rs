//! The bytes of a file. It is memory-mapped, so that pages are loaded on first access and can be released once they
//! have been copied to a GPU; or it is in memory already.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file.
pub(crate) struct FileBytes {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Mapped(Mmap),
    Memory(Cow<'static, [u8]>),
}

impl FileBytes {
    /// Maps a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::read(path, error))?;
        // SAFETY: the map is read-only. If another program shortens the file meanwhile, the system ends this one; no
        // way of mapping a file excludes that, and the alternative is a second copy in memory.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::read(path, error))?;
        Ok(Self { path: path.to_owned(), bytes: Bytes::Mapped(map) })
    }

    /// Bytes in memory; `path` is used in messages.
    pub(crate) fn from_memory(path: &Path, bytes: Cow<'static, [u8]>) -> Self {
        Self { path: path.to_owned(), bytes: Bytes::Memory(bytes) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }

    /// Tells the system that these bytes are not needed any more, so that it can reclaim their pages.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            assert!(range.end <= map.len(), "the bytes are in the file");
            let (offset, length) = (range.start, range.len());
            // SAFETY: the range lies within the map; the map is read-only and backed by a file, so a dropped page that
            // is accessed again is read again. If the advice is refused, that costs only memory.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
