//! PyTorch's checkpoints: those that it writes hold what the safetensors of the same model do, and those that nobody
//! should open are refused.
//!
//! `tests/formats/make_pytorch.py` wrote the sound ones, of the golden `odd_widths`. The others are put together here.

mod forge;
mod pickles;

use std::path::Path;

use forge::{ELEMENTS, Entry, Legacy, Tensor, dict, entries, int, pickle, text, zip};
use gptj::LoadOptions;
use gptj::checkpoint::{Checkpoint, TensorName};
use pollster::block_on;

use crate::common::golden::{self, Golden, read};
use crate::common::gpu::gpu;
use crate::common::pytorch::{directory, sound};
use crate::common::transformers::{greedy, load};

fn open(directory: &Path) -> Checkpoint {
    Checkpoint::open(directory).unwrap_or_else(|error| panic!("{error}"))
}

/// All of a checkpoint's numbers, some of them a part at a time.
fn numbers(checkpoint: &Checkpoint) -> Vec<Vec<f32>> {
    let of = |name| {
        let view = checkpoint.tensor(name).expect("it was checked");
        let whole = view.to_f32().expect("its numbers are finite");
        let mut parts = Vec::new();
        for start in (0..view.elements()).step_by(50) {
            view.append_f16(start..view.elements().min(start + 50), &mut parts).expect("f16 holds them");
            view.release(start..view.elements().min(start + 50));
        }
        assert!(parts.iter().map(|number| number.to_f32()).eq(whole.iter().copied()), "{}", view.name());
        whole
    };
    TensorName::all(checkpoint.config()).into_iter().map(of).collect()
}

#[test]
fn every_form_holds_the_same_numbers() {
    let want = numbers(&open(&golden::model("odd_widths")));
    for (name, directory) in sound() {
        let checkpoint = open(directory.path());
        assert!(numbers(&checkpoint) == want, "{name}");
        let matrix = checkpoint.tensor(TensorName::Wte).expect("it was checked");
        assert_eq!(matrix.bytes(), ELEMENTS * if name == "f32.bin" { 4 } else { 2 }, "{name}");
    }
}

#[test]
fn every_form_computes_the_same() {
    let Some(gpu) = gpu() else { return };
    let stages = Golden::open("golden/odd_widths/stages.safetensors");
    let prompt = stages.u32("tokens");
    let run = |directory: &Path| {
        let mut model = load(&gpu, &open(directory), &LoadOptions::default());
        let logits = block_on(model.logits(0, &prompt)).expect("the GPU works");
        (logits, greedy(&mut model, &prompt, 8))
    };
    let want = run(&golden::model("odd_widths"));
    assert_eq!(want.1, stages.u32("greedy")[..8]);
    for (name, directory) in sound() {
        assert!(run(directory.path()) == want, "{name}");
    }
}

#[test]
fn safetensors_come_first() {
    let safetensors = read(golden::model("odd_widths").join("model.safetensors"));
    open(directory(&[("model.safetensors", &safetensors), ("pytorch_model.bin", b"damaged")]).path());
}

// ---- what is refused ----

/// Fails unless a checkpoint with these files is refused with a message that has all of `words` in it.
fn assert_refused(case: &str, files: &[(&str, &[u8])], words: &[&str]) {
    let Err(error) = Checkpoint::open(directory(files).path()) else { panic!("{case}: it was not refused") };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{case}: {word:?} is missing in {message:?}");
    }
}

fn assert_file_refused(case: &str, file: &[u8], word: &str) {
    assert_refused(case, &[("pytorch_model.bin", file)], &["pytorch_model.bin", word]);
}

/// What a sound file with one of the model's 35 tensors gives.
const OTHERS_MISSING: &str = "34 of the model's tensors are missing: transformer.h.0.ln_1.weight";

#[test]
fn what_is_damaged_below_is_sound() {
    let pickle = Tensor::sound().pickle();
    for file in [zip(&entries(&pickle), false), zip(&entries(&pickle), true), Legacy::new(&pickle).file()] {
        assert_refused("sound", &[("pytorch_model.bin", &file)], &[OTHERS_MISSING]);
    }
}

/// Pickles in both kinds of files.
fn assert_pickle_refused(case: &str, pickle: &[u8], word: &str) {
    for file in [zip(&entries(pickle), false), Legacy::new(pickle).file()] {
        assert_refused(case, &[("pytorch_model.bin", &file)], &[word]);
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let sound = entries(&Tensor::sound().pickle());
    let with = |index: usize, change: &dyn Fn(&mut Entry)| {
        let mut entries = sound.clone();
        change(&mut entries[index]);
        zip(&entries, false)
    };
    let and = |entry: Entry| zip(&[sound.clone(), vec![entry]].concat(), false);
    let without = |index: usize| {
        let mut entries = sound.clone();
        entries.remove(index);
        zip(&entries, false)
    };
    let whole = zip(&sound, false);
    let end = whole.len() - 22;
    // The directory's size and place are 12 and 16 bytes into the last record, its entries 10.
    let patched = |file: &[u8], at: usize, bytes: &[u8]| [&file[..at], bytes, &file[at + bytes.len()..]].concat();
    let wide = zip(&sound, true);
    let wide_end = wide.len() - 22 - 20 - 56;
    let no_directory = "the archive's directory cannot be read";
    let contradiction = "the archive contradicts itself";
    for (case, file, word) in [
        ("cut off", whole[..whole.len() - 1].to_vec(), no_directory),
        ("cut off in the storages", whole[..3000].to_vec(), no_directory),
        ("nothing but the beginning", b"PK\x03\x04".to_vec(), no_directory),
        ("a directory elsewhere", patched(&whole, end + 16, &[0; 4]), no_directory),
        ("an enormous directory in 64 bits", patched(&wide, wide_end + 40, &[0xff; 16]), no_directory),
        ("a 64-bit record elsewhere", patched(&wide, wide.len() - 22 - 12, &[0xff; 8]), no_directory),
        ("too many entries", patched(&whole, end + 10, &[5, 0]), no_directory),
        ("too few entries", patched(&whole, end + 10, &[3, 0]), no_directory),
        ("2^64 entries", patched(&wide, wide_end + 32, &[0xff; 8]), no_directory),
        ("compressed", with(2, &|entry| entry.method = 8), "archive/data/0 is compressed"),
        ("a bomb", with(2, &|entry| (entry.method, entry.local_size, entry.size) = (8, 0, 1 << 31)), contradiction),
        ("a compressed pickle", with(0, &|entry| entry.method = 8), "pack it again with `zip -0`"),
        ("encrypted", with(2, &|entry| entry.flags = 1), "archive/data/0 is encrypted"),
        ("another name", with(2, &|entry| entry.local_name = "archive/data/1".to_owned()), contradiction),
        ("another size", with(2, &|entry| entry.local_size = 1), contradiction),
        ("another entry's header", with(2, &|entry| entry.header_of = Some(1)), contradiction),
        ("a long entry", with(2, &|entry| (entry.size, entry.local_size) = (7000, 7000)), contradiction),
        ("an entry over others", with(1, &|entry| (entry.size, entry.local_size) = (70, 70)), contradiction),
        ("two of a name", and(sound[2].clone()), contradiction),
        ("two pickles", and(Entry::new("other/data.pkl", vec![])), "several data.pkl"),
        ("no pickle", without(0), "no data.pkl"),
        ("an empty pickle", with(0, &|entry| *entry = Entry::new("data.pkl", vec![])), "its pickle ends early"),
        ("no storages", without(2), "its storage 0 is missing"),
        ("big-endian", with(1, &|entry| *entry = Entry::new("archive/byteorder", b"big".to_vec())), "big-endian"),
    ] {
        assert_file_refused(case, &file, word);
    }
    // Names are only compared; an entry of such a name changes nothing.
    for name in ["../../../etc/passwd", "/etc/passwd", "C:\\autoexec.bat", "archive/data/../../../x"] {
        assert_refused(name, &[("pytorch_model.bin", &and(Entry::new(name, vec![1])))], &[OTHERS_MISSING]);
    }
}

#[test]
fn files_that_are_none_of_pytorchs_are_refused() {
    let sound = || Legacy::new(&Tensor::sound().pickle());
    let keys = |keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| text(key)).collect();
        pickle(&[b"](", &keys.concat()[..], b"e"].concat())
    };
    let cut_off = "storage 0 should have 3333 numbers; the file was cut off";
    let two_ways = dict(&[
        ("transformer.wte.weight", Tensor::sound().build()),
        ("transformer.other", Tensor { elements: 7, ..Tensor::sound() }.build()),
    ]);
    let long = Tensor { elements: i64::MAX, ..Tensor::sound() };
    let big_endian = dict(&[("little_endian", b"\x89".to_vec())]);
    for (case, file, word) in [
        ("empty", vec![], "neither a zip archive nor a pickle"),
        ("a text", b"weights".to_vec(), "neither a zip archive nor a pickle"),
        ("a pointer", b"version https://git-lfs.github.com/spec/v1".to_vec(), "a Git LFS pointer"),
        ("a page", b"<!DOCTYPE html>".to_vec(), "neither a zip archive nor a pickle"),
        (
            "safetensors",
            read(golden::model("odd_widths").join("model.safetensors")),
            "neither a zip archive nor a pickle",
        ),
        ("a pickle", Tensor::sound().pickle(), "a pickle, but not one of PyTorch's"),
        ("another version", Legacy { protocol: pickle(&int(1002)), ..sound() }.file(), "unknown version"),
        ("no system", Legacy { system: pickle(b"N"), ..sound() }.file(), "big-endian"),
        ("big-endian", Legacy { system: pickle(&big_endian), ..sound() }.file(), "big-endian"),
        ("no keys", Legacy { keys: pickle(b"}"), ..sound() }.file(), "the list of its storages is missing"),
        (
            "numbers for keys",
            Legacy { keys: pickle(b"]K\x00a"), ..sound() }.file(),
            "the list of its storages is damaged",
        ),
        ("an unknown key", Legacy { keys: keys(&["1"]), ..sound() }.file(), "no tensor describes storage 1"),
        ("a key too few", Legacy { keys: keys(&[]), ..sound() }.file(), "its storage 0 is missing"),
        ("no storages", Legacy { storages: vec![], ..sound() }.file(), cut_off),
        ("short storages", Legacy { storages: sound().storages[..6000].to_vec(), ..sound() }.file(), cut_off),
        ("another size", Legacy { storages: vec![0; 9999], ..sound() }.file(), cut_off),
        (
            "an enormous size",
            Legacy { tensors: long.pickle(), ..sound() }.file(),
            "9223372036854775807 numbers; the file",
        ),
        ("two sizes", Legacy { tensors: pickle(&two_ways), ..sound() }.file(), "storage 0 is described in two ways"),
    ] {
        assert_file_refused(case, &file, word);
    }
    let twice = Legacy { keys: keys(&["0", "0"]), storages: sound().storages.repeat(2), ..sound() };
    assert_file_refused("a key twice", &twice.file(), "storage 0 is in the list of storages twice");
}

#[test]
fn indices_lead_nowhere_else() {
    let index = "pytorch_model.bin.index.json";
    let same_directory = "is not the name of a file in the same directory";
    for (map, word) in [
        (r#"{"wte.weight": "../shard.bin"}"#, same_directory),
        (r#"{"wte.weight": "/etc/passwd"}"#, same_directory),
        (r#"{"wte.weight": 1}"#, same_directory),
        (r#"{"wte.weight": "absent.bin"}"#, "absent.bin"),
        (r#"{"wte.weight": "config.json"}"#, "config.json: not a file that torch.save writes"),
        ("[]", "weight_map is missing or not an object"),
    ] {
        assert_refused(map, &[(index, format!(r#"{{"weight_map": {map}}}"#).as_bytes())], &[word]);
    }
}

#[test]
fn a_model_without_a_head_is_called_by_its_name() {
    let golden = Golden::at(golden::model("odd_widths").join("model.safetensors"));
    let bare = |(name, shape): (&String, &Vec<usize>)| {
        let shape: Vec<_> = shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor { strides: vec![0; shape.len()], shape, ..Tensor::sound() };
        Some((name.strip_prefix("transformer.")?.to_owned(), tensor.build()))
    };
    let tensors: Vec<_> = golden.shapes().iter().filter_map(bare).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let words = "2 of the model's tensors are missing: lm_head.weight, lm_head.bias; they are the head of a \
                 GPTJForCausalLM";
    assert_pickle_refused("no head", &pickle(&dict(&tensors)), words);
}
