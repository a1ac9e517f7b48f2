//! From any checkpoint to a Hugging Face model directory, a block of numbers at a time.
//!
//! Everything is written to a directory beside the one that it is for, which gets its name once all of it is on disk:
//! where something fails or the program ends, there is no half a model.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{Checkpoint, LowRank, NumberFormat, Progress, TensorName, TensorView};
use crate::config::Class;
use crate::error::{Error, Result};

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFormat {
    /// As f16.
    F16,
    /// As they are; those that are no numbers by themselves, as f16.
    AsIs,
}

/// How a model is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// How its numbers are.
    pub format: WriteFormat,
    /// Bytes of tensors in a file at most; a tensor with more has a file of its own.
    pub max_shard_bytes: u64,
    /// The text of a `tokenizer.json`, for a model whose tokenizer is not in files beside it, which are copied.
    pub tokenizer: Option<String>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { format: WriteFormat::F16, max_shard_bytes: 5_000_000_000, tokenizer: None }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Files of tensors.
    pub shards: usize,
    /// Bytes of tensors.
    pub bytes: u64,
}

/// What is copied from the model's directory, where it is there.
const COMPANIONS: [&str; 7] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];

/// Numbers that are converted at a time.
const BLOCK: usize = 1 << 20;

/// Writes a checkpoint, with its adapters merged, to the directory `out`, which does not exist yet or is empty, under
/// the names that Hugging Face's class has for its tensors. `progress` may stop it.
///
/// # Errors
/// Where `out` is neither new nor empty, a file cannot be written, or a number is not finite or cannot be held by the
/// format that it is to have; [`Error::Stopped`] where `progress` stopped it. Then nothing is left behind.
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
    config["torch_dtype"] = first.map_or(NumberFormat::F16, |entry| entry.format).torch_name().into();
    staging.write("config.json", &pretty(&config))?;
    for name in COMPANIONS {
        staging.copy(&checkpoint.path.join(name), name)?;
    }
    if let Some(tokenizer) = &options.tokenizer {
        staging.write("tokenizer.json", tokenizer.as_bytes())?;
    }
    let file_name = |index: usize| match shards.len() {
        1 => "model.safetensors".to_owned(),
        count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    if shards.len() > 1 {
        let in_shard = |(index, shard): (usize, &Vec<Entry<'_>>)| {
            let file = file_name(index);
            shard.iter().map(|entry| (entry.file_name(), file.clone().into())).collect::<Vec<(String, Value)>>()
        };
        let map: Map<_, _> = shards.iter().enumerate().flat_map(in_shard).collect();
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

/// A tensor that is to be written.
struct Entry<'a> {
    name: TensorName,
    prefix: &'static str,
    view: TensorView<'a>,
    format: NumberFormat,
}

/// All tensors, in the order of the forward pass.
fn entries(checkpoint: &Checkpoint, format: WriteFormat) -> Result<Vec<Entry<'_>>> {
    let prefix = if checkpoint.config().class == Class::Model { "" } else { "transformer." };
    let entry = |name| {
        let view = checkpoint.tensor(name)?;
        let format = match format {
            WriteFormat::F16 => NumberFormat::F16,
            WriteFormat::AsIs => view.format().unwrap_or(NumberFormat::F16),
        };
        Ok(Entry { name, prefix, view, format })
    };
    TensorName::all(checkpoint.config()).into_iter().map(entry).collect()
}

/// The tensors of each file.
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
        // Readers want each number at a multiple of its size.
        shard.sort_by_key(|entry| Reverse(entry.format.bytes()));
    }
    shards
}

/// What precedes the tensors of a safetensors file.
fn header(shard: &[Entry<'_>]) -> Vec<u8> {
    let mut header = Map::new();
    // Without it, transformers refuses the file.
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for entry in shard {
        let begin = end;
        end += entry.bytes();
        let dtype = format!("{:?}", entry.format);
        let place = json!({ "dtype": dtype, "shape": entry.view.shape(), "data_offsets": [begin, end] });
        header.insert(entry.file_name(), place);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

impl Entry<'_> {
    fn file_name(&self) -> String {
        self.name.in_file(self.prefix)
    }

    fn bytes(&self) -> u64 {
        (self.view.elements() * self.format.bytes()) as u64
    }

    /// `progress` hears how many of the bytes in the checkpoint are done with.
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
            if self.format == NumberFormat::F16 && product.is_none() {
                // What is f16 already need not be decoded.
                halves.clear();
                self.view.append_f16(range.clone(), &mut halves)?;
                file.write(bytemuck::cast_slice(&halves))?;
            } else {
                numbers.resize(range.len(), 0.0);
                self.view.decode(start, &mut numbers);
                if let Some(product) = &product {
                    product.add_to(start, &mut numbers);
                }
                if let Err(index) = self.format.encode(&numbers, &mut bytes) {
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
        let reason = format!("{merged}element {index} is {number}, which {:?} cannot hold", self.format);
        Error::tensor(self.view.name(), self.view.path(), reason)
    }
}

impl NumberFormat {
    /// What PyTorch calls it.
    fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// The numbers as they are stored, in `bytes`; `Err` is the index of one that would not be finite.
    fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
        bytes.clear();
        bytes.resize(numbers.len() * self.bytes(), 0);
        // Without a branch in the loops they run at the speed of memory; which number it was matters only on failure.
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

/// Stores numbers one after another; whether all are finite.
fn fill<T: Copy, const N: usize>(
    bytes: &mut [u8],
    numbers: impl Iterator<Item = T>,
    store: impl Fn(T) -> [u8; N],
    is_finite: impl Fn(T) -> bool,
) -> bool {
    let (places, _) = bytes.as_chunks_mut();
    places.iter_mut().zip(numbers).fold(true, |all_finite, (place, number)| {
        *place = store(number);
        all_finite & is_finite(number)
    })
}

fn pretty(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}

/// A directory that is being filled and will have another name.
struct Staging {
    out: PathBuf,
    parent: PathBuf,
    directory: TempDir,
}

impl Staging {
    fn new(out: &Path) -> Result<Self> {
        let refuse = |reason: &str| Error::write(out, std::io::Error::other(reason.to_owned()));
        let target = match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
            // A link stays where it is, and what it points to is filled.
            Ok(true) => out.canonicalize().map_err(|error| Error::write(out, error))?,
            Ok(false) => return Err(refuse("it exists and is not empty; choose another directory")),
            Err(error) if error.kind() == ErrorKind::NotFound => out.to_owned(),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(refuse("it exists and is no directory; choose another name"));
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
            // As any new directory: what the user's mask leaves of it.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let directory = builder.tempdir_in(&parent).map_err(|error| Error::write(out, error))?;
        Ok(Self { out: target, parent, directory })
    }

    fn create(&self, name: &str) -> Result<Output> {
        // What messages speak of is where the file was to be.
        let path = self.out.join(name);
        let file = File::create_new(self.directory.path().join(name)).map_err(|error| Error::write(&path, error))?;
        Ok(Output { file, path })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        file.write(bytes)?;
        file.finish()
    }

    /// Copies a file, where there is one.
    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        match fs::read(from) {
            Ok(bytes) => self.write(name, &bytes),
            // The model may be a file, and then there is nothing in it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(Error::read(from, error)),
        }
    }

    /// Gives the directory its name, once it and all that is in it are on disk.
    fn commit(self) -> Result<()> {
        let failed = |error| Error::write(&self.out, error);
        sync_directory(self.directory.path()).map_err(failed)?;
        // Elsewhere it is replaced in one step.
        #[cfg(windows)]
        if self.out.exists() {
            fs::remove_dir(&self.out).map_err(failed)?;
        }
        fs::rename(self.directory.path(), &self.out).map_err(failed)?;
        // It is no temporary directory any more.
        _ = self.directory.keep();
        sync_directory(&self.parent).map_err(failed)
    }
}

/// Makes sure that the names of a directory's files are on disk, where systems let one.
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
