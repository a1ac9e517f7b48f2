//! PyTorch's own checkpoints, whole or in shards, as `torch.save(model.state_dict(), …)` writes them.
//!
//! Tensors are views of the file's pages, as in safetensors files. The crate for this, pytorch-reader, copies each
//! tensor, most of a gigabyte for an embedding in f32; so the pickle is read here. A pickle can ask for any code to be
//! executed: `pickle` says why none is.

mod legacy;
mod pickle;
mod storage;
mod tensor;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use zip::CompressionMethod;

use crate::elements::TensorView;
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
use crate::formats::{archive, shards};
use crate::source::Source;
use pickle::{Id, Pickle, Storage, Value};
use tensor::StoredTensor;

/// A file of PyTorch's whose pickle has been read and checked.
pub(crate) struct PytorchFile {
    file: FileBytes,
    tensors: HashMap<String, StoredTensor>,
}

/// The name of a model in one file, and of the index of its shards.
const SINGLE: &str = "pytorch_model.bin";
const INDEX: &str = "pytorch_model.bin.index.json";

/// Whether a directory has tensors in this format, or an index of them. A GGML file of the same name does not count.
pub(crate) fn is_in(directory: &Path) -> bool {
    let single = directory.join(SINGLE);
    directory.join(INDEX).exists() || (single.exists() && !is_ggml(&single))
}

/// Whether a file is GGML's, whose names also end in `.bin`.
#[cfg(feature = "ggml")]
fn is_ggml(path: &Path) -> bool {
    super::ggml::is_one(path)
}

#[cfg(not(feature = "ggml"))]
fn is_ggml(_path: &Path) -> bool {
    false
}

/// Opens `pytorch_model.bin`, or all shards in `pytorch_model.bin.index.json`; `None` if neither is there.
pub(crate) fn open_directory(directory: &Path) -> Result<Option<Vec<Box<dyn Source>>>> {
    let open = |path: PathBuf| -> Result<Box<dyn Source>> { Ok(Box::new(PytorchFile::new(FileBytes::open(&path)?)?)) };
    shards::files(directory, SINGLE, INDEX)?.map(|files| files.into_iter().map(open).collect()).transpose()
}

impl PytorchFile {
    pub(crate) fn new(file: FileBytes) -> Result<Self> {
        let tensors = match file.bytes() {
            bytes @ [b'P', b'K', 3, 4, ..] => from_archive(bytes),
            bytes @ [0x80, ..] => from_legacy(bytes),
            bytes if bytes.starts_with(b"version https://git-lfs") => {
                Err("a Git LFS pointer in place of the weights; fetch them with `git lfs pull`".to_owned())
            }
            _ => Err("not a file that torch.save writes: neither a zip archive nor a pickle".to_owned()),
        }
        .map_err(|reason| Error::checkpoint(file.path(), reason))?;
        Ok(Self { file, tensors })
    }
}

impl Source for PytorchFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensors[name].view(name, &self.file)
    }
}

const BIG_ENDIAN: &str = "its numbers are big-endian; load it in Python on a little-endian machine and save it again";

/// From the format since PyTorch 1.6: an archive with a pickle and one entry per storage.
fn from_archive(bytes: &[u8]) -> Result<HashMap<String, StoredTensor>, String> {
    let mut entries = HashMap::new();
    for entry in archive::entries(&mut archive::open(bytes)?)? {
        if entry.method != CompressionMethod::Stored {
            return Err(format!(
                "the archive's entry {} is compressed, which PyTorch does not do; unpack the file and pack it again \
                 with `zip -0`, or load it in Python and save it with torch.save",
                entry.name.escape_debug()
            ));
        }
        entries.insert(entry.name, entry.range);
    }
    let roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = match *roots.filter(|root| root.is_empty() || root.ends_with('/')).collect::<Vec<_>>() {
        [root] => root,
        [] => return Err("the archive has no data.pkl, so torch.save did not write it".to_owned()),
        _ => return Err("the archive has several data.pkl; save it again with torch.save".to_owned()),
    };
    let entry = |name: &str| entries.get(&format!("{root}{name}")).cloned();
    if entry("byteorder").is_some_and(|order| bytes[order].trim_ascii() != b"little") {
        return Err(BIG_ENDIAN.to_owned());
    }
    let pickle = entry("data.pkl").map_or(&[][..], |range| &bytes[range]);
    let (pickle, _) = Pickle::read(pickle)?;
    tensors(&pickle, |storage| entry(&format!("data/{}", storage.key)))
}

fn from_legacy(bytes: &[u8]) -> Result<HashMap<String, StoredTensor>, String> {
    let (pickle, storages) = legacy::read(bytes)?;
    tensors(&pickle, |storage| storages.get(storage.key).cloned())
}

/// The tensors that a pickle names; `locate` gives a storage's bytes in the file.
fn tensors(
    pickle: &Pickle<'_>,
    locate: impl Fn(&Storage<'_>) -> Option<Range<usize>>,
) -> Result<HashMap<String, StoredTensor>, String> {
    let mut named = HashMap::new();
    for (name, value) in state_dict(pickle)? {
        if let (Value::Text(name), Value::Tensor(tensor)) = (pickle.value(*name), pickle.value(*value)) {
            named.insert(*name, &**tensor);
        }
    }
    // The prefix of PyTorch's DataParallel.
    const WRAPPER: &str = "module.";
    let prefix = if named.keys().all(|name| name.starts_with(WRAPPER)) { WRAPPER } else { "" };
    let stored = |(name, tensor): (&str, &pickle::PickledTensor<'_>)| {
        let storage = &tensor.storage;
        let what = || format!("tensor {}: its storage {}", name.escape_debug(), storage.key.escape_debug());
        let range = locate(storage).ok_or_else(|| format!("{} is missing", what()))?;
        let needed = storage.elements.checked_mul(storage.kind.bytes);
        let needed = needed.and_then(|bytes| range.start.checked_add(bytes)).filter(|&end| end <= range.end);
        let end = needed
            .ok_or_else(|| format!("{} has {} bytes, too few for {} numbers", what(), range.len(), storage.elements))?;
        Ok((name[prefix.len()..].to_owned(), StoredTensor::new(tensor, range.start..end)))
    };
    named.into_iter().map(stored).collect()
}

/// The dictionary of the tensors; training programs nest it in another one, beside their own state.
fn state_dict<'p>(pickle: &'p Pickle<'_>) -> Result<&'p [(Id, Id)], String> {
    const MAX_DEPTH: usize = 4;
    let mut value = pickle.root();
    for _ in 0..MAX_DEPTH {
        let Value::Dict(entries) = value else { break };
        let inner = ["state_dict", "model_state_dict", "model", "module"]
            .into_iter()
            .filter_map(|key| pickle.entry(entries, key))
            .find(|value| matches!(value, Value::Dict(_)));
        match inner {
            Some(inner) => value = inner,
            None => return Ok(entries),
        }
    }
    Err("it has no dictionary of tensors, as torch.save(model.state_dict(), …) writes".to_owned())
}
