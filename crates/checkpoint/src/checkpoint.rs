//! A checkpoint: its configuration, the sources of its tensors, and the adapters added to it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
#[cfg(feature = "hub")]
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, LowRank};
use crate::config::{Class, Config};
use crate::elements::TensorView;
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
use crate::formats::safetensors::SafetensorsFile;
use crate::formats::{self, Opened};
#[cfg(feature = "hub")]
use crate::hub::{Extent, Hub, HubProgress};
use crate::message::list;
use crate::names::{self, BlockTensor, TensorName};
use crate::source::Source;

/// A model on disk: its configuration and its tensors, all present and of the right shape.
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    sources: Vec<Box<dyn Source>>,
    /// The prefix of all tensors' names but the head's.
    pub(crate) prefix: &'static str,
    adapters: Vec<Adapter>,
}

impl Checkpoint {
    /// Opens one of these:
    /// - a Hugging Face model directory: `config.json`, and `model.safetensors` or else `pytorch_model.bin`, whole or
    ///   in shards. The `eos_token_id` of a `generation_config.json` wins over that of `config.json`;
    /// - a slim checkpoint of mesh-transformer-jax: `step_N`, or a directory with only one. Without a `config.json` it
    ///   is GPT-J-6B;
    /// - a GGUF or GGML file, or a directory with one of these and no other model.
    ///
    /// # Errors
    /// If a file is missing or damaged, the configuration is not GPT-J's or CodeGen's, or the tensors do not fit it;
    /// [`Error::NoWeights`] if a directory has a configuration and no tensors.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unchecked(path)?.checked()
    }

    /// The same as a model of this class, whatever class the configuration says: tensors of other heads are ignored,
    /// and those of this one must be there. If the configuration names no labels, a classification has two, `LABEL_0`
    /// and `LABEL_1`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_as(path: &Path, class: Class) -> Result<Self> {
        Self::open_unchecked(path)?.into_class(class)
    }

    /// A model of the Hugging Face Hub, like `EleutherAI/gpt-j-6b`, at a branch, tag or commit (`main` by default).
    /// Files in Hugging Face's own cache are used as they are; missing ones are downloaded to it first. Environment
    /// variables have the same effect as in `huggingface_hub`: see [`Hub::from_env`].
    ///
    /// # Errors
    /// As [`Hub::fetch`] and [`Checkpoint::open`].
    #[cfg(feature = "hub")]
    pub fn from_hub(
        name: &str,
        revision: Option<&str>,
        progress: &mut dyn FnMut(&HubProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        Self::open(&Hub::from_env()?.fetch(&name.parse()?, revision, Extent::Model, progress)?.path)
    }

    /// Only the configuration, of any model that [`Checkpoint::open`] opens, or of a directory without weights.
    ///
    /// # Errors
    /// If its file is missing or damaged, or the model is not a GPT-J or CodeGen.
    pub fn read_config(path: &Path) -> Result<Config> {
        formats::config(path)
    }

    /// As [`Checkpoint::open`], without checking the tensors.
    pub(crate) fn open_unchecked(path: &Path) -> Result<Self> {
        let Opened { path, config, sources } = formats::open(path)?;
        Ok(Self::new(&path, config, sources))
    }

    /// A model in memory: the text of its `config.json` and the bytes of its `model.safetensors`, `'static` or owned.
    /// Messages call it `name`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(name: &str, config: &str, tensors: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let path = Path::new(name);
        let config = Config::parse(config, path)?;
        let file = SafetensorsFile::new(FileBytes::from_memory(path, tensors.into()))?;
        Self::from_source(name, config, file)
    }

    /// [`Checkpoint::from_bytes`] for `'static` bytes.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_static(name: &str, config: &str, tensors: &'static [u8]) -> Result<Self> {
        Self::from_bytes(name, config, tensors)
    }

    /// A model whose tensors come from the caller's own source, which need not be in memory or in a file: it may fetch
    /// elements on demand ([`Elements::fetch`](crate::Elements::fetch)). Messages call it `name`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_source(name: &str, config: Config, source: impl Source + 'static) -> Result<Self> {
        Self::new(Path::new(name), config, vec![Box::new(source)]).checked()
    }

    /// The same checkpoint as a model of another class.
    ///
    /// # Errors
    /// If it lacks the tensors of that class's head.
    pub fn into_class(self, class: Class) -> Result<Self> {
        let config = Config { class, ..self.config }.checked(&self.path)?;
        Self { config, ..self }.checked()
    }

    fn new(path: &Path, config: Config, sources: Vec<Box<dyn Source>>) -> Self {
        let sources = formats::codegen::as_gptj(sources, &config);
        let mut names = sources.iter().flat_map(|source| source.names());
        let prefix = if names.any(|name| name.starts_with("transformer.")) { "transformer." } else { "" };
        Self { path: path.to_owned(), config, sources, prefix, adapters: Vec::new() }
    }

    /// Fails unless every tensor is there, with the right shape and a type that can be loaded.
    fn checked(self) -> Result<Self> {
        if let Some(error) = self.unexpected_tensors().into_iter().next() {
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
        // Shows an unexpected prefix or name.
        let surplus = self.surplus();
        if !surplus.is_empty() {
            reason += &format!("; {} tensors are here that the model does not have: {}", surplus.len(), list(&surplus));
        }
        Err(Error::checkpoint(&self.path, reason))
    }

    /// An error for each duplicate tensor, and for one tensor of each block that the configuration does not have.
    pub(crate) fn unexpected_tensors(&self) -> Vec<Error> {
        let mut tensors: Vec<(String, &Path)> = Vec::new();
        for source in &self.sources {
            tensors.extend(source.names().into_iter().map(|name| (name, source.path())));
        }
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let duplicates = tensors.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| {
            let reason = format!("it is in {} as well; remove one of the two", pair[0].1.display());
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
        let surplus_blocks = blocks.iter().map(|(block, (name, path))| {
            let last = n_layer - 1;
            let reason = format!("it is of block {block}, but with n_layer {n_layer} the last block is {last}");
            Error::tensor(name, path, reason)
        });
        duplicates.chain(surplus_blocks).collect()
    }

    /// The names of tensors that the model does not have: they explain missing ones, by an unexpected prefix or name.
    pub(crate) fn surplus(&self) -> Vec<String> {
        let known: HashSet<_> = TensorName::all(&self.config).iter().map(|name| name.in_file(self.prefix)).collect();
        let mut surplus: Vec<_> = self.sources.iter().flat_map(|source| source.names()).collect();
        surplus.retain(|name| !known.contains(name) && !names::is_buffer(name));
        surplus.sort();
        surplus
    }

    /// Its directory, or the file that is the whole model.
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
    /// [`Error::Tensor`] if its shape or type is wrong.
    ///
    /// # Panics
    /// If the model has no tensor of this name. All that it has were found at opening.
    pub fn tensor(&self, name: TensorName) -> Result<TensorView<'_>> {
        let source = self.source_of(name).expect("a checkpoint that opened has all its tensors");
        self.view(source, name)
    }

    /// Adds the PEFT adapter in `directory`, multiplied by `scale`: loading and writing the checkpoint will merge it.
    /// [`Checkpoint::tensor`] still returns the tensors without it.
    ///
    /// # Errors
    /// If it is damaged, is more than LoRA of the blocks' matrices, or does not fit the model.
    pub fn add_adapter(&mut self, directory: &Path, scale: f32) -> Result<()> {
        self.adapters.push(Adapter::open(directory, scale, &self.config)?);
        Ok(())
    }

    /// The adapters, in the order in which they were added.
    pub fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// The sum of the adapters' products for a tensor of a block; `None` if none of them changes it.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a number of an adapter is not finite.
    pub fn low_rank(&self, layer: usize, tensor: BlockTensor) -> Result<Option<LowRank>> {
        LowRank::of(&self.adapters, layer, tensor, &self.config)
    }

    pub(crate) fn source_of(&self, name: TensorName) -> Option<&dyn Source> {
        let in_file = name.in_file(self.prefix);
        self.sources.iter().map(AsRef::as_ref).find(|source| source.contains(&in_file))
    }

    pub(crate) fn view<'a>(&self, source: &'a dyn Source, name: TensorName) -> Result<TensorView<'a>> {
        let view = source.view(&name.in_file(self.prefix))?;
        let expected = name.shape(&self.config);
        if view.shape() != expected {
            let reason = format!("its shape is {:?}; the configuration makes it {expected:?}", view.shape());
            return Err(Error::tensor(view.name(), source.path(), reason));
        }
        Ok(view)
    }
}
