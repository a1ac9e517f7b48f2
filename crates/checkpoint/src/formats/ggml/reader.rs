//! A bounds-checked reader for the untrusted bytes of a file's header.

use std::fmt::Display;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;

/// Reads one item after another; at the end of the file, the error names the missing item.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a FileBytes) -> Self {
        Self { path: file.path(), bytes: file.bytes(), at: 0 }
    }

    /// A reader of bytes that were taken before.
    pub(super) fn within(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, at: 0 }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Bytes taken so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not yet taken.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes taken from `start` on.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(super) fn take(&mut self, count: u64, what: impl Display) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or_else(|| {
            self.refuse(format!("the file ends within {what}; it was cut off, or is damaged before its end"))
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    /// Skips to the next multiple of `alignment`.
    pub(super) fn align(&mut self, alignment: u64, what: impl Display) -> Result<()> {
        let padding = (self.at as u64).next_multiple_of(alignment) - self.at as u64;
        self.take(padding, what).map(|_| ())
    }

    pub(super) fn u32(&mut self, what: impl Display) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: impl Display) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self, what: impl Display) -> Result<[u8; N]> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("N bytes were taken"))
    }

    /// A GGUF string: its length in eight bytes, then its bytes.
    pub(super) fn string(&mut self, what: impl Display) -> Result<&'a [u8]> {
        let length = self.u64(&what)?;
        self.take(length, what)
    }

    /// Bytes that were taken, as UTF-8.
    pub(super) fn text(&self, bytes: &'a [u8], what: impl Display) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| self.refuse(format!("{what} is not UTF-8; the file is damaged")))
    }

    pub(super) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::checkpoint(self.path, reason)
    }
}
