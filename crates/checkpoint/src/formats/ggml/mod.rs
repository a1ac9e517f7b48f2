//! GGML's formats, one file per model: GGUF (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), and the
//! formats before it.
//!
//! They are recognised by their first four bytes, not by their names.

mod blocks;
mod gguf;
mod legacy;
mod metadata;
mod reader;
mod tensors;

use std::io::Read;
use std::path::{Path, PathBuf};

use blocks::{Blocks, ElementType, LOADABLE};
use reader::Reader;
use tensors::{Header, TensorInfo, Tensors};

use crate::config::Config;
use crate::elements::{Dense, TensorView};
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
use crate::source::Source;
use crate::vocabulary::Vocabulary;

/// A file whose header has been read and checked.
pub(crate) struct GgmlFile {
    file: FileBytes,
    tensors: Tensors,
}

/// The container format of a file.
#[derive(Clone, Copy)]
enum Container {
    Gguf,
    Ggml,
    Ggjt,
}

impl Container {
    /// Bytes of the magic number.
    const MAGIC: usize = 4;

    fn of(magic: &[u8]) -> Option<Self> {
        match magic {
            b"GGUF" => Some(Self::Gguf),
            // "ggml" and "ggjt" as little-endian numbers.
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
pub(crate) fn is_one(path: &Path) -> bool {
    matches!(Container::of_file(path), Ok(Some(_)))
}

/// The file of one of these formats: `path` itself, or the only one in the directory `path`. `None` if there is none.
///
/// # Errors
/// If `path` is a file of another format, or a directory with several of them.
pub(crate) fn find(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        let container = Container::of_file(path).map_err(|error| Error::read(path, error))?;
        let reason = "neither a model directory nor a GGUF or GGML file, which begins with GGUF, lmgg or tjgg; name a \
                      Hugging Face model by its directory";
        return if container.is_some() { Ok(Some(path.to_owned())) } else { Err(Error::checkpoint(path, reason)) };
    }
    // An unreadable directory is reported when its files are opened.
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(None) };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
    let mut files: Vec<PathBuf> = files.filter(|path| is_one(path)).collect();
    files.sort();
    match files.as_slice() {
        [] | [_] => Ok(files.pop()),
        [first, second, ..] => {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reason = format!(
                "{} GGUF or GGML files are in this directory, {} and {} among them; name one of them instead",
                files.len(),
                name(first),
                name(second)
            );
            Err(Error::checkpoint(path, reason))
        }
    }
}

/// Opens a file that [`find`] has found.
pub(crate) fn open(path: &Path) -> Result<(Config, GgmlFile)> {
    let file = FileBytes::open(path)?;
    let Header { config, tensors } = {
        let mut reader = Reader::new(&file);
        match Container::of(reader.take(Container::MAGIC as u64, "its first four bytes")?) {
            Some(Container::Gguf) => gguf::read(&mut reader)?,
            Some(Container::Ggml) => legacy::read(&mut reader, false)?,
            Some(Container::Ggjt) => legacy::read(&mut reader, true)?,
            None => return Err(Error::checkpoint(path, "it changed while it was opened")),
        }
    };
    Ok((config, GgmlFile { file, tensors }))
}

/// The vocabulary of a file that [`find`] has found, of at most `limit` tokens. `None` if the file has none, or one of
/// another kind of tokenizer.
pub(crate) fn vocabulary(path: &Path, limit: usize) -> Result<Option<Vocabulary>> {
    let file = FileBytes::open(path)?;
    let mut reader = Reader::new(&file);
    match Container::of(reader.take(Container::MAGIC as u64, "its first four bytes")?) {
        Some(Container::Gguf) => gguf::vocabulary(&mut reader, limit),
        _ => Ok(None),
    }
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
        let TensorInfo { name, shape, element_type, range } = tensor;
        let (file, range) = (&self.file, range.clone());
        match *element_type {
            ElementType::Dense(dtype) => Ok(TensorView::new(name, file.path(), shape, Dense { file, dtype, range })),
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
