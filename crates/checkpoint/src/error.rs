//! Errors of checkpoint files, the Hub, and inputs that a configuration rules out.

use std::path::{Path, PathBuf};

use crate::message::shown;

/// Why a checkpoint could not be opened, read, converted or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A configuration file does not describe a GPT-J or CodeGen model, or contradicts itself.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A checkpoint file is damaged, or its tensors do not match the configuration.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file, or the directory if several files are concerned.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A model's directory has a configuration, but no tensor files.
    #[error("{}: {NO_WEIGHTS} in this directory", .0.display())]
    NoWeights(PathBuf),

    /// A tensor of the checkpoint cannot be used.
    #[error("tensor {name} in {}: {reason}", path.display())]
    Tensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The tokenizer in a model's file cannot be used.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The Hugging Face Hub, or the cache of its files, cannot provide a model.
    #[error("{name} on the Hugging Face Hub: {reason}")]
    Hub {
        /// The model's name there.
        name: String,
        /// The reason, and what to do about it.
        reason: String,
    },

    /// A prompt that a model of this configuration cannot read.
    #[error("{0}")]
    Prompt(String),

    /// An option is outside its range.
    #[error("{name}: {reason}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What it must be.
        reason: String,
    },

    /// A progress callback stopped the work.
    #[error("stopped")]
    Stopped,
}

/// The tensor files that were looked for.
const NO_WEIGHTS: &str = if cfg!(feature = "pytorch") {
    "no model.safetensors, no pytorch_model.bin, and no index of shards of either (….index.json)"
} else {
    "no model.safetensors and no model.safetensors.index.json (this program was built without other formats)"
};

impl Error {
    /// [`Error::Read`].
    pub fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// [`Error::Write`].
    pub fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// [`Error::Config`].
    pub fn config(path: &Path, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }

    /// [`Error::Checkpoint`].
    pub fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_owned(), reason: reason.into() }
    }

    /// [`Error::Tensor`]; a name that would garble a terminal is escaped and cut.
    pub fn tensor(name: &str, path: &Path, reason: impl Into<String>) -> Self {
        Self::Tensor { name: shown(name), path: path.to_owned(), reason: reason.into() }
    }

    /// [`Error::Tokenizer`].
    pub fn tokenizer(path: &Path, reason: impl Into<String>) -> Self {
        Self::Tokenizer { path: path.to_owned(), reason: reason.into() }
    }

    /// [`Error::Hub`].
    pub fn hub(name: &(impl ToString + ?Sized), reason: impl Into<String>) -> Self {
        Self::Hub { name: name.to_string(), reason: reason.into() }
    }

    /// [`Error::Option`].
    pub fn option(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Option { name, reason: reason.into() }
    }
}

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
