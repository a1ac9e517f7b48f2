//! GGUF, GGML and GGJT files with something wrong in them.

use std::path::{Path, PathBuf};

use gptj::{Checkpoint, Tokenizer};

use super::fixture;
use crate::common::golden::read;
use crate::common::model_dir::{ModelDir, text};

/// A copy of a file with something changed.
pub struct Damaged(ModelDir);

impl Damaged {
    pub fn new(name: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut file = read(fixture(name));
        damage(&mut file);
        Self(ModelDir::empty().with("model", file))
    }

    pub fn path(&self) -> PathBuf {
        self.0.file("model")
    }
}

pub fn assert_refused(case: &str, path: &Path, words: &[&str]) {
    let Err(error) = Checkpoint::open(path) else { panic!("{case}: it was not refused") };
    assert_says(case, path, &error, words);
}

fn assert_says(case: &str, path: &Path, error: &dyn std::fmt::Display, words: &[&str]) {
    let message = error.to_string();
    for word in words.iter().chain([&text(path)]) {
        assert!(message.contains(word), "{case}: {word:?} is missing in {message:?}");
    }
}

/// Where something begins that is in a file once.
fn find(file: &[u8], what: &[u8]) -> usize {
    let mut places = file.windows(what.len()).enumerate().filter(|(_, window)| *window == what);
    let (place, _) = places.next().unwrap_or_else(|| panic!("{:?} is in it", String::from_utf8_lossy(what)));
    assert!(places.next().is_none(), "{:?} is in it once", String::from_utf8_lossy(what));
    place
}

/// The place after a GGUF string.
fn after(file: &[u8], string: &str) -> usize {
    let counted = [&(string.len() as u64).to_le_bytes(), string.as_bytes()].concat();
    find(file, &counted) + counted.len()
}

/// Writes over what is `skip` bytes after a GGUF string.
fn overwrite(string: &str, skip: usize, bytes: &[u8]) -> impl Fn(&mut Vec<u8>) {
    move |file| {
        let at = after(file, string) + skip;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Replaces a GGUF string by another.
fn rename(string: &str, other: &str) -> impl Fn(&mut Vec<u8>) {
    move |file| {
        let end = after(file, string);
        let other = [&(other.len() as u64).to_le_bytes(), other.as_bytes()].concat();
        file.splice(end - string.len() - 8..end, other);
    }
}

#[test]
fn damaged_gguf_files_are_refused() {
    type Damage = Box<dyn Fn(&mut Vec<u8>)>;
    let cut = |length: usize| -> Damage { Box::new(move |file| file.truncate(length)) };
    let whole = read(fixture("mixed.gguf")).len();
    // Of a matrix, the table has its name, 2, two sizes of eight bytes, the type, and the offset.
    let (query, dims, kind, offset) = ("blk.0.attn_q.weight", 4, 20, 24);
    let cases: [(&str, Damage, &[&str]); 42] = [
        ("empty", cut(0), &["neither a model directory nor a GGUF or GGML file"]),
        ("three bytes", cut(3), &["neither a model directory"]),
        ("another format", Box::new(|file| file[0] = b'P'), &["neither a model directory"]),
        ("only the magic number", cut(4), &["the file ends within the version"]),
        ("cut off in the counts", cut(20), &["the file ends within the number of keys"]),
        ("cut off in the metadata", cut(60), &["the file ends within"]),
        ("cut off in the tokens", cut(1500), &["the file ends within the array tokenizer.ggml.tokens"]),
        ("cut off in the table", cut(7000), &["the file ends within the table of tensors"]),
        ("cut off in the tensors", cut(whole - 2000), &["ends after the file", "the file was cut off"]),
        ("version 1", Box::new(|file| file[4] = 1), &["a GGUF file of version 1; ", "versions 2 and 3"]),
        ("big-endian", Box::new(|file| file[4..8].reverse()), &["or a big-endian one"]),
        ("many tensors", Box::new(|file| file[8..16].fill(0x7f)), &["tensors, more than 65536"]),
        ("too many tensors", Box::new(|file| file[8] += 1), &["token_embd.weight", "it overlaps \"\""]),
        ("many keys", Box::new(|file| file[16..24].fill(0xff)), &["18446744073709551615 keys"]),
        ("a long key", Box::new(|file| file[24..32].fill(0xff)), &["the file ends within key 1 of its metadata"]),
        ("a long value", Box::new(overwrite("general.architecture", 4, &[0xff; 8])), &["the value of general.arch"]),
        ("a key that is no text", Box::new(|file| file[32] = 0xff), &["key 1 of its metadata is not UTF-8"]),
        ("an unknown type", Box::new(overwrite("gptj.block_count", 0, &[99])), &["unknown type 99"]),
        (
            "nested",
            Box::new(overwrite("tokenizer.ggml.merges", 4, &[9])),
            &["tokenizer.ggml.merges", "array of type 9"],
        ),
        ("a long array", Box::new(overwrite("tokenizer.ggml.token_type", 8, &[0xff; 8])), &["ends within the array"]),
        (
            "a key twice",
            Box::new(rename("gptj.block_count", "gptj.context_length")),
            &["context_length is in its meta"],
        ),
        ("another model", Box::new(rename("gptj", "gpt2")), &["general.architecture is gpt2; it must be gptj"]),
        ("no architecture", Box::new(rename("general.architecture", "general.name")), &["architecture is missing"]),
        ("no size", Box::new(rename("gptj.block_count", "gptj.blocks")), &["gptj.block_count", "is missing"]),
        ("a size that is none", Box::new(rename("gptj.rope.freq_base", "gptj.vocab")), &[]),
        ("no whole number", Box::new(overwrite("gptj.block_count", 0, &[6])), &["gptj.block_count", "whole number"]),
        ("impossible heads", Box::new(overwrite("gptj.attention.head_count", 4, &[5])), &["n_head (5)"]),
        ("no heads", Box::new(overwrite("gptj.attention.head_count", 4, &[0])), &["n_head is 0"]),
        ("another rotation", Box::new(overwrite("gptj.rope.freq_base", 6, &[0])), &["gptj.rope.freq_base is"]),
        ("old blocks", Box::new(overwrite("general.quantization_version", 4, &[1])), &["its blocks are of version 1"]),
        ("no alignment", Box::new(overwrite("general.alignment", 4, &[0])), &["general.alignment is 0"]),
        ("no embedding", Box::new(rename("token_embd.weight", "token_emb.weight")), &["token_embd.weight is missing"]),
        ("a name twice", Box::new(rename("blk.0.attn_k.weight", query)), &[query, "twice"]),
        (
            "an unknown name",
            Box::new(rename(query, "blk.0.attn_s.weight")),
            &["1 of the model's tensors are missing: transformer.h.0.attn.q_proj.weight", "blk.0.attn_s.weight"],
        ),
        ("dimensions", Box::new(overwrite(query, 0, &[5])), &[query, "it has 5 dimensions"]),
        ("rows of 33", Box::new(overwrite(query, dims, &[33])), &[query, "rows of 33 numbers are not whole blocks"]),
        ("a large tensor", Box::new(overwrite(query, dims, &[0xff; 16])), &[query, "its sizes are", "damaged"]),
        ("transposed", Box::new(overwrite("blk.0.ffn_up.weight", 4, &[96, 0, 0, 0, 0, 0, 0, 0, 32])), &["[32, 96]"]),
        ("a K-quant", Box::new(overwrite(query, kind, &[12])), &[query, "its numbers are Q4_K; F32, F16, BF16, Q8_0"]),
        ("no known type", Box::new(overwrite(query, kind, &[77])), &[query, "of the unknown type 77"]),
        ("unaligned", Box::new(overwrite(query, offset, &[1])), &[query, "not a multiple of 64"]),
        ("overlapping", Box::new(overwrite(query, offset, &[0; 8])), &["overlaps"]),
    ];
    for (case, damage, words) in cases {
        let file = Damaged::new("mixed.gguf", damage);
        if words.is_empty() {
            Checkpoint::open(&file.path()).unwrap_or_else(|error| panic!("{case}: {error}"));
        } else {
            assert_refused(case, &file.path(), words);
        }
    }
}

#[test]
fn damaged_vocabularies_are_refused() {
    type Damage = Box<dyn Fn(&mut Vec<u8>)>;
    let no_strings = |file: &mut Vec<u8>| {
        rename("tokenizer.ggml.tokens", "tokenizer.ggml.nothing")(file);
        rename("tokenizer.ggml.token_type", "tokenizer.ggml.tokens")(file);
    };
    let cases: [(&str, Damage, &str); 7] = [
        ("another splitting", Box::new(rename("gpt-2", "llama-bpe")), "tokenizer.ggml.pre is llama-bpe"),
        ("no token", Box::new(rename("Ġ t", "Ġ日 t")), "merge \"Ġ日 t\" is not two tokens that make a third"),
        ("no pair", Box::new(rename("Ġ t", "Ġt")), "merge \"Ġt\" is not two tokens"),
        ("no third", Box::new(rename("Ġ t", "t Ġ")), "merge \"t Ġ\" is not two tokens that make a third"),
        ("a token twice", Box::new(rename("!", "\"")), "tokens 0 and 1 are both \"\\\"\""),
        ("kinds", Box::new(rename("tokenizer.ggml.merges", "tokenizer.ggml.token_type")), "is in its metadata twice"),
        ("no strings", Box::new(no_strings), "tokenizer.ggml.tokens in its metadata is not an array of strings"),
    ];
    for (case, damage, word) in cases {
        let file = Damaged::new("mixed.gguf", damage);
        let Err(error) = Tokenizer::open(&file.path(), 313) else { panic!("{case}: it was not refused") };
        assert_says(case, &file.path(), &error, &[word]);
    }
    let none = Damaged::new("mixed.gguf", rename("tokenizer.ggml.merges", "tokenizer.ggml.nothing"));
    assert!(Tokenizer::open(&none.path(), 313).is_ok_and(|tokenizer| tokenizer.is_none()));
    let none = Damaged::new("mixed.gguf", rename("gpt2", "llama"));
    assert!(Tokenizer::open(&none.path(), 313).is_ok_and(|tokenizer| tokenizer.is_none()));
}

#[test]
fn damaged_ggml_files_are_refused() {
    type Damage = Box<dyn Fn(&mut Vec<u8>)>;
    let cut = |length: usize| -> Damage { Box::new(move |file| file.truncate(length)) };
    let whole = read(fixture("mixed.bin")).len();
    // Before a name: dimensions, its length, the type, and the sizes, all of four bytes.
    let before = |name: &'static str, back: usize, value: u32| -> Damage {
        Box::new(move |file| {
            let at = find(file, name.as_bytes()) - back;
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    let number = |index: usize, value: u32| -> Damage {
        Box::new(move |file| file[4 + 4 * index..8 + 4 * index].copy_from_slice(&value.to_le_bytes()))
    };
    let query = "transformer.h.0.attn.q_proj.weight";
    let cases: [(&str, Damage, &[&str]); 14] = [
        ("cut off in the sizes", cut(20), &["the file ends within the model's sizes"]),
        ("cut off in the tokens", cut(200), &["the file ends within token"]),
        ("cut off in a tensor", cut(whole - 1), &["the file ends within tensor lm_head.bias"]),
        ("no tensors", cut(2400), &["the file ends within"]),
        ("another model", number(7, 51), &["not a GPT-J in GGML's format"]),
        ("more tokens", Box::new(|file| [4, 32].map(|at| file[at] += 1).into_iter().for_each(drop)), &["tensor 1 has"]),
        ("blocks of version 0", number(6, 2), &["Q8_0 in blocks of version 0; only version 2, of May 2023", "F16"]),
        ("blocks of version 1", number(6, 1002), &["blocks of version 1"]),
        ("no heads", number(3, 0), &["n_head is 0"]),
        ("negative layers", number(4, u32::MAX), &["n_layer is 4294967295"]),
        ("a K-quant", before(query, 12, 14), &[query, "its numbers are Q6_K; F32, F16"]),
        ("dimensions", before(query, 20, 9), &["tensor 4 has 9 dimensions"]),
        ("rows of 33", before(query, 8, 33), &[query, "rows of 33 numbers are not whole blocks"]),
        ("a long name", before(query, 16, u32::MAX), &["the file ends within the header of tensor 4"]),
    ];
    for (case, damage, words) in cases {
        let file = Damaged::new("mixed.bin", damage);
        assert_refused(case, &file.path(), words);
    }
    let hidden = "transformer.h.0.mlp.fc_in.weight";
    let file = Damaged::new("mixed.bin", |file| {
        before(hidden, 8, 96)(file);
        before(hidden, 4, 32)(file);
    });
    assert_refused("transposed", &file.path(), &[hidden, "its rows and columns are swapped"]);
    let file = Damaged::new("mixed-ggjt.bin", |file| file[4] = 4);
    assert_refused("GGJT", &file.path(), &["a GGJT file of version 4; versions 1 to 3 can be loaded"]);
    let file = Damaged::new("mixed-ggjt.bin", |file| file[4] = 2);
    assert_refused("GGJT", &file.path(), &["in blocks of version 1; only version 2, of May 2023"]);
}
