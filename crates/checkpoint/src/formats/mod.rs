//! One module per file format. Each opens its files as [`Source`]s: tensors by Hugging Face's names.

#[cfg(any(feature = "mesh-jax", feature = "pytorch"))]
mod archive;
pub(crate) mod codegen;
#[cfg(feature = "ggml")]
pub(crate) mod ggml;
#[cfg(feature = "mesh-jax")]
pub(crate) mod mesh_jax;
#[cfg(feature = "pytorch")]
pub(crate) mod pytorch;
pub(crate) mod safetensors;
pub(crate) mod shards;

use std::path::{Path, PathBuf};

use crate::config::{Config, read_config};
use crate::error::{Error, Result};
use crate::source::Source;
use crate::vocabulary::Vocabulary;

/// A model's files, not yet checked against its configuration.
pub(crate) struct Opened {
    /// The directory, or the file that is the whole model.
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
    pub(crate) sources: Vec<Box<dyn Source>>,
}

/// Opens the model at `path`: Hugging Face's files win over a checkpoint of mesh-transformer-jax, and that over a GGUF
/// or GGML file.
pub(crate) fn open(path: &Path) -> Result<Opened> {
    if has_tensor_files(path) {
        return open_directory(path);
    }
    #[cfg(feature = "mesh-jax")]
    if let Some(step) = mesh_jax::find(path)? {
        let config = mesh_config(path, &step)?;
        let sources = vec![mesh_jax::open(&step, &config)?];
        return Ok(Opened { path: path.to_owned(), config, sources });
    }
    #[cfg(feature = "ggml")]
    if let Some(file) = ggml::find(path)? {
        let (config, source) = ggml::open(&file)?;
        return Ok(Opened { path: file, config, sources: vec![Box::new(source)] });
    }
    open_directory(path)
}

/// The configuration of the model at `path`, with or without its weights.
pub(crate) fn config(path: &Path) -> Result<Config> {
    if !has_tensor_files(path) {
        #[cfg(feature = "mesh-jax")]
        if let Some(step) = mesh_jax::find(path)? {
            return mesh_config(path, &step);
        }
        #[cfg(feature = "ggml")]
        if let Some(file) = ggml::find(path)? {
            return Ok(ggml::open(&file)?.0);
        }
    }
    read_config(path)
}

/// The configuration of a checkpoint of mesh-transformer-jax, `step` in `path`; GPT-J-6B's if there is no file.
#[cfg(feature = "mesh-jax")]
fn mesh_config(path: &Path, step: &Path) -> Result<Config> {
    let has_config = |directory: &&Path| directory.join("config.json").exists();
    let config = [path, step].into_iter().find(has_config).map(read_config).transpose()?;
    Ok(config.unwrap_or_default())
}

/// Opens a Hugging Face directory; safetensors win over PyTorch's files.
fn open_directory(directory: &Path) -> Result<Opened> {
    let config = read_config(directory)?;
    let opened = |sources| Ok(Opened { path: directory.to_owned(), config, sources });
    if let Some(sources) = safetensors::open_directory(directory)? {
        return opened(sources);
    }
    #[cfg(feature = "pytorch")]
    if let Some(sources) = pytorch::open_directory(directory)? {
        return opened(sources);
    }
    Err(Error::NoWeights(directory.to_owned()))
}

/// Whether a directory has tensors in Hugging Face's formats; then files of other formats are ignored.
fn has_tensor_files(path: &Path) -> bool {
    #[cfg(feature = "pytorch")]
    if pytorch::is_in(path) {
        return true;
    }
    safetensors::is_in(path)
}

/// The vocabulary, of at most `limit` tokens, in the model file at `path`, if it has one.
///
/// # Errors
/// [`Error::Read`], [`Error::Checkpoint`] or [`Error::Tokenizer`] if the file is damaged or its tokenizer is not
/// GPT-2's.
pub fn vocabulary(path: &Path, limit: usize) -> Result<Option<Vocabulary>> {
    #[cfg(feature = "ggml")]
    if !has_tensor_files(path)
        && let Some(file) = ggml::find(path)?
    {
        return ggml::vocabulary(&file, limit);
    }
    #[cfg(not(feature = "ggml"))]
    let _ = (path, limit);
    Ok(None)
}
