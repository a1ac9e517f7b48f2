//! PyTorch's own checkpoints, single or in shards: what `torch.save(model.state_dict(), …)` writes.
//!
//! The tensors are views of the file's pages, as those of safetensors files are. The crate that could do this,
//! pytorch-reader, gives each tensor as a copy of its own, which for an embedding in f32 is most of a gigabyte; so the
//! pickle is read here. A pickle can ask for any code to be executed: `pickle` says why none is.

mod legacy;
mod pickle;
mod tensor;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use zip::CompressionMethod;

use super::file::MappedFile;
use super::numbers::TensorView;
use super::safetensors::shard_names;
use super::{Source, archive};
use crate::error::{Error, Result};
use pickle::{Id, Pickle, Storage, Value};
use tensor::StoredTensor;

/// One file of PyTorch's whose pickle has been read and found sound.
pub(super) struct PytorchFile {
    file: MappedFile,
    tensors: HashMap<String, StoredTensor>,
}

/// The names of a model's only file, and of the list of its files.
const SINGLE: &str = "pytorch_model.bin";
const INDEX: &str = "pytorch_model.bin.index.json";

/// Whether a directory has tensors in this format, or an index of such; what only has the name of one does not count.
pub(super) fn is_in(directory: &Path) -> bool {
    let single = directory.join(SINGLE);
    directory.join(INDEX).exists() || (single.exists() && !super::ggml::is_one(&single))
}

/// Opens `pytorch_model.bin`, or all the shards that `pytorch_model.bin.index.json` names; `None` where neither is
/// here.
pub(super) fn open_directory(directory: &Path) -> Result<Option<Vec<Box<dyn Source>>>> {
    let open = |path: &Path| -> Result<Box<dyn Source>> { Ok(Box::new(PytorchFile::new(MappedFile::open(path)?)?)) };
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

impl PytorchFile {
    pub(super) fn new(file: MappedFile) -> Result<Self> {
        let tensors = match file.bytes() {
            bytes @ [b'P', b'K', 3, 4, ..] => from_archive(bytes),
            bytes @ [0x80, ..] => from_legacy(bytes),
            bytes if bytes.starts_with(b"version https://git-lfs") => {
                Err("a text in place of the weights, as Git LFS leaves them; fetch them with `git lfs pull`".to_owned())
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

const BIG_ENDIAN: &str = "it was written on a machine that stores numbers the other way round (big-endian); load it in \
                          Python and save it again on the usual kind";

/// From the files that PyTorch has written since 1.6: archives with a pickle and an entry for each storage.
fn from_archive(bytes: &[u8]) -> Result<HashMap<String, StoredTensor>, String> {
    let mut entries = HashMap::new();
    for entry in archive::entries(&mut archive::open(bytes)?)? {
        if entry.method != CompressionMethod::Stored {
            return Err(format!(
                "the archive's entry {} is compressed, and PyTorch stores entries as they are; unpack the file and pack it \
                 again with `zip -0`, or load it in Python and save it with torch.save",
                entry.name.escape_debug()
            ));
        }
        entries.insert(entry.name, entry.place);
    }
    let roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = match *roots.filter(|root| root.is_empty() || root.ends_with('/')).collect::<Vec<_>>() {
        [root] => root,
        [] => return Err("the archive has no data.pkl; it is none that torch.save writes".to_owned()),
        _ => return Err("the archive has several data.pkl; which of them counts is not clear".to_owned()),
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

/// The tensors that a pickle names; `locate` says where the file has a storage.
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
    // PyTorch's own wrapper for several GPUs puts this before all names.
    const WRAPPER: &str = "module.";
    let prefix = if named.keys().all(|name| name.starts_with(WRAPPER)) { WRAPPER } else { "" };
    let stored = |(name, tensor): (&str, &pickle::Tensor<'_>)| {
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

/// The dictionary of the tensors, which programs that train put into another one, beside what else they keep.
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
    Err("it holds no dictionary of tensors, as torch.save(model.state_dict(), …) writes".to_owned())
}
