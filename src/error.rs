//! Errors of the user's input (files, options, prompts) and of the GPU.
//!
//! A message names the thing and says what to do about it. Broken invariants of the engine itself are assertions where
//! they are relied on.

use std::path::Path;

use gptj_checkpoint::{self as checkpoint, Class};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model's files cannot be used.
    #[error(transparent)]
    Checkpoint(checkpoint::Error),

    /// The prompt cannot be used with the model.
    #[error("{0}")]
    Prompt(String),

    /// A progress callback stopped the work.
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

    /// The model's class lacks the head for this task.
    #[error("the model is a {is}; this needs a {wanted}")]
    Class {
        /// The class that the model was opened as.
        is: Class,
        /// The class that it must have.
        wanted: Class,
    },

    /// The model produced NaN or infinite values.
    #[error("{0} are not finite; the model's weights are damaged, or so large that its numbers overflow")]
    NonFinite(&'static str),

    /// No GPU, or not the one asked for.
    #[error("{0}")]
    Adapter(String),

    /// The GPU has too little memory, or its largest buffer is too small.
    #[error("not enough GPU memory for {what} ({bytes} bytes): {reason}")]
    OutOfMemory {
        /// The allocation.
        what: String,
        /// Its size.
        bytes: u64,
        /// The driver's message, or the limit that is exceeded.
        reason: String,
    },

    /// The GPU or its driver failed while working; results since then are void.
    #[error("the GPU failed: {0}")]
    Gpu(String),
}

impl From<checkpoint::Error> for Error {
    /// Maps prompt, stop and option errors to the variants of the same name, all others to [`Error::Checkpoint`].
    fn from(error: checkpoint::Error) -> Self {
        match error {
            checkpoint::Error::Prompt(reason) => Self::Prompt(reason),
            checkpoint::Error::Stopped => Self::Stopped,
            checkpoint::Error::Option { name, reason } => Self::Option { name, reason },
            other => Self::Checkpoint(other),
        }
    }
}

impl Error {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Checkpoint(checkpoint::Error::read(path, source))
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Checkpoint(checkpoint::Error::write(path, source))
    }

    pub(crate) fn tensor(name: &str, path: &Path, reason: impl Into<String>) -> Self {
        Self::Checkpoint(checkpoint::Error::tensor(name, path, reason))
    }

    pub(crate) fn tokenizer(path: &Path, reason: impl Into<String>) -> Self {
        Self::Checkpoint(checkpoint::Error::tokenizer(path, reason))
    }

    pub(crate) fn option(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Option { name, reason: reason.into() }
    }
}

/// Names a model's outputs in messages.
pub(crate) const LOGITS: &str = "the logits";

/// The result of the engine's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
