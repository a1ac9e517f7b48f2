//! Zip archives, as PyTorch and numpy write them: their entries, and where these are in the file.

use std::io::Cursor;
use std::ops::Range;

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

/// An archive over the bytes of a mapped file.
pub(crate) type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// An entry of an archive.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) method: CompressionMethod,
    /// Its bytes in the file, still packed.
    pub(crate) range: Range<usize>,
    /// The number of its bytes, unpacked.
    #[cfg_attr(not(feature = "mesh-jax"), expect(dead_code, reason = "only numpy compresses entries"))]
    pub(crate) size: usize,
}

/// Opens an archive that begins where the bytes do.
pub(crate) fn open(bytes: &[u8]) -> Result<Archive<'_>, String> {
    Archive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, Cursor::new(bytes))
        .map_err(|error| format!("the archive's directory cannot be read, so it may have been cut off: {error}"))
}

/// All entries of an archive, in its order. They do not overlap, their names differ, and their headers agree with the
/// archive's directory.
pub(crate) fn entries(archive: &mut Archive<'_>) -> Result<Vec<Entry>, String> {
    archive.validate_header_consistency().map_err(|error| format!("the archive contradicts itself: {error}"))?;
    (0..archive.len()).map(|index| entry(archive, index)).collect()
}

fn entry(archive: &mut Archive<'_>, index: usize) -> Result<Entry, String> {
    let damaged = |error: String| format!("the archive's entry {index} is damaged: {error}");
    let entry = archive.by_index_raw(index).map_err(|error| damaged(error.to_string()))?;
    let name = entry.name().map_err(|error| damaged(error.to_string()))?.into_owned();
    if entry.encrypted() {
        return Err(format!("the archive's entry {} is encrypted", name.escape_debug()));
    }
    // The entry is known to end before the directory, but on a 32-bit machine its size may not fit `usize`.
    let size = |size: u64| usize::try_from(size).map_err(|error| damaged(error.to_string()));
    let start = size(entry.data_start().ok_or_else(|| damaged("its start is unknown".to_owned()))?)?;
    let range = start..start + size(entry.compressed_size())?;
    Ok(Entry { method: entry.compression(), size: size(entry.size())?, name, range })
}
