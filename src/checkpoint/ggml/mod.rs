//! Files of GGML's kind, each a whole model: GGUF (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), and
//! the formats before it.
//!
//! They are known by the four bytes that they begin with, whatever their names are.

mod blocks;
mod gguf;
mod legacy;
mod metadata;
mod reader;

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub(crate) use gguf::{TokenKind, Vocabulary, vocabulary};

use super::Source;
use super::file::MappedFile;
use super::numbers::{Dense, TensorView};
use crate::config::Config;
use crate::error::{Error, Result};
use blocks::{BLOCK, Blocks, ElementType, LOADABLE};
use reader::Reader;

/// A file whose header has been read and found sound.
pub(super) struct GgmlFile {
    file: MappedFile,
    tensors: Tensors,
}

/// What a file says of the model.
struct Header {
    config: Config,
    tensors: Tensors,
}

/// Where a tensor lies and what it is.
struct Tensor {
    /// As the file has it.
    name: String,
    /// Outermost first.
    shape: Vec<usize>,
    element_type: ElementType,
    /// Its bytes in the file; empty where the type is not known.
    range: Range<usize>,
}

/// A file's tensors under the names that Hugging Face has for them.
#[derive(Default)]
struct Tensors(BTreeMap<String, Tensor>);

/// More than any model has.
const ABSURD_TENSORS: usize = 1 << 16;

impl Tensors {
    fn insert(&mut self, path: &Path, name: String, tensor: Tensor) -> Result<()> {
        if self.len() == ABSURD_TENSORS {
            return Err(Error::checkpoint(path, format!("more than {ABSURD_TENSORS} tensors; the file is damaged")));
        }
        match self.0.insert(name, tensor) {
            None => Ok(()),
            Some(other) => Err(Error::tensor(&other.name, path, "it is in the file twice; the file is damaged")),
        }
    }

    fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The shape and the bytes of a tensor with these sizes, innermost first; bytes that are not known are `None`.
fn size(path: &Path, name: &str, dims: &[u64], element_type: ElementType) -> Result<(Vec<usize>, Option<u64>)> {
    let too_large = || Error::tensor(name, path, format!("its sizes are {dims:?}; the file is damaged"));
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim)).ok_or_else(too_large)?;
    let shape = dims.iter().rev().map(|&dim| usize::try_from(dim));
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(|_| too_large())?;
    let width = dims.first().copied().unwrap_or(1);
    match (element_type.tensor_bytes(width, elements), element_type) {
        (Some(bytes), _) => Ok((shape, Some(bytes))),
        (None, ElementType::Other(_)) => Ok((shape, None)),
        (None, ElementType::Blocks(_)) if !width.is_multiple_of(BLOCK as u64) => {
            let reason = format!("its rows of {width} numbers are no whole blocks of {BLOCK}; the file is damaged");
            Err(Error::tensor(name, path, reason))
        }
        (None, _) => Err(too_large()),
    }
}

/// Which format a file is of.
#[derive(Clone, Copy)]
enum Format {
    Gguf,
    Ggml,
    Ggjt,
}

impl Format {
    /// Bytes that tell.
    const MAGIC: usize = 4;

    fn of(magic: &[u8]) -> Option<Self> {
        match magic {
            b"GGUF" => Some(Self::Gguf),
            // Numbers whose letters are in order, stored lowest byte first.
            b"lmgg" => Some(Self::Ggml),
            b"tjgg" => Some(Self::Ggjt),
            _ => None,
        }
    }

    fn of_file(path: &Path) -> std::io::Result<Option<Self>> {
        let mut magic = Vec::with_capacity(Self::MAGIC);
        std::fs::File::open(path)?.take(Self::MAGIC as u64).read_to_end(&mut magic)?;
        Ok(Self::of(&magic))
    }
}

/// Whether a file is of one of these formats.
pub(super) fn is_one(path: &Path) -> bool {
    matches!(Format::of_file(path), Ok(Some(_)))
}

/// The file of one of these formats that `path` is, or the only one that is in it where it is a directory. `None` where
/// there is none.
///
/// # Errors
/// Where `path` is a file of another format, or a directory with several of them.
pub(super) fn find(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        let format = Format::of_file(path).map_err(|error| Error::read(path, error))?;
        let reason = "neither a model directory nor a GGUF or GGML file, which begins with GGUF, lmgg or tjgg; a \
                      Hugging Face model is named by its directory";
        return if format.is_some() { Ok(Some(path.to_owned())) } else { Err(Error::checkpoint(path, reason)) };
    }
    // What cannot be read is for others to complain about: they know what must be there.
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(None) };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
    let mut files: Vec<PathBuf> = files.filter(|path| is_one(path)).collect();
    files.sort();
    match files.as_slice() {
        [] | [_] => Ok(files.pop()),
        [first, second, ..] => {
            let names = [first, second].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
            let [first, second] = names;
            let reason = format!(
                "{} GGUF or GGML files are in this directory, {first} and {second} among them; name one of them instead",
                files.len()
            );
            Err(Error::checkpoint(path, reason))
        }
    }
}

/// Opens a file that [`find`] has found.
pub(super) fn open(path: &Path) -> Result<(Config, GgmlFile)> {
    let file = MappedFile::open(path)?;
    let Header { config, tensors } = {
        let mut reader = Reader::new(&file);
        match Format::of(reader.take(Format::MAGIC as u64, "its first four bytes")?) {
            Some(Format::Gguf) => gguf::read(&mut reader)?,
            Some(Format::Ggml) => legacy::read(&mut reader, false)?,
            Some(Format::Ggjt) => legacy::read(&mut reader, true)?,
            None => return Err(Error::checkpoint(path, "it changed while it was opened")),
        }
    };
    Ok((config, GgmlFile { file, tensors }))
}

/// The end of GPT-J's texts, in a vocabulary that has it.
fn end_of_text(vocab_size: usize) -> Vec<u32> {
    let ids = Config::default().eos_token_ids;
    ids.into_iter().filter(|&id| (id as usize) < vocab_size).collect()
}

impl Source for GgmlFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.0.keys().cloned().collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.get(name).is_some()
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let tensor = self.tensors.get(name).expect("callers ask for tensors that the file contains");
        let Tensor { name, shape, element_type, range } = tensor;
        let (file, range) = (&self.file, range.clone());
        match *element_type {
            ElementType::Dense(format) => Ok(TensorView::new(name, file.path(), shape, Dense { file, format, range })),
            ElementType::Blocks(format) => {
                Ok(TensorView::new(name, file.path(), shape, Blocks { file, format, range }))
            }
            ElementType::Other(_) => {
                let reason = format!("its numbers are {element_type}; {LOADABLE} can be loaded");
                Err(Error::tensor(name, file.path(), reason))
            }
        }
    }
}
