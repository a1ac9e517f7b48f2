//! safetensors files, single or in shards (<https://github.com/huggingface/safetensors>).

use std::collections::BTreeSet;
use std::path::{Component, Path};

use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, SafeTensors};

use super::file::MappedFile;
use super::numbers::{Dense, NumberFormat, TensorView};
use super::{Source, list};
use crate::error::{Error, Result};

/// One safetensors file whose header has been read and found sound.
pub(super) struct SafetensorsFile {
    file: MappedFile,
    header: Metadata,
    /// Where the tensors begin in the file.
    start: usize,
}

/// The names of a model's only file, and of the list of its files.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Whether a directory has tensors in this format.
pub(super) fn is_in(directory: &Path) -> bool {
    [SINGLE, INDEX].iter().any(|name| directory.join(name).exists())
}

/// Opens `model.safetensors`, or all the shards that `model.safetensors.index.json` names; `None` where neither is
/// here.
pub(super) fn open_directory(directory: &Path) -> Result<Option<Vec<Box<dyn Source>>>> {
    let open =
        |path: &Path| -> Result<Box<dyn Source>> { Ok(Box::new(SafetensorsFile::new(MappedFile::open(path)?)?)) };
    let single = directory.join(SINGLE);
    if single.exists() {
        return Ok(Some(vec![open(&single)?]));
    }
    let index = directory.join(INDEX);
    if !index.exists() {
        return Ok(None);
    }
    shard_names(&index)?.iter().map(|name| open(&directory.join(name))).collect::<Result<_>>().map(Some)
}

/// The files that an index names, each once.
pub(super) fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(index).map_err(|error| Error::read(index, error))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::checkpoint(index, error.to_string()))?;
    let Some(map) = json["weight_map"].as_object() else {
        return Err(Error::checkpoint(index, "weight_map is missing or not an object"));
    };
    let names: BTreeSet<String> = map
        .values()
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
        .collect::<Result<_>>()?;
    let missing: Vec<String> = names.iter().filter(|name| !index.with_file_name(name).exists()).cloned().collect();
    if missing.is_empty() {
        return Ok(names);
    }
    let reason =
        format!("{} of the {} files that it names are missing: {}", missing.len(), names.len(), list(&missing));
    Err(Error::checkpoint(index, reason))
}

impl SafetensorsFile {
    pub(super) fn new(file: MappedFile) -> Result<Self> {
        // This makes sure, too, that the tensors fill the rest of the file exactly.
        let (header_bytes, header) = SafeTensors::read_metadata(file.bytes()).map_err(|error| {
            Error::checkpoint(file.path(), format!("not a sound safetensors file: {}", explain(&error)))
        })?;
        // The format begins with the header's length in eight bytes.
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
        let format = match info.dtype {
            Dtype::F32 => NumberFormat::F32,
            Dtype::F16 => NumberFormat::F16,
            Dtype::BF16 => NumberFormat::BF16,
            other => {
                let reason = format!("its numbers are {other:?}; F32, F16 and BF16 can be loaded");
                return Err(Error::tensor(name, self.file.path(), reason));
            }
        };
        let (from, to) = info.data_offsets;
        let range = self.start + from..self.start + to;
        Ok(TensorView::new(name, self.file.path(), &info.shape, Dense { file: &self.file, format, range }))
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
