//! From files on disk to named tensors: the only place that knows file formats and the names of tensors in them.
//!
//! Files are mapped, not read: a tensor is a view of the file's pages, and once it is on the GPU its pages can go. So
//! loading takes no second copy of the model in memory. Nothing in here knows of GPUs.

mod archive;
mod codegen;
mod file;
mod ggml;
mod lora;
mod mesh;
mod names;
mod npz;
mod numbers;
mod pieces;
mod pytorch;
mod safetensors;
mod verify;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

pub(crate) use ggml::{TokenKind, Vocabulary};
pub use lora::{Adapter, LowRank};
pub use names::{BlockTensor, TensorName};
pub use numbers::{NumberFormat, TensorView};
pub use verify::Verification;
pub use write::{WriteFormat, WriteOptions, Written, write};

use crate::config::{Class, Config};
use crate::error::{Error, Result};
use file::MappedFile;
use safetensors::SafetensorsFile;

/// Something on disk that holds tensors under the names that Hugging Face has for them: a file of some format.
trait Source: Send + Sync {
    /// What messages call it.
    fn path(&self) -> &Path;

    /// The names of all its tensors.
    fn names(&self) -> Vec<String>;

    /// Whether it has a tensor of this name.
    fn contains(&self, name: &str) -> bool;

    /// The tensor of this name, which it contains.
    fn view(&self, name: &str) -> Result<TensorView<'_>>;
}

/// How far going through a checkpoint is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of its files that are done with.
    pub done: u64,
    /// Bytes that there are.
    pub total: u64,
}

/// A model on disk: its configuration and its tensors, all present and of the right shape.
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    sources: Vec<Box<dyn Source>>,
    /// What stands before the names of all tensors but those of a head.
    prefix: &'static str,
    adapters: Vec<Adapter>,
}

impl Checkpoint {
    /// Opens a Hugging Face model directory: `config.json`, and `model.safetensors` or else `pytorch_model.bin`, either
    /// of them whole or in shards. Or a slim checkpoint of mesh-transformer-jax, `step_N` or the directory that has
    /// only this one, where a missing `config.json` means GPT-J-6B. Or a GGUF or GGML file, or a directory that has one
    /// of these and no other model. The `eos_token_id` of a `generation_config.json` wins over that of `config.json`.
    ///
    /// # Errors
    /// Where a file is missing or damaged, the configuration is not GPT-J's or CodeGen's, or the tensors do not fit it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unchecked(path)?.checked()
    }

    /// The same as a model of this class, whatever the configuration says of its own: tensors of another head are
    /// passed over, and those of this one must be there. Where the configuration names no labels, a classification has
    /// two, `LABEL_0` and `LABEL_1`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_as(path: &Path, class: Class) -> Result<Self> {
        Self::open_unchecked(path)?.into_class(class)
    }

    /// The same whatever the tensors are.
    fn open_unchecked(path: &Path) -> Result<Self> {
        if has_tensor_files(path) {
            return Self::open_directory(path);
        }
        if let Some(step) = mesh::find(path)? {
            let has_config = |directory: &&Path| directory.join("config.json").exists();
            let config = [path, &step].into_iter().find(has_config).map(read_config).transpose()?;
            let config = config.unwrap_or_default();
            let sources = vec![mesh::open(&step, &config)?];
            return Ok(Self::new(path, config, sources));
        }
        match single_file(path)? {
            Some(file) => {
                let (config, source) = ggml::open(&file)?;
                Ok(Self::new(&file, config, vec![Box::new(source)]))
            }
            None => Self::open_directory(path),
        }
    }

    fn open_directory(directory: &Path) -> Result<Self> {
        let config = read_config(directory)?;
        for open in [safetensors::open_directory, pytorch::open_directory] {
            if let Some(sources) = open(directory)? {
                return Ok(Self::new(directory, config, sources));
            }
        }
        let reason = "no model.safetensors, no pytorch_model.bin, and no index of shards of either (….index.json) in this \
                      directory";
        Err(Error::checkpoint(directory, reason))
    }

    /// Takes a model that is in memory already: the text of its `config.json` and the bytes of its
    /// `model.safetensors`. `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_static(name: &str, config: &str, tensors: &'static [u8]) -> Result<Self> {
        let path = Path::new(name);
        let config = Config::parse(config, path)?;
        let file = SafetensorsFile::new(MappedFile::from_static(path, tensors))?;
        Self::new(path, config, vec![Box::new(file)]).checked()
    }

    /// The same checkpoint as a model of another class.
    ///
    /// # Errors
    /// Where it lacks the tensors of that class's head.
    pub fn into_class(self, class: Class) -> Result<Self> {
        let config = Config { class, ..self.config }.checked(&self.path)?;
        Self { config, ..self }.checked()
    }

    fn new(path: &Path, config: Config, sources: Vec<Box<dyn Source>>) -> Self {
        let sources = codegen::as_gptj(sources, &config);
        let mut names = sources.iter().flat_map(|source| source.names());
        let prefix = if names.any(|name| name.starts_with("transformer.")) { "transformer." } else { "" };
        Self { path: path.to_owned(), config, sources, prefix, adapters: Vec::new() }
    }

    /// The same, where every tensor is there and has the shape and the number format it must have.
    fn checked(self) -> Result<Self> {
        if let Some(error) = self.intruders().into_iter().next() {
            return Err(error);
        }
        let mut missing = Vec::new();
        for name in TensorName::all(&self.config) {
            match self.source_of(name) {
                Some(source) => _ = self.view(source, name)?,
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            return Ok(self);
        }
        let names: Vec<_> = missing.iter().map(|name| name.in_file(self.prefix)).collect();
        let mut reason = format!("{} of the model's tensors are missing: {}", missing.len(), list(&names));
        let head = TensorName::all(&self.config).into_iter().filter(|name| name.is_of_head());
        if missing == head.collect::<Vec<_>>() {
            reason += &format!("; they are the head of a {}, which this model is not", self.config.class);
        }
        // A prefix or a name that nobody expected shows here.
        let surplus = self.surplus();
        if !surplus.is_empty() {
            reason += &format!("; {} others are here that it does not have: {}", surplus.len(), list(&surplus));
        }
        Err(Error::checkpoint(&self.path, reason))
    }

    /// What must not be there: a tensor for the second time, and blocks that the configuration does not have, of each
    /// of which one tensor is named.
    fn intruders(&self) -> Vec<Error> {
        let mut tensors: Vec<(String, &Path)> = Vec::new();
        for source in &self.sources {
            tensors.extend(source.names().into_iter().map(|name| (name, source.path())));
        }
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let twice = tensors.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| {
            let reason = format!("it is in {} as well; which one is meant?", pair[0].1.display());
            Error::tensor(&pair[1].0, pair[1].1, reason)
        });
        let block = |name: &str| -> Option<usize> {
            name.strip_prefix(self.prefix)?.strip_prefix("h.")?.split_once('.')?.0.parse().ok()
        };
        let n_layer = self.config.n_layer;
        let mut blocks = BTreeMap::new();
        for (name, path) in &tensors {
            if let Some(block) = block(name).filter(|&block| block >= n_layer) {
                blocks.entry(block).or_insert((name, path));
            }
        }
        let of_no_block = blocks.iter().map(|(block, (name, path))| {
            let last = n_layer - 1;
            let reason = format!(
                "it is of block {block}, and the configuration's n_layer, {n_layer}, makes block {last} the last"
            );
            Error::tensor(name, path, reason)
        });
        twice.chain(of_no_block).collect()
    }

    /// The names of tensors that the model does not have. Where others are missing, a prefix or a name that nobody
    /// expected shows here.
    fn surplus(&self) -> Vec<String> {
        let known: HashSet<_> = TensorName::all(&self.config).iter().map(|name| name.in_file(self.prefix)).collect();
        let mut surplus: Vec<_> = self.sources.iter().flat_map(|source| source.names()).collect();
        surplus.retain(|name| !known.contains(name) && !names::is_buffer(name));
        surplus.sort();
        surplus
    }

    /// Where it is: a directory, or a file that is the whole model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One of the model's tensors.
    ///
    /// # Errors
    /// [`Error::Tensor`] where its shape or number format is wrong.
    ///
    /// # Panics
    /// Where `name` is not of this model; every tensor that is was found when the checkpoint was opened.
    pub fn tensor(&self, name: TensorName) -> Result<TensorView<'_>> {
        let source = self.source_of(name).expect("a checkpoint that opened has all its tensors");
        self.view(source, name)
    }

    fn source_of(&self, name: TensorName) -> Option<&dyn Source> {
        let in_file = name.in_file(self.prefix);
        self.sources.iter().map(AsRef::as_ref).find(|source| source.contains(&in_file))
    }

    fn view<'a>(&self, source: &'a dyn Source, name: TensorName) -> Result<TensorView<'a>> {
        let view = source.view(&name.in_file(self.prefix))?;
        let expected = name.shape(&self.config);
        if view.shape() != expected {
            let reason = format!("its shape is {:?}; the configuration makes it {expected:?}", view.shape());
            return Err(Error::tensor(view.name(), source.path(), reason));
        }
        Ok(view)
    }
}

/// Whether a directory has the files that Hugging Face's models have; then others in it do not matter.
fn has_tensor_files(path: &Path) -> bool {
    safetensors::is_in(path) || pytorch::is_in(path)
}

/// The file that is the whole model at `path`, where one is.
fn single_file(path: &Path) -> Result<Option<PathBuf>> {
    if has_tensor_files(path) { Ok(None) } else { ggml::find(path) }
}

/// The tokenizer of the model at `path`, where it is a file that holds one; of at most `limit` tokens.
pub(crate) fn vocabulary(path: &Path, limit: usize) -> Result<Option<Vocabulary>> {
    match single_file(path)? {
        Some(file) => ggml::vocabulary(&file, limit),
        None => Ok(None),
    }
}

/// The configuration in a directory.
fn read_config(directory: &Path) -> Result<Config> {
    let path = directory.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::read(&path, error))?;
    let mut config = Config::parse(&text, &path)?;
    if let Some(ids) = end_of_text_ids(&directory.join("generation_config.json"))? {
        config.eos_token_ids = ids;
    }
    Ok(config)
}

/// The first few names of a list.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(5).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { shown + ", …" } else { shown }
}

/// The `eos_token_id` of a `generation_config.json`, which overrides the one in `config.json`.
fn end_of_text_ids(path: &Path) -> Result<Option<Vec<u32>>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path, error)),
    };
    let file: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::config(path, error.to_string()))?;
    let id = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match &file["eos_token_id"] {
        serde_json::Value::Null => return Ok(None),
        serde_json::Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    ids.map(Some).ok_or_else(|| Error::config(path, "eos_token_id is not a token id or a list of them"))
}
