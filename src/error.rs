//! Everything that can go wrong with what a user hands over: files, options, prompts, a GPU.
//!
//! A message names the thing and says what to do about it. Broken invariants of the engine itself are not here: they
//! are assertions where they are relied on.

use std::path::{Path, PathBuf};

use crate::config::Class;

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },

    /// A file could not be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },

    /// A configuration file is not one of a GPT-J or CodeGen model, or contradicts itself.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },

    /// A checkpoint file is damaged, or holds other tensors than its configuration needs.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file, or the directory where it is about several files.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },

    /// A tensor of the checkpoint cannot be used.
    #[error("tensor {name} in {}: {reason}", path.display())]
    Tensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The file that holds it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The tokenizer's files cannot be used with the model.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },

    /// The prompt cannot be used with the model.
    #[error("{0}")]
    Prompt(String),

    /// What was being done was stopped, as its caller wished.
    #[error("stopped")]
    Stopped,

    /// An option is outside its range.
    #[error("{name}: {reason}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What it must be.
        reason: String,
    },

    /// The model has no head for what is asked of it.
    #[error("the model is a {is} here, and this takes a {wanted}")]
    Class {
        /// The class that it was opened as.
        is: Class,
        /// The class that it must be of.
        wanted: Class,
    },

    /// What a model computed is no number: NaN or infinite.
    #[error("{0} are not finite; the model's weights are damaged, or so large that its numbers overflow")]
    Numbers(&'static str),

    /// There is no GPU, or not the one asked for.
    #[error("{0}")]
    Adapter(String),

    /// The GPU's memory or the size of its buffers does not suffice.
    #[error("not enough GPU memory for {what} ({bytes} bytes): {reason}")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// Its size.
        bytes: u64,
        /// What the driver said, or which limit is exceeded.
        reason: String,
    },

    /// The GPU or its driver failed while working; results since then are void.
    #[error("the GPU failed: {0}")]
    Gpu(String),
}

impl Error {
    pub(crate) fn read(path: &Path, reason: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), reason }
    }

    pub(crate) fn write(path: &Path, reason: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), reason }
    }

    pub(crate) fn config(path: &Path, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tensor(name: &str, path: &Path, reason: impl Into<String>) -> Self {
        Self::Tensor { name: shown(name), path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tokenizer(path: &Path, reason: impl Into<String>) -> Self {
        Self::Tokenizer { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn option(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Option { name, reason: reason.into() }
    }
}

/// What a file says, as messages can show it: nothing in it moves the cursor, and it ends.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let escaped: String = text.escape_debug().take(LONGEST).collect();
    if text.len() > LONGEST { escaped + "…" } else { escaped }
}

/// What fallible functions of the engine return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
