//! Checkpoints of mesh-transformer-jax against Hugging Face's of the same model, and as they may be damaged.
//!
//! `tests/formats/README.md` says what the fixtures are.

use std::path::{Path, PathBuf};

use gptj::Checkpoint;
use gptj::checkpoint::TensorName;
use tempfile::TempDir;

use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, copy_all};
use crate::common::transformers::assert_equals_transformers;

const FIXTURES: &str = "tests/formats/mesh";

fn open(directory: impl AsRef<Path>) -> Checkpoint {
    Checkpoint::open(directory.as_ref()).unwrap_or_else(|error| panic!("{error}"))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

/// A copy of a fixture, to damage.
fn sound(name: &str) -> ModelDir {
    ModelDir::copy_of(format!("formats/mesh/{name}"))
}

#[test]
fn logits_and_greedy_text_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    for directory in ["step_383500", "deflated"] {
        assert_equals_transformers(&gpu, &open(fixture(directory)), "formats/mesh/stages.safetensors");
    }
}

#[test]
fn tensors_equal_those_of_hugging_face() {
    let want = open(fixture("hf"));
    // The directory of the steps is as good as the only step in it.
    for directory in [FIXTURES.into(), fixture("step_383500"), fixture("deflated")] {
        let got = open(&directory);
        assert_eq!(got.config(), want.config());
        for name in TensorName::all(want.config()) {
            let [got, want] = [&got, &want].map(|checkpoint| checkpoint.tensor(name).expect("it is sound"));
            assert_eq!(got.to_f32().expect("finite"), want.to_f32().expect("finite"), "{name:?} in {directory:?}");
            // Once more in odd parts, forgetting what was read.
            let (mut parts, mut whole) = (Vec::new(), Vec::new());
            for start in (0..got.elements()).step_by(37) {
                let range = start..(start + 37).min(got.elements());
                got.append_f16(range.clone(), &mut parts).expect("finite");
                got.release(range);
            }
            want.append_f16(0..want.elements(), &mut whole).expect("finite");
            assert_eq!(parts, whole, "{name:?} in {directory:?}");
            assert!(got.bytes() >= 2 * got.elements(), "{name:?} in {directory:?}");
        }
    }
}

/// Fails unless a checkpoint is refused, in words that have these in them.
fn assert_refused(directory: &Path, words: &[&str]) {
    let text = Checkpoint::open(directory).err().expect("it is damaged").to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {text:?}");
    }
}

/// The bytes of a file with some replaced by others as long.
fn replaced(file: &Path, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = std::fs::read(file).expect("it is there");
    let at = bytes.windows(from.len()).position(|window| window == from).expect("they are there");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn missing_parts_are_named() {
    let step = sound("step_383500");
    let shard = |index: usize| step.path().join(format!("shard_{index}"));
    std::fs::remove_file(shard(1).join("1.npz")).expect("it was there");
    assert_refused(step.path(), &["cannot read", "shard_1", "1.npz"]);
    std::fs::remove_file(shard(1).join("2.npz")).expect("it was there");
    assert_refused(step.path(), &["shard_1 has 39 arrays, but 11 blocks make 116 and the step"]);
    std::fs::remove_file(shard(1).join("0.npz")).expect("it was there");
    assert_refused(step.path(), &["shard_1: no 0.npz in this directory"]);
    std::fs::remove_dir(shard(1)).expect("it was empty");
    let words =
        ["tensor lm_head.bias in ", "shard_0", "is [32]; the configuration and the number of shards, 1, make it [64]"];
    assert_refused(step.path(), &words);
    std::fs::rename(shard(0), shard(2)).expect("nothing was there");
    assert_refused(step.path(), &["shard_0 is missing; there are 1 others"]);

    let steps = TempDir::new().expect("a temporary directory");
    for step in ["step_1", "step_20"] {
        copy_all(&fixture("step_383500"), &steps.path().join(step));
    }
    assert_refused(steps.path(), &["2 checkpoints are here; name one of them, such as ", "step_20"]);
}

#[test]
fn what_does_not_fit_the_configuration_is_named() {
    let step = sound("step_383500");
    let path = step.path().join("config.json");
    let config = std::fs::read_to_string(&path).expect("it is there");
    for (from, to, words) in [
        ("\"n_layer\": 11", "\"n_layer\": 12", ["shard_0 has 117 arrays", "12 blocks make 126"]),
        (
            "\"n_embd\": 16",
            "\"n_embd\": 32",
            ["tensor lm_head.weight in ", "[16, 32]; the configuration and the number of shards, 2, make it [32, 32]"],
        ),
        (
            "\"vocab_size\": 64",
            "\"vocab_size\": 65",
            ["vocab_size, 65, is not divisible by the number of shards, 2", "missing"],
        ),
    ] {
        std::fs::write(&path, config.replace(from, to)).expect("room for a small file");
        assert_refused(step.path(), &words);
    }
    // Without a configuration it is GPT-J-6B's.
    std::fs::remove_file(&path).expect("it was there");
    assert_refused(step.path(), &["shard_0 has 117 arrays", "28 blocks make 286", "needs a config.json"]);
}

#[test]
fn damaged_arrays_are_named() {
    let step = sound("step_383500");
    let file = step.path().join("shard_1").join("0.npz");
    let whole = std::fs::read(&file).expect("it is there");
    let not_sound = "not a sound npz file";
    // The first array is the embedding's bias.
    for (bytes, words) in [
        (whole[..whole.len() - 30].to_vec(), ["0.npz", not_sound, "it may have been cut off"]),
        (Vec::new(), ["0.npz", not_sound, "it may have been cut off"]),
        (replaced(&file, b"NUMPY", b"NUMPI"), ["0.npz", "arr_0", "it is not a numpy array"]),
        (replaced(&file, b"Y\x01\x00", b"Y\x09\x00"), ["0.npz", "arr_0", "version 9 of numpy's format is not known"]),
        (replaced(&file, b"(16,)", b"(17,)"), ["0.npz", "arr_0", "its shape, [17], and its"]),
        (replaced(&file, b"(16,)", b"(-1,)"), ["0.npz", "arr_0", "its header is damaged"]),
        (replaced(&file, b"'|V2'", b"'<f8'"), ["tensor transformer.wte.weight", "0.npz", "arr_0 are \"<f8\""]),
        (replaced(&file, b"(32, 16)", b"(16, 32)"), ["tensor transformer.wte.weight", "0.npz", "arr_1 is [16, 32]"]),
    ] {
        std::fs::write(&file, bytes).expect("room for a small file");
        assert_refused(step.path(), &words);
    }
}

/// What is deflated is only seen to be damaged when it is read.
#[test]
fn damaged_deflated_numbers_are_refused() {
    let step = sound("deflated");
    let file = step.path().join("shard_0").join("0.npz");
    let mut bytes = std::fs::read(&file).expect("it is there");
    // Behind a few small arrays.
    let at = bytes.len() / 3;
    bytes[at..at + 8].fill(0xff);
    std::fs::write(&file, bytes).expect("room for a small file");
    let checkpoint = open(step.path());
    let refused = TensorName::all(checkpoint.config()).into_iter().filter_map(|name| {
        let view = checkpoint.tensor(name).expect("its header is sound");
        view.to_f32().err()
    });
    let messages: Vec<_> = refused.map(|error| error.to_string()).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("is NaN; the file is damaged"), "{messages:?}");
}
