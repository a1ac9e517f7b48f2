//! The tokenizer in a model file, as lists of tokens and merges.

use std::path::PathBuf;

/// A byte-level BPE from a model file.
pub struct Vocabulary {
    /// The file.
    pub path: PathBuf,
    /// Each token, by its id: in GPT-2's spelling of bytes, or, in some files, the bytes themselves.
    pub tokens: Vec<Vec<u8>>,
    /// The kind of each token, if the file says it.
    pub kinds: Option<Vec<TokenKind>>,
    /// Pairs of tokens to merge, by descending priority, each as two tokens with a space between them.
    pub merges: Vec<Vec<u8>>,
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A sequence of bytes.
    Bytes,
    /// An added token, recognised in text as a whole.
    Added,
    /// An added token that is not part of the text, like `<|endoftext|>`.
    Special,
}
