//! Converts any checkpoint to a Hugging Face model directory, a block of numbers at a time.
//!
//! Everything is written to a temporary directory beside the target, which is renamed once all of it is on disk: if
//! something fails or the program ends, no half-written model is left.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::adapter::LowRank;
use crate::checkpoint::Checkpoint;
use crate::config::Class;
use crate::elements::{Dtype, TensorView};
use crate::error::{Error, Result};
use crate::names::TensorName;
use crate::progress::Progress;

/// The type of the written numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFormat {
    /// f16.
    F16,
    /// Their own type; f16 for quantized ones.
    AsIs,
}

/// How a model is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The type of its numbers.
    pub format: WriteFormat,
    /// The most bytes of tensors in a file; a larger tensor gets its own file.
    pub max_shard_bytes: u64,
    /// The text of a `tokenizer.json`, for a model without tokenizer files beside it; those are copied.
    pub tokenizer: Option<String>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { format: WriteFormat::F16, max_shard_bytes: 5_000_000_000, tokenizer: None }
    }
}

/// The size of the written model.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// The number of tensor files.
    pub shards: usize,
    /// Bytes of tensors.
    pub bytes: u64,
}

/// Files that are copied from the model's directory, if they are there.
const COMPANIONS: [&str; 7] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];

/// Elements converted at a time.
const BLOCK: usize = 1 << 20;

/// Writes a checkpoint, with its adapters merged, to the new or empty directory `out`, with the tensor names of its
/// Hugging Face class. `progress` may stop it.
///
/// # Errors
/// If `out` is neither new nor empty, a file cannot be written, or a number is not finite or too large for the written
/// type; [`Error::Stopped`] if `progress` stopped it. Then nothing is left behind.
pub fn write(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &WriteOptions,
    progress: &mut impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Written> {
    let staging = Staging::new(out)?;
    let shards = shards(entries(checkpoint, options.format)?, options.max_shard_bytes);
    let tensors = || shards.iter().flatten();
    let bytes = tensors().map(Entry::bytes).sum();
    let first = tensors().find(|entry| entry.name == TensorName::Wte);
    let mut config = checkpoint.config().to_json();
    config["torch_dtype"] = first.map_or(Dtype::F16, |entry| entry.dtype).torch_name().into();
    staging.write("config.json", &pretty(&config))?;
    for name in COMPANIONS {
        staging.copy(&checkpoint.path().join(name), name)?;
    }
    if let Some(tokenizer) = &options.tokenizer {
        staging.write("tokenizer.json", tokenizer.as_bytes())?;
    }
    let file_name = |index: usize| match shards.len() {
        1 => "model.safetensors".to_owned(),
        count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    if shards.len() > 1 {
        let mut map = Map::new();
        for (index, shard) in shards.iter().enumerate() {
            for entry in shard {
                map.insert(entry.name_in_file(), file_name(index).into());
            }
        }
        let index = json!({ "metadata": { "total_size": bytes }, "weight_map": map });
        staging.write("model.safetensors.index.json", &pretty(&index))?;
    }
    let total = tensors().map(|entry| entry.view.bytes() as u64).sum();
    let mut done = 0;
    for (index, shard) in shards.iter().enumerate() {
        let mut file = staging.create(&file_name(index))?;
        file.write(&header(shard))?;
        for entry in shard {
            entry.write(checkpoint, &mut file, |bytes| progress(Progress { done: done + bytes, total }))?;
            done += entry.view.bytes() as u64;
        }
        file.finish()?;
    }
    staging.commit()?;
    Ok(Written { shards: shards.len(), bytes })
}

/// A tensor to write.
struct Entry<'a> {
    name: TensorName,
    prefix: &'static str,
    view: TensorView<'a>,
    dtype: Dtype,
}

/// All tensors, in the order of the forward pass.
fn entries(checkpoint: &Checkpoint, format: WriteFormat) -> Result<Vec<Entry<'_>>> {
    let prefix = if checkpoint.config().class == Class::Model { "" } else { "transformer." };
    let entry = |name| {
        let view = checkpoint.tensor(name)?;
        let dtype = match format {
            WriteFormat::F16 => Dtype::F16,
            WriteFormat::AsIs => view.format().unwrap_or(Dtype::F16),
        };
        Ok(Entry { name, prefix, view, dtype })
    };
    TensorName::all(checkpoint.config()).into_iter().map(entry).collect()
}

/// Divides the tensors among files.
fn shards(entries: Vec<Entry<'_>>, max_bytes: u64) -> Vec<Vec<Entry<'_>>> {
    let mut shards: Vec<Vec<Entry<'_>>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.bytes();
        match shards.last_mut() {
            Some(shard) if bytes <= max_bytes => shard.push(entry),
            _ => {
                bytes = entry.bytes();
                shards.push(vec![entry]);
            }
        }
    }
    for shard in &mut shards {
        // Readers need each number aligned to its size.
        shard.sort_by_key(|entry| Reverse(entry.dtype.bytes()));
    }
    shards
}

/// A safetensors header with its length.
fn header(shard: &[Entry<'_>]) -> Vec<u8> {
    let mut header = Map::new();
    // Without it, transformers refuses the file.
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for entry in shard {
        let begin = end;
        end += entry.bytes();
        let dtype = format!("{:?}", entry.dtype);
        let info = json!({ "dtype": dtype, "shape": entry.view.shape(), "data_offsets": [begin, end] });
        header.insert(entry.name_in_file(), info);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

impl Entry<'_> {
    fn name_in_file(&self) -> String {
        self.name.in_file(self.prefix)
    }

    fn bytes(&self) -> u64 {
        (self.view.elements() * self.dtype.bytes()) as u64
    }

    /// `progress` gets the number of the tensor's bytes in the checkpoint that are done.
    fn write(
        &self,
        checkpoint: &Checkpoint,
        file: &mut Output,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let elements = self.view.elements();
        let product: Option<LowRank> = match self.name {
            TensorName::Block(layer, tensor) => checkpoint.low_rank(layer, tensor)?,
            _ => None,
        };
        let mut halves = Vec::new();
        let mut numbers = Vec::new();
        let mut bytes = Vec::new();
        for start in (0..elements).step_by(BLOCK) {
            let range = start..(start + BLOCK).min(elements);
            if self.dtype == Dtype::F16 && product.is_none() {
                // Skips decoding numbers that are f16 already.
                halves.clear();
                self.view.append_f16(range.clone(), &mut halves)?;
                file.write(bytemuck::cast_slice(&halves))?;
            } else {
                numbers.resize(range.len(), 0.0);
                self.view.decode(start, &mut numbers);
                if let Some(product) = &product {
                    product.add_to(start, &mut numbers);
                }
                if let Err(index) = self.dtype.encode(&numbers, &mut bytes) {
                    return Err(self.refuse(start + index, numbers[index], product.is_some()));
                }
                file.write(&bytes)?;
            }
            self.view.release(range.clone());
            let done = (self.view.bytes() as u64).saturating_mul(range.end as u64) / elements as u64;
            if progress(done).is_break() {
                return Err(Error::Stopped);
            }
        }
        Ok(())
    }

    fn refuse(&self, index: usize, number: f32, is_merged: bool) -> Error {
        if !is_merged && !number.is_finite() {
            return self.view.refuse(index, number);
        }
        let merged = if is_merged { "with its adapters, " } else { "" };
        let reason = format!("{merged}element {index} is {number}, which {:?} cannot hold", self.dtype);
        Error::tensor(self.view.name(), self.view.path(), reason)
    }
}

impl Dtype {
    /// Its name in PyTorch.
    fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Encodes numbers into `bytes`; `Err` has the index of the first that would not be finite.
    fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
        bytes.clear();
        bytes.resize(numbers.len() * self.bytes(), 0);
        // Branch-free loops run at memory speed; the index is searched only on failure.
        let all_finite = match self {
            Self::F32 => fill(bytes, numbers.iter().copied(), f32::to_le_bytes, f32::is_finite),
            Self::F16 => {
                let mut halves = vec![f16::ZERO; numbers.len()];
                halves.convert_from_f32_slice(numbers);
                fill(bytes, halves.into_iter(), f16::to_le_bytes, f16::is_finite)
            }
            Self::BF16 => fill(bytes, numbers.iter().copied().map(bf16::from_f32), bf16::to_le_bytes, bf16::is_finite),
        };
        if all_finite {
            return Ok(());
        }
        let is_held = |number: f32| match self {
            Self::F32 => number.is_finite(),
            Self::F16 => f16::from_f32(number).is_finite(),
            Self::BF16 => bf16::from_f32(number).is_finite(),
        };
        numbers.iter().position(|&number| !is_held(number)).map_or(Ok(()), Err)
    }
}

/// Stores numbers one after another; returns whether all are finite.
fn fill<T: Copy, const N: usize>(
    bytes: &mut [u8],
    numbers: impl Iterator<Item = T>,
    store: impl Fn(T) -> [u8; N],
    is_finite: impl Fn(T) -> bool,
) -> bool {
    let (places, _) = bytes.as_chunks_mut();
    let mut all_finite = true;
    for (place, number) in places.iter_mut().zip(numbers) {
        *place = store(number);
        all_finite &= is_finite(number);
    }
    all_finite
}

fn pretty(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}

/// A temporary directory that will be renamed to `out`.
struct Staging {
    out: PathBuf,
    parent: PathBuf,
    directory: TempDir,
}

impl Staging {
    fn new(out: &Path) -> Result<Self> {
        let refuse = |reason: &str| Error::write(out, std::io::Error::other(reason.to_owned()));
        let target = match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
            // A link stays; the directory that it points to is filled.
            Ok(true) => out.canonicalize().map_err(|error| Error::write(out, error))?,
            Ok(false) => return Err(refuse("it exists and is not empty; choose another directory")),
            Err(error) if error.kind() == ErrorKind::NotFound => out.to_owned(),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(refuse("it exists and is not a directory; choose another name"));
            }
            Err(error) => return Err(Error::write(out, error)),
        };
        if target.file_name().is_none() {
            return Err(refuse("it does not end with the name of a directory"));
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".gptj-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new directory: the user's umask applies.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let directory = builder.tempdir_in(&parent).map_err(|error| Error::write(out, error))?;
        Ok(Self { out: target, parent, directory })
    }

    fn create(&self, name: &str) -> Result<Output> {
        // Messages name the final path.
        let path = self.out.join(name);
        let file = File::create_new(self.directory.path().join(name)).map_err(|error| Error::write(&path, error))?;
        Ok(Output { file, path })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        file.write(bytes)?;
        file.finish()
    }

    /// Copies a file, if it exists.
    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        match fs::read(from) {
            Ok(bytes) => self.write(name, &bytes),
            // The model may itself be a file, with no files in it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(Error::read(from, error)),
        }
    }

    /// Renames the directory, once it and its files are on disk.
    fn commit(self) -> Result<()> {
        let failed = |error| Error::write(&self.out, error);
        sync_directory(self.directory.path()).map_err(failed)?;
        // Elsewhere `rename` replaces an empty directory.
        #[cfg(windows)]
        if self.out.exists() {
            fs::remove_dir(&self.out).map_err(failed)?;
        }
        fs::rename(self.directory.path(), &self.out).map_err(failed)?;
        // Renamed: nothing to delete any more.
        _ = self.directory.keep();
        sync_directory(&self.parent).map_err(failed)
    }
}

/// Waits until the names of a directory's files are on disk, on systems that support it.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// A file that is being written.
struct Output {
    file: File,
    path: PathBuf,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::write(&self.path, error))
    }

    /// Waits until it is on disk.
    fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::write(&self.path, error))
    }
}
