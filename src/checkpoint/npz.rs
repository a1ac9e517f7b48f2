//! npz files: zip archives of arrays, as numpy's `savez` and `savez_compressed` write them
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
//!
//! An array that is stored is read where it lies in the file. One that is deflated is inflated when it is first looked
//! at, and forgotten when its end is released.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zip::CompressionMethod;

use super::archive::{self, Archive, Entry};
use super::file::MappedFile;
use super::numbers::{Dense, NumberFormat, Numbers};
use crate::error::{Error, Result};

/// An npz file of which all that is not numbers has been read and found sound.
pub(super) struct NpzFile {
    file: MappedFile,
    arrays: Vec<Array>,
}

/// An array of an npz file.
pub(super) struct Array {
    /// Its name in the archive.
    pub(super) name: String,
    /// Its sizes, outermost first.
    pub(super) shape: Vec<usize>,
    kind: Kind,
    place: Place,
}

/// What an array's elements are.
enum Kind {
    Numbers(NumberFormat),
    /// Something else, in numpy's spelling.
    Other(String),
}

/// Where the elements are.
enum Place {
    Stored(Range<usize>),
    /// In the archive's entry of this index, behind so many bytes of header.
    Deflated {
        index: usize,
        header: usize,
        bytes: usize,
    },
}

impl NpzFile {
    /// Maps a file and reads what its archive and its arrays say of themselves.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let refuse = |reason: String| Error::checkpoint(path, format!("not a sound npz file: {reason}"));
        let mut archive = archive::open(file.bytes()).map_err(refuse)?;
        let entries = archive::entries(&mut archive).map_err(refuse)?;
        let read = |(index, entry)| array(&mut archive, file.bytes(), index, entry);
        let arrays = entries.into_iter().enumerate().map(read).collect::<Result<_, _>>().map_err(refuse)?;
        Ok(Self { file, arrays })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its arrays, in the order of the archive.
    pub(super) fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// The numbers of an array, or the kind of elements that it has instead.
    pub(super) fn numbers(&self, index: usize) -> Result<Box<dyn Numbers + '_>, &str> {
        let array = &self.arrays[index];
        let format = match &array.kind {
            Kind::Numbers(format) => *format,
            Kind::Other(kind) => return Err(kind),
        };
        Ok(match &array.place {
            Place::Stored(range) => Box::new(Dense { file: &self.file, format, range: range.clone() }),
            Place::Deflated { index, header, bytes } => {
                let place = (*index, *header, *bytes);
                Box::new(Deflated { file: &self.file, place, format, inflated: Mutex::default() })
            }
        })
    }
}

/// Reads the header of an array of the archive that these bytes are.
fn array(archive: &mut Archive<'_>, bytes: &[u8], index: usize, entry: Entry) -> Result<Array, String> {
    let Entry { name, method, place, size } = entry;
    let name = name.trim_end_matches(".npy").to_owned();
    let of_it = |reason: String| format!("{}: {reason}", name.escape_debug());
    let (kind, shape, place) = match method {
        CompressionMethod::Stored => {
            let mut rest = &bytes[place.clone()];
            let (kind, shape) = header(&mut rest, place.len()).map_err(of_it)?;
            (kind, shape, Place::Stored(place.end - rest.len()..place.end))
        }
        CompressionMethod::Deflated => {
            let reader = archive.by_index(index).map_err(|error| of_it(error.to_string()))?;
            let mut entry = Counted { reader, read: 0 };
            let (kind, shape) = header(&mut entry, size).map_err(of_it)?;
            let header = entry.read;
            (kind, shape, Place::Deflated { index, header, bytes: size.saturating_sub(header) })
        }
        other => return Err(of_it(format!("it is compressed by {other}; save the arrays with numpy.savez"))),
    };
    Ok(Array { name, shape, kind, place })
}

/// A reader that knows how far it is.
struct Counted<R> {
    reader: R,
    read: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

/// What numpy itself allows a header.
const LONGEST_HEADER: usize = 1 << 16;
/// What a kind of elements is called in messages, in characters at most.
const LONGEST_KIND: usize = 64;
/// Parameters have two at most.
const MOST_DIMENSIONS: usize = 8;

/// Reads an array's header up to its numbers: their kind and the array's shape, which fill the rest of `size` bytes.
fn header(npy: &mut impl Read, size: usize) -> Result<(Kind, Vec<usize>), String> {
    fn bytes<const N: usize>(npy: &mut impl Read) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        npy.read_exact(&mut bytes).map_err(|_| "it ends within its header, or is damaged".to_owned())?;
        Ok(bytes)
    }
    if bytes(npy)? != *b"\x93NUMPY" {
        return Err("it is no numpy array".to_owned());
    }
    let (length, before) = match bytes(npy)? {
        [1, _] => (usize::from(u16::from_le_bytes(bytes(npy)?)), 10),
        [2 | 3, _] => (u32::from_le_bytes(bytes(npy)?) as usize, 12),
        [version, _] => return Err(format!("version {version} of numpy's format is not known")),
    };
    if length > LONGEST_HEADER {
        return Err(format!("a header of {length} bytes is damaged"));
    }
    let mut text = vec![0; length];
    npy.read_exact(&mut text).map_err(|_| "it ends within its header, or is damaged".to_owned())?;
    let (descr, shape) =
        std::str::from_utf8(&text).ok().and_then(parse).ok_or("its header is damaged, or in Fortran order")?;
    if shape.len() > MOST_DIMENSIONS {
        return Err(format!("an array of {} dimensions is damaged", shape.len()));
    }
    let format = match descr {
        // How numpy, which has no bfloat16, writes jax's.
        "|V2" | "<V2" => NumberFormat::BF16,
        "<f2" => NumberFormat::F16,
        "<f4" => NumberFormat::F32,
        _ => return Ok((Kind::Other(descr.chars().take(LONGEST_KIND).collect()), shape)),
    };
    let bytes = shape.iter().try_fold(format.bytes(), |bytes, &size| bytes.checked_mul(size));
    if bytes.and_then(|bytes| bytes.checked_add(before + length)) != Some(size) {
        return Err(format!("its shape, {shape:?}, and its {size} bytes disagree"));
    }
    Ok((Kind::Numbers(format), shape))
}

/// The kind of elements and the shape in a header, which is a Python dictionary:
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(header: &str) -> Option<(&str, Vec<usize>)> {
    let value = |key: &str| Some(header.split_once(key)?.1.trim_start());
    let (descr, _) = value("'descr':")?.strip_prefix('\'')?.split_once('\'')?;
    if !value("'fortran_order':")?.starts_with("False") {
        return None;
    }
    let (shape, _) = value("'shape':")?.strip_prefix('(')?.split_once(')')?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    Some((descr, sizes.map(str::parse).collect::<Result<_, _>>().ok()?))
}

/// The numbers of a deflated array.
struct Deflated<'a> {
    file: &'a MappedFile,
    /// As in [`Place::Deflated`].
    place: (usize, usize, usize),
    format: NumberFormat,
    /// The bytes, once they have been looked at; none where they are damaged.
    inflated: Mutex<Option<Vec<u8>>>,
}

impl Deflated<'_> {
    fn inflated(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.inflated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empty where the file is damaged.
    fn inflate(&self) -> Vec<u8> {
        let (index, header, bytes) = self.place;
        let read = || -> Option<Vec<u8>> {
            let mut archive = archive::open(self.file.bytes()).ok()?;
            let mut inflated = Vec::new();
            // One byte more shows whether there are too many.
            archive.by_index(index).ok()?.take((header + bytes) as u64 + 1).read_to_end(&mut inflated).ok()?;
            (inflated.len() == header + bytes).then(|| inflated.split_off(header))
        };
        read().unwrap_or_default()
    }
}

impl Numbers for Deflated<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let mut inflated = self.inflated();
        let bytes = inflated.get_or_insert_with(|| self.inflate());
        let range = start * self.format.bytes()..(start + numbers.len()) * self.format.bytes();
        match bytes.get(range) {
            Some(bytes) => self.format.decode(bytes, numbers),
            // They are refused where they are used, with the tensor's name.
            None => numbers.fill(f32::NAN),
        }
    }

    fn format(&self) -> Option<NumberFormat> {
        Some(self.format)
    }

    fn stored_bytes(&self) -> usize {
        self.place.2
    }

    fn release(&self, range: Range<usize>) {
        if range.end * self.format.bytes() == self.place.2 {
            self.inflated().take();
        }
    }
}
