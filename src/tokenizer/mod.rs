//! Text to token ids and back: a thin wrapper around Hugging Face's `tokenizers`.
//!
//! GPT-J's tokenizer is GPT-2's byte-level BPE. A prompt gets no begin-of-text token.

mod vocabulary;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokenizers::models::bpe::BPE;
use tokenizers::models::bpe::Error::{BadMerges, MergeTokenOutOfVocabulary};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::checkpoint;
use crate::error::{Error, Result};

/// Turns text into token ids and back. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

impl Tokenizer {
    /// Opens the tokenizer of a Hugging Face model directory (`tokenizer.json`, or `vocab.json` and `merges.txt` with
    /// or without `added_tokens.json`) or of a GGUF file, which may be the only model in its directory. `None` if there
    /// is none. Every id must be below `vocab_size`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the files are damaged or do not fit the model.
    pub fn open(path: &Path, vocab_size: usize) -> Result<Option<Self>> {
        let json = path.join("tokenizer.json");
        let vocab = path.join("vocab.json");
        if json.exists() {
            let bytes = std::fs::read(&json).map_err(|error| Error::read(&json, error))?;
            return Self::from_bytes(&json.to_string_lossy(), &bytes, vocab_size).map(Some);
        }
        if !vocab.exists() {
            let Some(vocabulary) = checkpoint::vocabulary(path, vocab_size)? else { return Ok(None) };
            let inner = vocabulary::tokenizer(&vocabulary)?;
            return Self(Arc::new(inner)).check(&vocabulary.path, vocab_size).map(Some);
        }
        let inner = byte_level_bpe(&vocab, &path.join("merges.txt"), &path.join("added_tokens.json"))?;
        Self(Arc::new(inner)).check(&vocab, vocab_size).map(Some)
    }

    /// Reads the bytes of a `tokenizer.json`; messages call it `name`.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_bytes(name: &str, bytes: &[u8], vocab_size: usize) -> Result<Self> {
        let path = Path::new(name);
        // The library panics if the JSON breaks off within the decoder, and on some other kinds of tokenizer.
        let json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| Error::tokenizer(path, error.to_string()))?;
        let is_byte_level_bpe = json["decoder"]["type"] == "ByteLevel"
            && json["normalizer"].is_null()
            && json["model"]["continuing_subword_prefix"].as_str().unwrap_or_default().is_empty();
        if json["model"].is_object() && !is_byte_level_bpe {
            let reason = "not a byte-level BPE (decoder ByteLevel, no normalizer, no subword prefix), as GPT-J's is";
            return Err(Error::tokenizer(path, reason));
        }
        let merges = json["model"]["merges"].as_array().into_iter().flatten();
        let pairs = merges.filter_map(|merge| match merge {
            serde_json::Value::String(merge) => merge.split_once(' '),
            merge => merge[0].as_str().zip(merge[1].as_str()),
        });
        check_merges(path, pairs, |token| json["model"]["vocab"].get(token).is_some())?;
        let mut inner = Inner::from_bytes(bytes).map_err(|error| Error::tokenizer(path, error.to_string()))?;
        // Left over from training: how its texts were truncated and padded.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::tokenizer(path, error.to_string()))?;
        Self(Arc::new(inner)).check(path, vocab_size)
    }

    fn check(self, path: &Path, vocab_size: usize) -> Result<Self> {
        let largest = self.0.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        match largest {
            Some((token, id)) if id as usize >= vocab_size => {
                let reason = format!(
                    "token {token:?} has id {id}, but the model's vocabulary has only {vocab_size} tokens; \
                     this is the tokenizer of another model"
                );
                Err(Error::tokenizer(path, reason))
            }
            _ => Ok(self),
        }
    }

    /// The ids of a text, in which `<|endoftext|>` and other added tokens are recognised.
    ///
    /// # Errors
    /// [`Error::Prompt`] if the tokenizer has no token for a part of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.0.encode_fast(text, false);
        Ok(encoding.map_err(|error| Error::Prompt(format!("cannot tokenize: {error}")))?.get_ids().to_vec())
    }

    /// The text of ids, with U+FFFD for bytes that are not UTF-8. Ids without a token have no text.
    ///
    /// # Errors
    /// [`Error::Prompt`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.0.decode(ids, false).map_err(|error| Error::Prompt(format!("cannot turn tokens into text: {error}")))
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    ///
    /// # Panics
    /// Never: the tokenizer was read from such a text, or from parts of one.
    pub fn to_json(&self) -> String {
        self.0.to_string(true).expect("a tokenizer can be written as it can be read")
    }

    /// A token as the vocabulary has it, in GPT-2's spelling of bytes.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }
}

/// GPT-2's tokenizer from the files that preceded `tokenizer.json`.
fn byte_level_bpe(vocab: &Path, merges: &Path, added: &Path) -> Result<Inner> {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    if !merges.exists() {
        return Err(Error::tokenizer(merges, "missing; vocab.json needs it"));
    }
    let failed = |error: tokenizers::Error| {
        let about_merges = matches!(error.downcast_ref(), Some(BadMerges(_) | MergeTokenOutOfVocabulary(_)));
        Error::tokenizer(if about_merges { merges } else { vocab }, error.to_string())
    };
    let (tokens, pairs) = BPE::read_file(&name(vocab), &name(merges)).map_err(failed)?;
    let pairs_in_file = pairs.iter().map(|(left, right)| (left.as_str(), right.as_str()));
    check_merges(merges, pairs_in_file, |token| tokens.contains_key(token))?;
    let bpe = BPE::builder().vocab_and_merges(tokens, pairs).build().map_err(failed)?;
    let mut inner = byte_level(bpe);
    let failed = |error: tokenizers::Error| Error::tokenizer(added, error.to_string());
    // In the vocabulary, but not made of bytes: it must be recognised before the text is split.
    if inner.token_to_id(END_OF_TEXT).is_some() {
        inner.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]).map_err(failed)?;
    }
    if added.exists() {
        let text = std::fs::read_to_string(added).map_err(|error| Error::read(added, error))?;
        let tokens: BTreeMap<String, u32> =
            serde_json::from_str(&text).map_err(|error| Error::tokenizer(added, error.to_string()))?;
        let mut by_id: Vec<_> = tokens.into_iter().collect();
        by_id.sort_by_key(|(_, id)| *id);
        // All at once: the library rebuilds its matcher on each call.
        inner.add_tokens(by_id.iter().map(|(token, _)| AddedToken::from(token.as_str(), false))).map_err(failed)?;
        for (token, id) in by_id {
            // The library numbers added tokens itself, from the end of the vocabulary on.
            if inner.token_to_id(&token) != Some(id) {
                let reason = format!("token {token:?} has id {id}; added tokens must follow the others without a gap");
                return Err(Error::tokenizer(added, reason));
            }
        }
    }
    Ok(inner)
}

/// Fails if two tokens merge into one that does not exist, on which the library would panic.
fn check_merges<'a>(
    path: &Path,
    mut pairs: impl Iterator<Item = (&'a str, &'a str)>,
    is_token: impl Fn(&str) -> bool,
) -> Result<()> {
    let is_wrong =
        |(left, right): &(&str, &str)| is_token(left) && is_token(right) && !is_token(&format!("{left}{right}"));
    match pairs.find(is_wrong) {
        None => Ok(()),
        Some((left, right)) => {
            let reason = format!("merge {left:?} {right:?} makes a token that is not in the vocabulary");
            Err(Error::tokenizer(path, reason))
        }
    }
}

/// GPT-2's tokenizer with these tokens.
fn byte_level(bpe: BPE) -> Inner {
    let mut inner = Inner::new(bpe);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::default()));
    inner
}

const END_OF_TEXT: &str = "<|endoftext|>";

/// Decodes a growing text: returns text as soon as it is certain and holds back the rest.
///
/// Held back are an incomplete character and a possible beginning of a stop string.
#[derive(Clone)]
pub struct TextStream {
    tokenizer: Tokenizer,
    stop: Vec<String>,
    /// Tokens whose text is not all released: they end inside a character.
    tokens: Vec<u32>,
    /// Bytes of these tokens' text that are in `held` or released already.
    taken: usize,
    /// Text that may begin a stop string.
    held: String,
}

/// The text that a token adds to a [`TextStream`].
#[derive(Debug, PartialEq, Eq)]
pub enum TextDelta {
    /// More text; empty if none is certain yet.
    Text(String),
    /// The rest of the text, up to the stop string that appeared.
    Stopped(String),
}

impl TextStream {
    /// An empty text that ends before the first of `stop`, none of which may be empty.
    pub fn new(tokenizer: &Tokenizer, stop: &[String]) -> Self {
        Self { tokenizer: tokenizer.clone(), stop: stop.to_vec(), tokens: Vec::new(), taken: 0, held: String::new() }
    }

    /// Adds a token.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, token: u32) -> Result<TextDelta> {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens)?;
        // One replacement character at the end stands for bytes that more bytes may complete.
        let certain = text.strip_suffix('\u{FFFD}').unwrap_or(&text);
        self.held.push_str(certain.get(self.taken..).unwrap_or_default());
        if certain.len() == text.len() {
            self.tokens.clear();
            self.taken = 0;
        } else {
            self.taken = self.taken.max(certain.len());
        }
        Ok(self.release())
    }

    /// The held text, after the last token.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.tokens)?;
        self.held.push_str(text.get(self.taken..).unwrap_or_default());
        Ok(self.held)
    }

    fn release(&mut self) -> TextDelta {
        if let Some(end) = self.stop.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(end);
            self.tokens.clear();
            return TextDelta::Stopped(std::mem::take(&mut self.held));
        }
        let may_begin_stop = |start: &usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[*start..]));
        let starts = self.held.char_indices().map(|(start, _)| start);
        let certain = starts.into_iter().find(may_begin_stop).unwrap_or(self.held.len());
        let rest = self.held.split_off(certain);
        TextDelta::Text(std::mem::replace(&mut self.held, rest))
    }
}
