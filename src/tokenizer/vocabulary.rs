//! A tokenizer from the lists of tokens and merges in a GGUF file.

use std::collections::BTreeSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::{END_OF_TEXT, byte_level};
use crate::error::{Error, Result};
use gptj_checkpoint::{TokenKind, Vocabulary};

/// The tokenizer of this vocabulary.
pub(super) fn tokenizer(vocabulary: &Vocabulary) -> Result<Inner> {
    let refuse = |reason: String| Error::tokenizer(&vocabulary.path, format!("{reason}; use a tokenizer.json instead"));
    let kinds = kinds(vocabulary);
    let tokens = spell(vocabulary, &kinds).map_err(|id| refuse(format!("token {id} is not UTF-8")))?;

    let mut ids = Vocab::default();
    for (id, token) in (0..).zip(&tokens) {
        if let Some(other) = ids.insert(token.clone(), id) {
            return Err(refuse(format!("tokens {other} and {id} are both {token:?}")));
        }
    }
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for merge in &vocabulary.merges {
        let parts = std::str::from_utf8(merge).ok().and_then(|merge| merge.split_once(' '));
        // The library panics unless all three are tokens.
        let known = parts.filter(|(left, right)| {
            ids.contains_key(*left) && ids.contains_key(*right) && ids.contains_key(&format!("{left}{right}"))
        });
        let Some((left, right)) = known else {
            let merge = String::from_utf8_lossy(merge);
            return Err(refuse(format!("merge {merge:?} is not two tokens that make a third")));
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    let bpe = BPE::builder().vocab_and_merges(ids, merges).build().map_err(|error| refuse(error.to_string()))?;
    let mut inner = byte_level(bpe);
    let added = tokens.into_iter().zip(kinds).filter_map(|(token, kind)| match kind {
        TokenKind::Bytes => None,
        TokenKind::Added => Some(AddedToken::from(token, false)),
        TokenKind::Special => Some(AddedToken::from(token, true)),
    });
    // All at once: the library rebuilds its matcher on each call.
    inner.add_tokens(added).map_err(|error| refuse(error.to_string()))?;
    Ok(inner)
}

/// The kind of each token. If the file does not say it, tokens that look like GPT-J's added ones count as such.
fn kinds(vocabulary: &Vocabulary) -> Vec<TokenKind> {
    let kind = |token: &Vec<u8>| match token.as_slice() {
        token if token == END_OF_TEXT.as_bytes() => TokenKind::Special,
        token if token.starts_with(b"<|") && token.ends_with(b"|>") && token.len() > 4 => TokenKind::Added,
        _ => TokenKind::Bytes,
    };
    vocabulary.kinds.clone().unwrap_or_else(|| vocabulary.tokens.iter().map(kind).collect())
}

/// The tokens in GPT-2's spelling; the error is the id of one that is not UTF-8.
fn spell(vocabulary: &Vocabulary, kinds: &[TokenKind]) -> Result<Vec<String>, usize> {
    let alphabet = alphabet();
    let letters: BTreeSet<char> = alphabet.into_iter().collect();
    let is_spelled = |token: &[u8]| {
        std::str::from_utf8(token).is_ok_and(|token| token.chars().all(|letter| letters.contains(&letter)))
    };
    let of_bytes = |kind: TokenKind| kind == TokenKind::Bytes;
    // Every vocabulary has a token for the space, which the alphabet does not have.
    let is_raw = vocabulary.tokens.iter().zip(kinds).any(|(token, kind)| of_bytes(*kind) && !is_spelled(token));
    let tokens = vocabulary.tokens.iter().zip(kinds).enumerate();
    tokens
        .map(|(id, (token, kind))| {
            if is_raw && of_bytes(*kind) {
                return Ok(token.iter().map(|&byte| alphabet[usize::from(byte)]).collect());
            }
            String::from_utf8(token.clone()).map_err(|_| id)
        })
        .collect()
}

/// GPT-2's letters for the 256 bytes: a printable byte is its own letter; the others get those from U+0100 on, in
/// order.
fn alphabet() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match u8::try_from(byte) {
        Ok(byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..)) => char::from(byte),
        _ => others.next().expect("there are many more letters"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_that_of_the_library() {
        let alphabet: BTreeSet<char> = alphabet().into_iter().collect();
        let library: BTreeSet<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        assert_eq!(alphabet, library);
        assert_eq!(super::alphabet()[usize::from(b' ')], 'Ġ');
    }
}
