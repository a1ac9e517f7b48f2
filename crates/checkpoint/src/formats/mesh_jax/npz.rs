//! npz files: zip archives of arrays, as numpy's `savez` and `savez_compressed` write them
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
//!
//! A stored array is read in place from the mapped file. A deflated one is inflated on first access, and freed when its
//! end is released.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zip::CompressionMethod;

use crate::elements::{Dense, Dtype, Elements};
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
use crate::formats::archive::{self, Archive, Entry};

/// An npz file whose directory and array headers have been read and checked.
pub(super) struct NpzFile {
    file: FileBytes,
    arrays: Vec<Array>,
}

/// An array of an npz file.
pub(super) struct Array {
    /// Its name in the archive.
    pub(super) name: String,
    /// Its sizes, outermost first.
    pub(super) shape: Vec<usize>,
    element_type: ElementType,
    place: Place,
}

/// The type of an array's elements.
enum ElementType {
    Number(Dtype),
    /// One that is not read, in numpy's spelling.
    Other(String),
}

/// The place of the elements.
enum Place {
    Stored(Range<usize>),
    /// In the archive's entry of this index, after `header` bytes.
    Deflated {
        index: usize,
        header: usize,
        bytes: usize,
    },
}

impl NpzFile {
    /// Maps a file and reads its archive's directory and its arrays' headers.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = FileBytes::open(path)?;
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

    /// Its arrays, in the archive's order.
    pub(super) fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// The elements of an array; the error is the type of elements that are not numbers.
    pub(super) fn elements(&self, index: usize) -> Result<Box<dyn Elements + '_>, &str> {
        let array = &self.arrays[index];
        let dtype = match &array.element_type {
            ElementType::Number(dtype) => *dtype,
            ElementType::Other(name) => return Err(name),
        };
        Ok(match &array.place {
            Place::Stored(range) => Box::new(Dense { file: &self.file, dtype, range: range.clone() }),
            Place::Deflated { index, header, bytes } => {
                let place = (*index, *header, *bytes);
                Box::new(Deflated { file: &self.file, place, dtype, inflated: Mutex::default() })
            }
        })
    }
}

/// Reads the header of an array; `bytes` are the whole archive.
fn array(archive: &mut Archive<'_>, bytes: &[u8], index: usize, entry: Entry) -> Result<Array, String> {
    let Entry { name, method, range, size } = entry;
    let name = name.trim_end_matches(".npy").to_owned();
    let of_it = |reason: String| format!("{}: {reason}", name.escape_debug());
    let (element_type, shape, place) = match method {
        CompressionMethod::Stored => {
            let mut rest = &bytes[range.clone()];
            let (element_type, shape) = header(&mut rest, range.len()).map_err(of_it)?;
            (element_type, shape, Place::Stored(range.end - rest.len()..range.end))
        }
        CompressionMethod::Deflated => {
            let reader = archive.by_index(index).map_err(|error| of_it(error.to_string()))?;
            let mut entry = Counted { reader, read: 0 };
            let (element_type, shape) = header(&mut entry, size).map_err(of_it)?;
            let header = entry.read;
            (element_type, shape, Place::Deflated { index, header, bytes: size.saturating_sub(header) })
        }
        other => return Err(of_it(format!("it is compressed by {other}; save the arrays with numpy.savez"))),
    };
    Ok(Array { name, shape, element_type, place })
}

/// A reader that counts the bytes read.
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

/// The longest header, in bytes, that numpy itself reads.
const LONGEST_HEADER: usize = 1 << 16;
/// The most characters of an unknown element type in messages.
const LONGEST_TYPE: usize = 64;
/// GPT-J's parameters have at most two.
const MOST_DIMENSIONS: usize = 8;

/// Reads an array's header: the elements' type and the shape, which must agree with the array's `size` in bytes.
fn header(npy: &mut impl Read, size: usize) -> Result<(ElementType, Vec<usize>), String> {
    fn bytes<const N: usize>(npy: &mut impl Read) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        npy.read_exact(&mut bytes).map_err(|_| "it ends within its header, or is damaged".to_owned())?;
        Ok(bytes)
    }
    if bytes(npy)? != *b"\x93NUMPY" {
        return Err("it is not a numpy array".to_owned());
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
    let dtype = match descr {
        // bfloat16, a type that numpy lacks, as jax saves it.
        "|V2" | "<V2" => Dtype::BF16,
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        _ => return Ok((ElementType::Other(descr.chars().take(LONGEST_TYPE).collect()), shape)),
    };
    let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, &size| bytes.checked_mul(size));
    if bytes.and_then(|bytes| bytes.checked_add(before + length)) != Some(size) {
        return Err(format!("its shape, {shape:?}, and its {size} bytes disagree"));
    }
    Ok((ElementType::Number(dtype), shape))
}

/// The element type and the shape in a header, which is a Python dictionary:
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
    file: &'a FileBytes,
    /// As in [`Place::Deflated`].
    place: (usize, usize, usize),
    dtype: Dtype,
    /// The bytes after the first access; empty if the file is damaged.
    inflated: Mutex<Option<Vec<u8>>>,
}

impl Deflated<'_> {
    fn inflated(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.inflated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empty if the file is damaged.
    fn inflate(&self) -> Vec<u8> {
        let (index, header, bytes) = self.place;
        let read = || -> Option<Vec<u8>> {
            let mut archive = archive::open(self.file.bytes()).ok()?;
            let mut inflated = Vec::new();
            // Reads one byte more, to notice a longer array.
            archive.by_index(index).ok()?.take((header + bytes) as u64 + 1).read_to_end(&mut inflated).ok()?;
            (inflated.len() == header + bytes).then(|| inflated.split_off(header))
        };
        read().unwrap_or_default()
    }
}

impl Elements for Deflated<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let mut inflated = self.inflated();
        let bytes = inflated.get_or_insert_with(|| self.inflate());
        let range = start * self.dtype.bytes()..(start + numbers.len()) * self.dtype.bytes();
        match bytes.get(range) {
            Some(bytes) => self.dtype.decode(bytes, numbers),
            // The user of the numbers refuses NaN, with the tensor's name.
            None => numbers.fill(f32::NAN),
        }
    }

    fn format(&self) -> Option<Dtype> {
        Some(self.dtype)
    }

    fn stored_bytes(&self) -> usize {
        self.place.2
    }

    fn release(&self, range: Range<usize>) {
        if range.end * self.dtype.bytes() == self.place.2 {
            self.inflated().take();
        }
    }
}
