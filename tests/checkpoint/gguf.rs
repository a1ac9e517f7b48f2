//! GGUF, GGML and GGJT files: what is read from them.
//!
//! `tests/formats/make_gguf.py` has written the files, and says what is in them. Their numbers are compared with those
//! of the `gguf` package, and those of a whole model with transformers'.

mod damaged;

use std::ops::Range;
use std::path::{Path, PathBuf};

use gptj::checkpoint::TensorName;
use gptj::{Checkpoint, Config, LoadOptions, Tokenizer};
use half::f16;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

use self::damaged::{Damaged, assert_refused};
use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::transformers::{assert_logits_equal_transformers, load, logits_of_all};

/// The same model in each of the formats.
const MIXED: [&str; 3] = ["mixed.gguf", "mixed.bin", "mixed-ggjt.bin"];

fn fixture(name: &str) -> PathBuf {
    golden::path("formats/gguf").join(name)
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"))
}

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

#[test]
fn logits_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, &open(&fixture("whole_head.gguf")), &LoadOptions::default());
    assert_logits_equal_transformers("GGUF", &mut model, &Golden::open("golden/whole_head/stages.safetensors"));
}

#[test]
fn logits_are_those_of_the_decoded_numbers() {
    let Some(gpu) = gpu() else { return };
    let [want, got] = ["mixed", "mixed.gguf"].map(|name| {
        let mut model = load(&gpu, &open(&fixture(name)), &LoadOptions::default());
        logits_of_all(&mut model, &[7, 300, 12, 99, 0, 312])
    });
    assert_eq!(got, want);
}

/// What transformers makes of texts with the tokenizer of `tests/golden/bpe`, which both files hold.
#[test]
fn tokens_equal_transformers() {
    let cases: Vec<Value> = golden::json("golden/bpe/text.json");
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
        std::fs::copy(golden::model("narrow_mlp").join(file), path(file)).expect("a copy");
    }
    assert_eq!(open(directory.path()).config().n_inner, 80, "Hugging Face's own files come first");
}

#[test]
fn version_2_is_version_3() {
    let file = Damaged::new("mixed.gguf", |file| file[4] = 2);
    assert_eq!(open(&file.path()).config().n_inner, 96);
}
