//! GGUF, GGML and GGJT files: what is read from them, and what is said of those that are damaged.
//!
//! `tests/formats/make_gguf.py` has written the files, and says what is in them. Their numbers are compared with those
//! of the `gguf` package, and those of a whole model with transformers'.

mod common;
#[cfg(feature = "cli")]
#[path = "common/program.rs"]
mod program;

use std::ops::Range;
use std::path::{Path, PathBuf};

use common::{assert_close, block_on, gpu};
use gptj::checkpoint::TensorName;
use gptj::internals::gpu::Gpu;
use gptj::{Checkpoint, Config, LoadOptions, Model, Tokenizer};
use half::f16;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

/// The same model in each of the formats.
const MIXED: [&str; 3] = ["mixed.gguf", "mixed.bin", "mixed-ggjt.bin"];

fn fixture(name: &str) -> PathBuf {
    Path::new("tests/formats/gguf").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"))
}

// ---- what is read ----

#[test]
fn sizes_come_from_the_file() {
    // A text begins with what ends the one before.
    let config = Config { bos_token_id: Some(299), ..open(&fixture("mixed")).config().clone() };
    assert_eq!(*open(&fixture("mixed.gguf")).config(), config);
    for name in ["mixed.bin", "mixed-ggjt.bin"] {
        // These formats have no room for them; GPT-J's own are meant, and its end of text is not in this vocabulary.
        let (eos_token_ids, bos_token_id) = (Vec::new(), None);
        let config = Config { layer_norm_epsilon: 1e-5, eos_token_ids, bos_token_id, ..config.clone() };
        assert_eq!(*open(&fixture(name)).config(), config, "{name}");
    }
}

/// Bit by bit, in every element type.
#[test]
fn numbers_equal_those_of_the_gguf_package() {
    let want = open(&fixture("mixed"));
    for name in MIXED {
        let got = open(&fixture(name));
        for tensor in TensorName::all(want.config()) {
            let (got, want) = [&got, &want].map(|checkpoint| checkpoint.tensor(tensor).expect("it is sound")).into();
            assert_eq!(got.shape(), want.shape(), "{name}, {}", got.name());
            let (got_numbers, want_numbers) = [&got, &want].map(|view| view.to_f32().expect("finite numbers")).into();
            assert_eq!(got_numbers, want_numbers, "{name}, {}", got.name());
        }
    }
}

/// A part is that part of the whole, wherever it begins and ends.
#[test]
fn parts_of_tensors_are_parts_of_the_whole() {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let checkpoint = open(&fixture("mixed.gguf"));
    for name in TensorName::all(checkpoint.config()) {
        let view = checkpoint.tensor(name).expect("it is sound");
        let whole: Vec<f16> = view.to_f32().expect("finite numbers").into_iter().map(f16::from_f32).collect();
        let part = |range: Range<usize>| {
            let mut part = Vec::new();
            view.append_f16(range.clone(), &mut part).expect("numbers that f16 holds");
            assert_eq!(part, whole[range.clone()], "{range:?} of {}", view.name());
        };
        for ends in [0..0, 0..1, 0..31, 0..32, 31..32] {
            part(ends);
        }
        for _ in 0..50 {
            let start = random.random_range(0..view.elements());
            part(start..random.random_range(start..=view.elements()));
        }
    }
}

fn logits(gpu: &Gpu, path: &Path, tokens: &[u32]) -> Vec<f32> {
    let (checkpoint, options) = (open(path), LoadOptions::default());
    let load = Model::load(gpu, &checkpoint, &options, |_| ());
    let mut model = block_on(load).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    common::logits_of_all(&mut model, tokens)
}

/// The tolerance is that of tests/model.rs, for the same reason.
#[test]
fn logits_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    let golden = std::fs::read("tests/golden/whole_head/stages.safetensors").expect("the golden is there");
    let golden = SafeTensors::deserialize(&golden).expect("the generator writes sound files");
    let data = |name: &str| golden.tensor(name).expect("every golden has it").data();
    let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(data("tokens"));
    let want: Vec<f32> = bytemuck::pod_collect_to_vec(data("logits"));
    let got = logits(&gpu, &fixture("whole_head.gguf"), &tokens);
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    assert_close("logits", &got, &want, largest / 512.0, 0.0);
}

#[test]
fn logits_are_those_of_the_decoded_numbers() {
    let Some(gpu) = gpu() else { return };
    let tokens = [7, 300, 12, 99, 0, 312];
    let want = logits(&gpu, &fixture("mixed"), &tokens);
    assert_eq!(logits(&gpu, &fixture("mixed.gguf"), &tokens), want);
}

/// What transformers makes of texts with the tokenizer of `tests/golden/bpe`, which both files hold.
#[test]
fn tokens_equal_transformers() {
    let cases = std::fs::read("tests/golden/bpe/text.json").expect("the golden is there");
    let cases: Vec<Value> = serde_json::from_slice(&cases).expect("the generator writes sound files");
    for name in ["mixed.gguf", "raw_tokens.gguf"] {
        let tokenizer = Tokenizer::open(&fixture(name), 313).unwrap_or_else(|error| panic!("{error}"));
        let tokenizer = tokenizer.expect("it has one");
        for case in &cases {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
            if let Some(text) = case["text"].as_str() {
                assert_eq!(tokenizer.encode(text).expect("every byte has a token"), ids, "{name}: {text:?}");
            }
            assert_eq!(tokenizer.decode(&ids).expect("they are in the vocabulary"), case["decoded"], "{name}");
        }
        assert!(Tokenizer::open(&fixture(name), 312).is_err(), "the last id is out of the vocabulary");
    }
    let none = |name: &str| Tokenizer::open(&fixture(name), 313).is_ok_and(|tokenizer| tokenizer.is_none());
    assert!(none("mixed.bin") && none("mixed-ggjt.bin") && none("whole_head.gguf"), "there are no merges");
}

#[test]
fn a_file_may_be_the_only_one_in_a_directory() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("README.md"), "A model.").expect("room for a small file");
    // What it is called does not matter.
    std::fs::copy(fixture("mixed.gguf"), path("pytorch_model.bin")).expect("a copy");
    assert_eq!(open(directory.path()).config().n_inner, 96);
    assert!(Tokenizer::open(directory.path(), 313).is_ok_and(|tokenizer| tokenizer.is_some()));

    std::fs::copy(fixture("mixed.bin"), path("other.bin")).expect("a copy");
    assert_refused("two", directory.path(), &["2 GGUF or GGML files", "other.bin and pytorch_model.bin", "name one"]);

    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new("tests/golden/narrow_mlp").join(file), path(file)).expect("a copy");
    }
    assert_eq!(open(directory.path()).config().n_inner, 80, "Hugging Face's own files come first");
}

#[test]
fn version_2_is_version_3() {
    let file = Damaged::new("mixed.gguf", |file| file[4] = 2);
    assert_eq!(open(&file.path()).config().n_inner, 96);
}

// ---- the command line ----

#[cfg(feature = "cli")]
#[test]
fn the_program_takes_files() {
    use program::gptj_without_gpu;
    let output = |arguments: &[&str]| {
        let output = gptj_without_gpu(arguments).output().expect("the program starts");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"))
    };
    let text = "the thing is <|endoftext|>";
    let [want, _] = output(&["tokenize", "--model", "tests/formats/gguf/mixed.gguf", text]);
    assert!(want.trim_end().ends_with(",299"), "{want:?}");
    for model in MIXED {
        let model = fixture(model);
        let model = model.to_str().expect("a plain name");
        let [ids, stderr] = output(&["tokenize", "--model", model, "--tokenizer", "tests/golden/bpe", text]);
        assert_eq!(ids, want, "{stderr}");
        let [info, stderr] = output(&["info", "--json", "--model", model]);
        assert!(info.contains("\"n_inner\": 96"), "{stderr}");
    }
    let [_, stderr] = output(&["generate", "--model", "tests/formats/gguf/mixed.bin", "--prompt", text]);
    assert!(stderr.contains("mixed.bin has no tokenizer.json") && stderr.contains("--tokenizer"), "{stderr}");
    let [_, stderr] = output(&["tokenize", "--tokenizer", "tests/golden/tiny", text]);
    assert!(stderr.contains("tests/golden/tiny has no tokenizer.json"), "{stderr}");
}

#[cfg(feature = "cli")]
#[test]
fn a_gguf_file_needs_no_other() {
    if gpu().is_none() {
        return;
    }
    let model = "tests/formats/gguf/mixed.gguf";
    let arguments = ["generate", "--model", model, "--prompt", "the thing", "--greedy", "-n", "3"];
    let output = program::gptj(&arguments).output().expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && text.starts_with("the thing"), "{text:?}");
}

// ---- damage ----

/// A copy of a file with something changed.
struct Damaged(TempDir);

impl Damaged {
    fn new(name: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut file = bytes(name);
        damage(&mut file);
        let damaged = Self(TempDir::new().expect("a temporary directory"));
        std::fs::write(damaged.path(), file).expect("room for a small file");
        damaged
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("model")
    }
}

fn assert_refused(case: &str, path: &Path, words: &[&str]) {
    let Err(error) = Checkpoint::open(path) else { panic!("{case}: it was not refused") };
    assert_says(case, path, &error, words);
}

fn assert_says(case: &str, path: &Path, error: &gptj::Error, words: &[&str]) {
    let message = error.to_string();
    for word in words.iter().chain([&path.to_str().expect("a plain name")]) {
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
    let whole = bytes("mixed.gguf").len();
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
        ("rows of 33", Box::new(overwrite(query, dims, &[33])), &[query, "rows of 33 numbers are no whole blocks"]),
        ("a large tensor", Box::new(overwrite(query, dims, &[0xff; 16])), &[query, "its sizes are", "damaged"]),
        ("transposed", Box::new(overwrite("blk.0.ffn_up.weight", 4, &[96, 0, 0, 0, 0, 0, 0, 0, 32])), &["[32, 96]"]),
        ("a K-quant", Box::new(overwrite(query, kind, &[12])), &[query, "its numbers are Q4_K; F32, F16, BF16, Q8_0"]),
        ("no known type", Box::new(overwrite(query, kind, &[77])), &[query, "of the unknown type 77"]),
        ("unaligned", Box::new(overwrite(query, offset, &[1])), &[query, "no multiple of 64"]),
        ("overlapping", Box::new(overwrite(query, offset, &[0; 8])), &["overlaps"]),
    ];
    for (case, damage, words) in cases {
        let file = Damaged::new("mixed.gguf", damage);
        if words.is_empty() {
            open(&file.path());
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
    let whole = bytes("mixed.bin").len();
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
        ("blocks of version 0", number(6, 2), &["Q8_0 in blocks of version 0; version 2, of May 2023", "F16"]),
        ("blocks of version 1", number(6, 1002), &["blocks of version 1"]),
        ("no heads", number(3, 0), &["n_head is 0"]),
        ("negative layers", number(4, u32::MAX), &["n_layer is 4294967295"]),
        ("a K-quant", before(query, 12, 14), &[query, "its numbers are Q6_K; F32, F16"]),
        ("dimensions", before(query, 20, 9), &["tensor 4 has 9 dimensions"]),
        ("rows of 33", before(query, 8, 33), &[query, "rows of 33 numbers are no whole blocks"]),
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
    assert_refused("transposed", &file.path(), &[hidden, "its rows are its columns"]);
    let file = Damaged::new("mixed-ggjt.bin", |file| file[4] = 4);
    assert_refused("GGJT", &file.path(), &["a GGJT file of version 4; versions 1 to 3 can be loaded"]);
    let file = Damaged::new("mixed-ggjt.bin", |file| file[4] = 2);
    assert_refused("GGJT", &file.path(), &["in blocks of version 1; version 2, of May 2023"]);
}

/// A converted file brings its tokenizer along.
#[cfg(feature = "cli")]
#[test]
fn a_converted_file_keeps_its_tokenizer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("out");
    let file = Path::new("tests/formats/gguf/mixed.gguf");
    let mut command = program::gptj(&["convert", file.to_str().expect("UTF-8"), out.to_str().expect("UTF-8")]);
    command.assert().success();
    let [before, after] = [file, &out].map(|path| {
        let vocab_size = Checkpoint::open(path).expect("a sound model").config().vocab_size;
        let tokenizer = Tokenizer::open(path, vocab_size).expect("a sound tokenizer").expect("there is one");
        tokenizer.encode("Ham. To be, or not <|endoftext|>").expect("a text")
    });
    assert_eq!(before, after);
}
