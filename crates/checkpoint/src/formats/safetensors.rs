//! safetensors files, whole or in shards (<https://github.com/huggingface/safetensors>).

use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};

use crate::elements::{Dense, Dtype, TensorView};
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
use crate::formats::shards;
use crate::source::Source;

/// A safetensors file whose header has been read and checked.
pub(crate) struct SafetensorsFile {
    file: FileBytes,
    header: Metadata,
    /// The offset of the tensors in the file.
    start: usize,
}

/// The name of a model in one file, and of the index of its shards.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Whether a directory has tensors in this format.
pub(crate) fn is_in(directory: &Path) -> bool {
    [SINGLE, INDEX].iter().any(|name| directory.join(name).exists())
}

/// Opens `model.safetensors`, or all shards in `model.safetensors.index.json`; `None` if neither is there.
pub(crate) fn open_directory(directory: &Path) -> Result<Option<Vec<Box<dyn Source>>>> {
    let open =
        |path: PathBuf| -> Result<Box<dyn Source>> { Ok(Box::new(SafetensorsFile::new(FileBytes::open(&path)?)?)) };
    shards::files(directory, SINGLE, INDEX)?.map(|files| files.into_iter().map(open).collect()).transpose()
}

impl SafetensorsFile {
    pub(crate) fn new(file: FileBytes) -> Result<Self> {
        // Also checks that the tensors fill the rest of the file exactly.
        let (header_bytes, header) = SafeTensors::read_metadata(file.bytes()).map_err(|error| {
            Error::checkpoint(file.path(), format!("not a sound safetensors file: {}", explain(&error)))
        })?;
        // The header follows its length in eight bytes.
        let start = header_bytes + 8;
        Ok(Self { file, header, start })
    }
}

impl Source for SafetensorsFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        self.header.tensors().into_keys().collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let info = self.header.info(name).expect("callers ask for tensors that the file contains");
        let dtype = match info.dtype {
            safetensors::Dtype::F32 => Dtype::F32,
            safetensors::Dtype::F16 => Dtype::F16,
            safetensors::Dtype::BF16 => Dtype::BF16,
            other => {
                let reason = format!("its numbers are {other:?}; F32, F16 and BF16 can be loaded");
                return Err(Error::tensor(name, self.file.path(), reason));
            }
        };
        let (from, to) = info.data_offsets;
        let range = self.start + from..self.start + to;
        Ok(TensorView::new(name, self.file.path(), &info.shape, Dense { file: &self.file, dtype, range }))
    }
}

/// An error in words for users who do not know the format.
fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => "it ends before its header does",
        SafeTensorError::HeaderTooLarge => {
            "it does not begin with a header's length; if it is a Git LFS pointer, fetch the file with `git lfs pull`"
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "its tensors do not end where it ends; it was cut off, or something was appended"
        }
        SafeTensorError::TensorInvalidInfo => "a tensor's shape and its bytes in the file disagree",
        _ => return error.to_string(),
    }
    .to_owned()
}
