//! safetensors files, single or in shards (<https://github.com/huggingface/safetensors>).

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, SafeTensors};

use super::numbers::{NumberFormat, TensorView};
use crate::error::{Error, Result};

/// One safetensors file whose header has been read and found sound.
pub(super) struct TensorFile {
    path: PathBuf,
    bytes: Bytes,
    header: Metadata,
    /// Where the tensors begin in the file.
    start: usize,
}

enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// Opens `model.safetensors`, or all the shards that `model.safetensors.index.json` names.
pub(super) fn open_directory(directory: &Path) -> Result<Vec<TensorFile>> {
    let single = directory.join("model.safetensors");
    if single.exists() {
        return Ok(vec![TensorFile::open(&single)?]);
    }
    let index = directory.join("model.safetensors.index.json");
    if !index.exists() {
        let reason = "no model.safetensors and no model.safetensors.index.json in this directory";
        return Err(Error::checkpoint(directory, reason));
    }
    shard_names(&index)?.iter().map(|name| TensorFile::open(&directory.join(name))).collect()
}

/// The files that an index names, each once.
fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(index).map_err(|error| Error::read(index, error))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::checkpoint(index, error.to_string()))?;
    let Some(map) = json["weight_map"].as_object() else {
        return Err(Error::checkpoint(index, "weight_map is missing or not an object"));
    };
    map.values()
        .map(|name| {
            let name = name.as_str().unwrap_or_default();
            // A shard lies beside its index, wherever the index came from.
            let is_file_name =
                matches!(Path::new(name).components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]);
            if is_file_name {
                Ok(name.to_owned())
            } else {
                Err(Error::checkpoint(index, format!("{name:?} is not the name of a file in the same directory")))
            }
        })
        .collect()
}

impl TensorFile {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::read(path, error))?;
        // SAFETY: the map is read-only. Should another program shorten the file meanwhile, the system ends this one;
        // there is no way to map a file that excludes it, and the alternative is a second copy in memory.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::read(path, error))?;
        Self::new(path, Bytes::Mapped(map))
    }

    pub(super) fn from_static(path: &Path, bytes: &'static [u8]) -> Result<Self> {
        Self::new(path, Bytes::Static(bytes))
    }

    fn new(path: &Path, bytes: Bytes) -> Result<Self> {
        // This makes sure, too, that the tensors fill the rest of the file exactly.
        let (header_bytes, header) = SafeTensors::read_metadata(bytes.get())
            .map_err(|error| Error::checkpoint(path, format!("not a sound safetensors file: {}", explain(&error))))?;
        // The format begins with the header's length in eight bytes.
        let start = header_bytes + 8;
        Ok(Self { path: path.to_owned(), bytes, header, start })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The tensor of this name, which the file contains.
    pub(super) fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let info = self.header.info(name).expect("callers ask for tensors that the file contains");
        let format = match info.dtype {
            Dtype::F32 => NumberFormat::F32,
            Dtype::F16 => NumberFormat::F16,
            Dtype::BF16 => NumberFormat::BF16,
            other => {
                let reason = format!("its numbers are {other:?}; F32, F16 and BF16 can be loaded");
                return Err(Error::tensor(name, &self.path, reason));
            }
        };
        let (from, to) = info.data_offsets;
        let range = self.start + from..self.start + to;
        Ok(TensorView::new(name, self, format, &info.shape, range))
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes.get()[range]
    }

    /// Tells the system that these bytes are not needed any more, so that their pages stop counting as ours.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let (offset, length) = (range.start, range.len());
            // SAFETY: the map is read-only and backed by a file, so that a dropped page that is needed after all is
            // read again. The advice may be refused, which costs memory and nothing else.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// What is wrong with a file, in words for those who do not know the format.
fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => "it ends before its header does",
        SafeTensorError::HeaderTooLarge => {
            "it does not begin with a header's length; it may be a text in place of the weights, as Git LFS leaves them"
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "its tensors do not end where it ends; it was cut off, or something was appended"
        }
        SafeTensorError::TensorInvalidInfo => "a tensor's shape and its place in the file disagree",
        _ => return error.to_string(),
    }
    .to_owned()
}
