//! Damaged files of every format, made at random from sound ones: whatever is in them, opening and reading them ends,
//! in an error or not, without a panic and without taking long.
//!
//! `GPTJ_FUZZ_SECONDS` says how long each format takes; the default keeps CI short. Each run begins with another seed,
//! which a failure names, with the file that it left; `GPTJ_FUZZ_SEED` begins with a given one.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gptj::checkpoint::TensorName;
use gptj::{Checkpoint, Class, Tokenizer};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::common::golden::read;
use crate::common::model_dir::{ModelDir, NARROW, copy_all};

/// A sound model takes milliseconds; one that makes the most of its size may take a thousand times that, in a debug
/// build.
const LONGEST: Duration = Duration::from_secs(30);

/// Numbers that sizes, counts and offsets go wrong at.
const INTERESTING: [u64; 12] =
    [0, 1, 7, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX / 2, u64::MAX];

/// What pickles are made of.
const INSTRUCTIONS: &[u8] = b"(tRbQsuae}])q.hrjcXKJM\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95";

/// Damages one of `files` of the model in `directory` again and again; `is_sound` says whether a model is sound.
fn fuzz(directory: &Path, files: &[&str], is_sound: impl Fn(&Path) -> bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = Duration::from_secs(number("GPTJ_FUZZ_SECONDS").unwrap_or(5));
    let first = number("GPTJ_FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let copy = tempfile::tempdir().expect("a temporary directory");
    copy_all(directory, copy.path());
    let sound: Vec<(PathBuf, Vec<u8>)> =
        files.iter().map(|file| (copy.path().join(file), read(directory.join(file)))).collect();
    assert!(is_sound(copy.path()), "{} is sound before it is damaged", directory.display());

    let start = Instant::now();
    let mut cases = 0;
    while start.elapsed() < seconds {
        let seed = first.wrapping_add(cases);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (path, bytes) = &sound[random.random_range(0..sound.len())];
        let damaged = damage(bytes, &mut random);
        fs::write(path, &damaged).expect("a damaged file");
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| is_sound(copy.path())));
        let took = begin.elapsed();
        if outcome.is_err() || took > LONGEST {
            let kept = std::env::temp_dir().join(format!("gptj-fuzz-{seed}"));
            fs::write(&kept, &damaged).expect("a damaged file");
            panic!("seed {seed}: {} panics or takes {took:?}; it is kept as {}", path.display(), kept.display());
        }
        fs::write(path, bytes).expect("the sound file");
        cases += 1;
    }
    println!("{}: {cases} damaged files, from seed {first} on", directory.display());
}

/// A few changes, most of them where formats keep their structure: near the beginning and the end.
fn damage(sound: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let near = bytes.len().min(8192);
        let at = match random.random_range(0..10) {
            0..5 => random.random_range(0..near),
            5..8 => bytes.len() - 1 - random.random_range(0..near),
            _ => random.random_range(0..bytes.len()),
        };
        match random.random_range(0..9) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            8 => bytes[at] = INSTRUCTIONS[random.random_range(0..INSTRUCTIONS.len())],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.random()),
            4 => _ = bytes.remove(at),
            5 => {
                let end = (at + random.random_range(1..64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=near.min(bytes.len()));
                bytes.splice(to..to, piece);
            }
            _ => {
                let number = INTERESTING[random.random_range(0..INTERESTING.len())].to_le_bytes();
                let width = [2, 4, 8][random.random_range(0..3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
        }
    }
    bytes
}

/// Opens a model as any class and reads every number of it. Whether all of it is sound.
fn read_model(path: &Path) -> bool {
    for class in [Class::Model, Class::SequenceClassification, Class::QuestionAnswering] {
        _ = Checkpoint::open_as(path, class);
    }
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let read = |name| checkpoint.tensor(name).and_then(|view| view.to_f32()).is_ok();
    let tensors: Vec<bool> = TensorName::all(checkpoint.config()).into_iter().map(read).collect();
    Tokenizer::open(path, checkpoint.config().vocab_size).is_ok() && tensors.into_iter().all(|sound| sound)
}

/// Opens a tokenizer, and tokenizes something.
fn read_tokenizer(path: &Path, vocab_size: usize) -> bool {
    let Ok(Some(tokenizer)) = Tokenizer::open(path, vocab_size) else { return false };
    let ids = tokenizer.encode("To be, or  not to be:\n<|endoftext|> 42 é").unwrap_or_default();
    !ids.is_empty() && tokenizer.decode(&ids).is_ok()
}

/// A model directory of the one file of `file` and a configuration from a golden.
fn with_config(file: &str, name: &str) -> ModelDir {
    let config = read("tests/golden/odd_widths/config.json");
    ModelDir::empty().with("config.json", config).with(name, read(file))
}

#[test]
fn safetensors() {
    fuzz(Path::new(NARROW), &["model.safetensors"], read_model);
}

#[test]
fn configurations_and_indices() {
    let directory = Path::new("tests/golden/sharded");
    fuzz(directory, &["config.json", "model.safetensors.index.json"], read_model);
}

#[test]
fn pytorch_archives() {
    let model = with_config("tests/formats/pytorch/f16_protocol_5.bin", "pytorch_model.bin");
    fuzz(model.path(), &["pytorch_model.bin"], read_model);
}

#[test]
fn pytorch_legacy_files() {
    let model = with_config("tests/formats/pytorch/legacy.bin", "pytorch_model.bin");
    fuzz(model.path(), &["pytorch_model.bin"], read_model);
}

#[test]
fn gguf_files() {
    let directory = ModelDir::empty().with("model.gguf", read("tests/formats/gguf/mixed.gguf"));
    fuzz(directory.path(), &["model.gguf"], |path| read_model(&path.join("model.gguf")));
}

#[test]
fn ggml_files() {
    let directory = ModelDir::empty()
        .with("old.bin", read("tests/formats/gguf/mixed.bin"))
        .with("ggjt.bin", read("tests/formats/gguf/mixed-ggjt.bin"));
    fuzz(directory.path(), &["old.bin", "ggjt.bin"], |path| {
        let [old, ggjt] = ["old.bin", "ggjt.bin"].map(|name| read_model(&path.join(name)));
        old && ggjt
    });
}

#[test]
fn npz_files() {
    let files = ["shard_0/0.npz", "shard_1/1.npz", "shard_0/2.npz"];
    fuzz(Path::new("tests/formats/mesh/step_383500"), &files, read_model);
}

#[test]
fn deflated_npz_files() {
    let files = ["shard_0/0.npz", "shard_1/1.npz", "shard_0/2.npz"];
    fuzz(Path::new("tests/formats/mesh/deflated"), &files, read_model);
}

#[test]
fn codegen() {
    fuzz(Path::new("tests/formats/codegen/padded_head"), &["config.json", "model.safetensors"], read_model);
}

#[test]
fn tokenizers() {
    let directory = Path::new("tests/formats/codegen/tokenizer");
    fuzz(directory, &["tokenizer.json"], |path| read_tokenizer(path, 51_200));
}

/// Each byte of where a file says what it is, wrong in several ways, one at a time.
#[test]
fn no_wrong_byte_makes_the_library_panic() {
    let model = ModelDir::copy_of("golden/narrow_mlp");
    // Of the weights: the header, the metadata and the first three tensors.
    for (file, length) in [("config.json", usize::MAX), ("model.safetensors", 400)] {
        wrong_bytes(&model.file(file), length, || _ = read_model(model.path()));
    }
    let tokenizer = ModelDir::empty().with("tokenizer.json", read("models/shakespeare/tokenizer.json"));
    // All before the vocabulary.
    wrong_bytes(&tokenizer.file("tokenizer.json"), 900, || {
        read_tokenizer(tokenizer.path(), 1024);
    });
}

fn wrong_bytes(path: &Path, length: usize, open: impl Fn()) {
    let mut bytes = fs::read(path).expect("the corpus is there");
    for index in 0..length.min(bytes.len()) {
        // Another digit or letter, and no text at all.
        for damage in [1, 4, 128] {
            bytes[index] ^= damage;
            fs::write(path, &bytes).expect("a damaged file");
            open();
            bytes[index] ^= damage;
        }
    }
    fs::write(path, bytes).expect("the sound file");
}

#[test]
fn adapters() {
    let checkpoint = || Checkpoint::open(Path::new(NARROW)).expect("the golden");
    fuzz(Path::new("tests/formats/lora/all"), &["adapter_config.json", "adapter_model.safetensors"], |path| {
        checkpoint().add_adapter(path, 1.0).is_ok()
    });
}
