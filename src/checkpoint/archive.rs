//! Zip archives, as PyTorch and numpy write them: which entries there are, and where in the file.

use std::io::Cursor;
use std::ops::Range;

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

/// An archive over the bytes of a mapped file.
pub(super) type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// An entry of an archive.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) method: CompressionMethod,
    /// Where its bytes are in the file, as they are packed.
    pub(super) place: Range<usize>,
    /// How many bytes they are unpacked.
    pub(super) size: usize,
}

/// Opens an archive that begins where the bytes do.
pub(super) fn open(bytes: &[u8]) -> Result<Archive<'_>, String> {
    Archive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, Cursor::new(bytes))
        .map_err(|error| format!("the archive's directory cannot be read, so it may have been cut off: {error}"))
}

/// All entries of an archive, in its order. They do not overlap, each has a name of its own, and what its own header
/// says is what the directory says.
pub(super) fn entries(archive: &mut Archive<'_>) -> Result<Vec<Entry>, String> {
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
    // That it ends before the directory is known by now; on a machine with 32 bits, not that its size fits one.
    let size = |size: u64| usize::try_from(size).map_err(|error| damaged(error.to_string()));
    let start = size(entry.data_start().ok_or_else(|| damaged("it has no place".to_owned()))?)?;
    let place = start..start + size(entry.compressed_size())?;
    Ok(Entry { method: entry.compression(), size: size(entry.size())?, name, place })
}
