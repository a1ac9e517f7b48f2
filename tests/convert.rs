//! `gptj verify` and `gptj convert`, from outside and without a GPU but for the logits of what was written.

#![cfg(feature = "cli")]

mod common;
#[expect(dead_code, reason = "each test file uses its own part of this")]
#[path = "bad_input/model.rs"]
mod model;
#[path = "common/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{block_on, gpu};
use gptj::checkpoint::{NumberFormat, TensorName};
use gptj::{Checkpoint, LoadOptions, Model};
use half::f16;
use program::{gptj, gptj_without_gpu};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    match name {
        "shakespeare" => PathBuf::from("models/shakespeare"),
        _ => Path::new("tests/golden").join(name),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Exit code, standard output and standard error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the program starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), stdout, stderr)
}

fn convert(from: &Path, to: &Path, options: &[&str]) {
    let arguments = [&["convert", text(from), text(to)], options].concat();
    let (code, stdout, stderr) = run(&mut gptj_without_gpu(&arguments));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with(&format!("{}: ", to.display())) && stdout.contains(" of tensors in "), "{stdout}");
}

fn files(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
}

fn assert_same_model(name: &str, a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.config(), b.config(), "{name}");
    for tensor in TensorName::all(a.config()) {
        let [a, b] = [a, b].map(|checkpoint| checkpoint.tensor(tensor).expect("it is sound"));
        let [a, b] = [a, b].map(|view| view.to_f32().expect("finite numbers"));
        assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}: {tensor:?}");
    }
}

// ---- convert ----

/// Every weight of the goldens is exact in f16, so that nothing may change on the way there.
#[test]
fn what_is_written_is_the_same_model() {
    let directory = TempDir::new().expect("a temporary directory");
    for name in ["tiny", "narrow_mlp", "odd_widths", "whole_head", "sharded", "shakespeare"] {
        let (from, out) = (open(&golden(name)), directory.path().join(name));
        convert(&golden(name), &out, &[]);
        let to = open(&out);
        assert_same_model(name, &from, &to);
        for tensor in TensorName::all(to.config()) {
            let view = to.tensor(tensor).expect("it is sound");
            assert_eq!(view.format(), Some(NumberFormat::F16), "{name}: {tensor:?}");
            let in_hugging_face = matches!(tensor, TensorName::LmHeadWeight | TensorName::LmHeadBias);
            assert!(view.name().starts_with(if in_hugging_face { "lm_head." } else { "transformer." }));
        }
        let config: Value = serde_json::from_slice(&model::read(out.join("config.json"))).expect("JSON");
        assert_eq!(config["torch_dtype"], "float16", "{name}");
        let may_be_there = ["generation_config.json", "tokenizer.json"];
        for file in may_be_there.into_iter().filter(|file| golden(name).join(file).exists()) {
            assert_eq!(model::read(out.join(file)), model::read(golden(name).join(file)), "{name}: {file}");
        }
        assert!(files(&out).contains("model.safetensors"), "{name} fits one file");

        let arguments = ["verify", text(&out)];
        assert_eq!(run(&mut gptj_without_gpu(&arguments)).0, Some(0), "{name} is sound");
    }
    let left: BTreeSet<_> = files(directory.path());
    assert!(left.iter().all(|name| !name.starts_with('.')), "nothing else is left: {left:?}");
}

#[test]
fn what_is_written_computes_the_same_logits() {
    let Some(gpu) = gpu() else { return };
    let directory = TempDir::new().expect("a temporary directory");
    for name in ["tiny", "odd_widths"] {
        let out = directory.path().join(name);
        convert(&golden(name), &out, &[]);
        let logits = |path: &Path| {
            let mut model = block_on(Model::load(&gpu, &open(path), &LoadOptions::default(), |_| ())).expect("it fits");
            block_on(model.logits(0, &[1, 2, 3, 5, 8])).expect("the GPU works")
        };
        let [from, to] = [logits(&golden(name)), logits(&out)];
        assert!(from.iter().zip(&to).all(|(from, to)| from.to_bits() == to.to_bits()), "{name}");
    }
}

#[test]
fn as_is_keeps_every_format() {
    let directory = TempDir::new().expect("a temporary directory");
    for (name, format, torch_name) in [
        ("tiny", NumberFormat::F32, "float32"),
        ("narrow_mlp", NumberFormat::F16, "float16"),
        ("odd_widths", NumberFormat::BF16, "bfloat16"),
    ] {
        let out = directory.path().join(name);
        convert(&golden(name), &out, &["--format", "as-is"]);
        let to = open(&out);
        assert_same_model(name, &open(&golden(name)), &to);
        for tensor in TensorName::all(to.config()) {
            assert_eq!(to.tensor(tensor).expect("it is sound").format(), Some(format), "{name}");
        }
        let config: Value = serde_json::from_slice(&model::read(out.join("config.json"))).expect("JSON");
        assert_eq!(config["torch_dtype"], torch_name);
    }
    // Wide numbers come first, so that each lies at a multiple of its size: here the bias is between others of two
    // bytes.
    let mixed = model::Model::sound().with_tensors(|tensors| {
        tensors.zeros("transformer.h.0.mlp.fc_in.bias", Dtype::F32, &[80]).fill(0x11);
    });
    let out = directory.path().join("mixed");
    convert(mixed.0.path(), &out, &["--format", "as-is"]);
    assert_same_model("mixed", &open(mixed.0.path()), &open(&out));
    let bytes = model::read(out.join("model.safetensors"));
    let (header_bytes, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("it is sound");
    assert!(header_bytes.is_multiple_of(8));
    for (name, info) in header.tensors() {
        assert!(info.data_offsets.0.is_multiple_of(info.dtype.bitsize() / 8), "{name}");
    }
}

#[test]
fn large_models_are_written_in_shards() {
    let directory = TempDir::new().expect("a temporary directory");
    let out = directory.path().join("shards");
    convert(&golden("sharded"), &out, &["--max-shard-size", "100KB"]);
    assert_same_model("shards", &open(&golden("sharded")), &open(&out));
    let index: Value = serde_json::from_slice(&model::read(out.join("model.safetensors.index.json"))).expect("JSON");
    let map = index["weight_map"].as_object().expect("an object");
    let shards: BTreeSet<_> = map.values().map(|name| name.as_str().expect("a name")).collect();
    assert!(shards.len() > 2, "{shards:?}");
    let mut bytes = 0;
    for shard in &shards {
        let file = model::read(out.join(shard));
        let (header_bytes, _) = safetensors::SafeTensors::read_metadata(&file).expect("it is sound");
        let tensors = file.len() - header_bytes - 8;
        assert!(tensors <= 100_000, "{shard}: {tensors}");
        bytes += tensors;
    }
    assert_eq!(index["metadata"]["total_size"], bytes);
    assert!(!files(&out).contains("model.safetensors"));

    // Where no two tensors share a file.
    let out = directory.path().join("single");
    convert(&golden("sharded"), &out, &["--max-shard-size", "1"]);
    assert_same_model("single", &open(&golden("sharded")), &open(&out));
}

#[test]
fn only_a_new_or_empty_directory_is_written_to() {
    let directory = TempDir::new().expect("a temporary directory");
    let [full, file, empty] = ["full", "file", "empty"].map(|name| directory.path().join(name));
    std::fs::create_dir(&full).expect("room");
    std::fs::write(full.join("something"), "of value").expect("room");
    std::fs::write(&file, "of value").expect("room");
    std::fs::create_dir(&empty).expect("room");
    let nowhere = directory.path().join("nowhere").join("out");
    let below_a_file = file.join("out");
    let before = files(directory.path());
    for (out, word) in [
        (&full, "it exists and is not empty; choose another directory"),
        (&file, "it exists and is no directory"),
        (&nowhere, ""),
        (&below_a_file, ""),
    ] {
        let (code, stdout, stderr) = run(&mut gptj(&["convert", "tests/golden/narrow_mlp", text(out)]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(&format!("error: cannot write {}: ", out.display())), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
        assert_eq!(files(directory.path()), before);
        assert_eq!(files(&full).len(), 1);
    }
    convert(&golden("narrow_mlp"), &empty, &[]);
    assert_eq!(files(directory.path()), before);
    open(&empty);

    for size in ["0", "-1", "5XB", "x", "99999999999GB"] {
        let arguments = ["convert", "tests/golden/narrow_mlp", text(&nowhere), "--max-shard-size", size];
        let (code, _, stderr) = run(&mut gptj(&arguments));
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--max-shard-size") && stderr.contains("must be a size"), "{stderr}");
    }
}

/// A number that cannot be written is found in the middle of a file.
#[test]
fn nothing_is_left_where_a_number_cannot_be_written() {
    let name = "transformer.ln_f.weight";
    for (bits, word) in [(70000f32.to_bits(), "f16 cannot hold"), (f32::NAN.to_bits(), "element 7 is NaN")] {
        let model = model::Model::sound().with_tensors(|tensors| {
            tensors.zeros(name, Dtype::F32, &[48])[28..32].copy_from_slice(&bits.to_le_bytes());
        });
        let directory = TempDir::new().expect("a temporary directory");
        let out = directory.path().join("out");
        let (code, stdout, stderr) = run(&mut gptj(&["convert", model.path(), text(&out)]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(&format!("tensor {name} in ")) && stderr.contains(word), "{stderr}");
        assert!(files(directory.path()).is_empty());
    }
}

/// A limit on the size of files stands for a full disk: after 32 KiB, the system refuses to write more.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_where_the_disk_is_full() {
    use assert_cmd::cargo::CommandCargoExt;

    let directory = TempDir::new().expect("a temporary directory");
    let out = directory.path().join("out");
    let program = std::process::Command::cargo_bin("gptj").expect("the program is built");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]);
    // The program has arguments of its own where cargo is told of a runner.
    command.arg(program.get_program()).args(program.get_args());
    command.args(["convert", "tests/golden/narrow_mlp", text(&out)]);
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    let file = out.join("model.safetensors");
    assert!(stderr.contains(&format!("error: cannot write {}: File too large", file.display())), "{stderr}");
    assert!(files(directory.path()).is_empty());
}

// ---- verify ----

/// What `verify --json` prints, and the exit code.
fn verify(model: &Path) -> (Value, Option<i32>) {
    let (code, stdout, stderr) = run(&mut gptj_without_gpu(&["verify", "--json", text(model)]));
    (serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout}; {stderr}")), code)
}

#[test]
fn sound_models_are_said_to_be_sound() {
    let (found, code) = verify(&golden("tiny"));
    let checkpoint = open(&golden("tiny"));
    let parameters = checkpoint.config().parameter_count();
    let want = json!({
        "model": "tests/golden/tiny",
        "tensors": TensorName::all(checkpoint.config()).len(),
        "parameters": parameters,
        "bytes": 4 * parameters,
        "problems": [],
    });
    assert_eq!((found, code), (want, Some(0)));
    let (code, stdout, stderr) = run(&mut gptj_without_gpu(&["verify"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("the built-in model: sound; ") && stdout.contains("a tokenizer that fits"), "{stdout}");
    let (_, stdout, _) = run(&mut gptj_without_gpu(&["verify", "tests/golden/tiny"]));
    assert!(stdout.ends_with("no tokenizer\n"), "{stdout}");
}

#[test]
fn everything_that_is_wrong_is_reported() {
    let floats = |bytes: &mut [u8], numbers: &[(usize, f32)]| {
        for &(index, number) in numbers {
            bytes[4 * index..][..4].copy_from_slice(&number.to_le_bytes());
        }
    };
    let model = model::Model::sound().with_tensors(|tensors| {
        let numbers = [(3, f32::NAN), (5, f32::INFINITY), (9, 65520.0), (10, -1e9), (11, 65504.0)];
        floats(tensors.zeros("transformer.wte.weight", Dtype::F32, &[200, 48]), &numbers);
        // A vector stays f32.
        floats(tensors.zeros("transformer.ln_f.weight", Dtype::F32, &[48]), &[(0, 1e9)]);
        let bias = tensors.zeros("lm_head.bias", Dtype::F16, &[200]);
        bias[398..].copy_from_slice(&f16::NEG_INFINITY.to_le_bytes());
        tensors.zeros("transformer.h.0.attn.q_proj.weight", Dtype::F16, &[48, 47]);
        tensors.zeros("transformer.h.1.mlp.fc_in.bias", Dtype::I32, &[80]);
        let moved = tensors.0.remove("transformer.h.1.ln_1.bias").expect("it was there");
        tensors.0.insert("transformer.h.1.ln_2.bias".to_owned(), moved);
        tensors.zeros("transformer.h.2.ln_1.bias", Dtype::F32, &[48]);
        tensors.zeros("transformer.h.2.ln_1.weight", Dtype::F32, &[48]);
    });
    // The tokenizer of a model with a larger vocabulary.
    let model = model.with("tokenizer.json", model::read("models/shakespeare/tokenizer.json"));
    let (found, code) = verify(model.0.path());
    assert_eq!(code, Some(1));
    assert_eq!(found["tensors"], 22, "of 25 tensors, three cannot be read: {found:#}");
    let problems = found["problems"].as_array().expect("a list");
    let words = [
        ("transformer.h.2.ln_1.bias", "it is of block 2, and the configuration's n_layer, 2, makes block 1 the last"),
        ("transformer.h.0.attn.q_proj.weight", "its shape is [48, 47]"),
        ("transformer.h.1.ln_1.bias", "it is missing"),
        ("transformer.h.1.mlp.fc_in.bias", "its numbers are I32"),
        ("", "3 tensors are here that the model does not have: transformer.h.1.ln_2.bias, transformer.h.2.ln_1.bias"),
        ("transformer.wte.weight", "2 of 9600 elements are NaN or infinite"),
        ("lm_head.bias", "1 of 200 elements are NaN or infinite"),
        ("", "this is the tokenizer of another model"),
    ];
    assert_eq!(problems.len(), words.len(), "{problems:#?}");
    for (problem, (tensor, word)) in problems.iter().zip(words) {
        assert_eq!(problem["tensor"].as_str().unwrap_or_default(), tensor);
        assert!(problem["problem"].as_str().expect("text").contains(word), "{problem}");
    }
    let wte = problems[5]["problem"].as_str().expect("text");
    let too_large = "2 of 9600 elements are more than f16 can hold (at most ±65504); the first is element 9, 65520";
    assert!(wte.contains("the first is element 3, NaN") && wte.contains(too_large), "{wte}");

    let (code, stdout, stderr) = run(&mut gptj_without_gpu(&["verify", model.path()]));
    assert_eq!(code, Some(1));
    assert_eq!(stdout.lines().count(), words.len(), "{stdout}");
    assert_eq!(stderr, format!("error: {} has 8 problems\n", model.path()));
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let model = model::Model::sound().with("model.safetensors", "version https://git-lfs.github.com/spec/v1");
    let (code, stdout, stderr) = run(&mut gptj_without_gpu(&["verify", "--json", model.path()]));
    assert_eq!(code, Some(1));
    let found: Value = serde_json::from_str(&stdout).expect("JSON");
    for message in [stderr.as_str(), found["problems"][0]["problem"].as_str().expect("a problem")] {
        assert!(message.contains("not a sound safetensors file"), "{message}");
    }
}
