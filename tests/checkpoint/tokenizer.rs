//! The tokenizer against transformers', and text that streams token by token against text that is decoded at once.
//!
//! `tests/golden/README.md` says what the cases are. They exist for both forms that tokenizers come in: the demo
//! model's `tokenizer.json`, and `vocab.json` with `merges.txt` and `added_tokens.json`, as GPT-J's own.

use std::path::Path;

use gptj::Tokenizer;
use gptj::internals::tokenizer::{TextDelta, TextStream};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

use crate::common::golden;

#[derive(Deserialize)]
struct Case {
    /// `None` where the ids are no whole text: they end inside a character.
    text: Option<String>,
    ids: Vec<u32>,
    decoded: String,
}

fn open(directory: &str, vocab_size: u32) -> Tokenizer {
    let tokenizer = Tokenizer::open(Path::new(directory), vocab_size as usize);
    tokenizer.unwrap_or_else(|error| panic!("{error}")).expect("it has one")
}

/// Tokens of the demo model.
const DEMO_SIZE: u32 = 1024;
/// Tokens of the tokenizer in the form of GPT-J's own.
const BPE_SIZE: u32 = 312;

/// Each tokenizer, the number of its tokens, and what transformers makes of texts with it.
fn tokenizers() -> [(Tokenizer, u32, Vec<Case>); 2] {
    [("models/shakespeare", DEMO_SIZE, "golden/text.json"), ("tests/golden/bpe", BPE_SIZE, "golden/bpe/text.json")]
        .map(|(directory, size, cases)| (open(directory, size), size, golden::json(cases)))
}

#[test]
fn ids_and_texts_equal_transformers() {
    for (tokenizer, _, cases) in tokenizers() {
        for Case { text, ids, decoded } in cases {
            if let Some(text) = text {
                assert_eq!(tokenizer.encode(&text).expect("every byte has a token"), ids, "{text:?}");
            }
            assert_eq!(tokenizer.decode(&ids).expect("the ids are in the vocabulary"), decoded, "{ids:?}");
        }
    }
}

#[test]
fn a_tokenizer_needs_a_vocabulary_for_all_its_ids() {
    let open = |directory: &str, vocab_size: u32| Tokenizer::open(Path::new(directory), vocab_size as usize);
    for (directory, size) in [("models/shakespeare", DEMO_SIZE), ("tests/golden/bpe", BPE_SIZE)] {
        assert!(open(directory, size).is_ok_and(|tokenizer| tokenizer.is_some()));
        assert!(open(directory, size - 1).is_err(), "the last id of {directory} is out of the vocabulary");
    }
    assert!(open("tests/golden/tiny", 1024).is_ok_and(|none| none.is_none()), "there are no tokenizer files");
}

/// Streams `ids` to their end or to a stop string, and says whether there was one.
fn stream(tokenizer: &Tokenizer, ids: &[u32], stop: &[String]) -> (String, bool) {
    let mut text = String::new();
    let mut stream = TextStream::new(tokenizer, stop);
    for &id in ids {
        match stream.push(id).expect("the ids are in the vocabulary") {
            TextDelta::Text(piece) => text += &piece,
            TextDelta::Stopped(piece) => return (text + &piece, true),
        }
    }
    text += &stream.finish().expect("the ids are in the vocabulary");
    (text, false)
}

/// What is given out cannot be taken back, so that at any time it must be a beginning of the whole text. That leaves no
/// way to show half a character, except where the whole text has U+FFFD for it.
fn assert_streams(tokenizer: &Tokenizer, ids: &[u32]) {
    let whole = tokenizer.decode(ids).expect("the ids are in the vocabulary");
    let mut text = String::new();
    let mut growing = TextStream::new(tokenizer, &[]);
    for &id in ids {
        let TextDelta::Text(piece) = growing.push(id).expect("the id is in the vocabulary") else {
            panic!("stopped without a stop string");
        };
        text += &piece;
        assert!(whole.starts_with(&text), "{text:?} is no beginning of {whole:?}");
    }
    assert_eq!(stream(tokenizer, ids, &[]).0, whole, "{ids:?}");
}

#[test]
fn streamed_text_equals_text_decoded_at_once() {
    for (tokenizer, _, cases) in tokenizers() {
        for case in cases {
            assert_streams(&tokenizer, &case.ids);
        }
    }
}

/// Half of the tokens are pieces of characters, in any order, as a model may give them that was not trained well.
#[test]
fn any_tokens_at_all_stream_to_what_they_decode_to() {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    for (tokenizer, size, _) in tokenizers() {
        let is_half = |id: &u32| tokenizer.decode(&[*id]).expect("it is in the vocabulary").contains('\u{FFFD}');
        let halves: Vec<u32> = (0..size).filter(is_half).collect();
        assert!(halves.len() >= 128, "bytes from 128 on are no characters");
        for _ in 0..500 {
            let id = |_| {
                if random.random_bool(0.5) {
                    halves[random.random_range(0..halves.len())]
                } else {
                    random.random_range(0..size)
                }
            };
            assert_streams(&tokenizer, &(0..20).map(id).collect::<Vec<_>>());
        }
    }
}

#[test]
fn text_that_is_certain_comes_at_once() {
    let tokenizer = open("models/shakespeare", DEMO_SIZE);
    let ids = tokenizer.encode("Shall I compare thee to a summer's day?").expect("every byte has a token");
    // Nothing in this text may be its beginning.
    let stop = ["night".to_owned()];
    let mut stream = TextStream::new(&tokenizer, &stop);
    for id in ids {
        let text = tokenizer.decode(&[id]).expect("it is in the vocabulary");
        assert_eq!(stream.push(id).expect("it is in the vocabulary"), TextDelta::Text(text));
    }
}

/// Texts and stop strings, and what is left of the text where one of them appears in it.
const STOPS: [(&str, &[&str], Option<&str>); 15] = [
    ("To be, or not to be", &[", or"], Some("To be")),
    ("To be, or not to be", &["o"], Some("T")),
    ("To be, or not to be", &["To"], Some("")),
    ("To be, or not to be", &["to be"], Some("To be, or not ")),
    ("THE TEMPEST", &["MP"], Some("THE TE")),
    ("a man", &["n", "m"], Some("a ")),
    ("HAMLET.\nWords", &["\n", "W"], Some("HAMLET.")),
    ("[Exeunt.]<|endoftext|>THE", &["<|endoftext|>"], Some("[Exeunt.]")),
    ("naïve 日本語", &["本"], Some("naïve 日")),
    // What began like a stop string and went on otherwise is text, and may have the stop string in it.
    ("To be, or not to be", &["or nothing", "been"], None),
    ("aaab", &["aab"], Some("a")),
    ("ababac", &["abac"], Some("ab")),
    // Of stop strings that overlap, what counts is which appears.
    ("xabcd", &["abc", "bcd"], Some("x")),
    ("xabce", &["abcd", "bc"], Some("xa")),
    ("no stop string", &[], None),
];

/// Whether tokens hold a whole stop string or a byte of it.
#[test]
fn text_ends_before_a_stop_string() {
    for (tokenizer, _, _) in tokenizers() {
        let encode = |text: &str| tokenizer.encode(text).expect("every byte has a token");
        for (text, stop, left) in STOPS {
            let stop: Vec<String> = stop.iter().copied().map(str::to_owned).collect();
            let by_character = text.chars().flat_map(|character| encode(&character.to_string())).collect();
            for ids in [encode(text), by_character] {
                let want = (left.unwrap_or(text).to_owned(), left.is_some());
                assert_eq!(stream(&tokenizer, &ids, &stop), want, "{text:?} with {stop:?} as {ids:?}");
            }
        }
    }
}
