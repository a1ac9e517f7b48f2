//! `gptj convert`, from outside and without a GPU but for the logits of what was written.

use std::collections::BTreeSet;
use std::path::Path;

use assert_cmd::Command;
use gptj::checkpoint::{self, TensorName};
use gptj::{Checkpoint, LoadOptions};
use pollster::block_on;
use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::golden::{model as golden, read};
use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, NARROW, text};
use crate::common::program::{finish, gptj, gptj_without_gpu, plain_gptj, run};
use crate::common::transformers::load;

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"))
}

fn convert(from: &Path, to: &Path, options: &[&str]) {
    let arguments = [&["convert", text(from), text(to)], options].concat();
    let (stdout, _) = run(&mut gptj_without_gpu(&arguments));
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
            assert_eq!(view.format(), Some(checkpoint::Dtype::F16), "{name}: {tensor:?}");
            let in_hugging_face = matches!(tensor, TensorName::LmHeadWeight | TensorName::LmHeadBias);
            assert!(view.name().starts_with(if in_hugging_face { "lm_head." } else { "transformer." }));
        }
        let config: Value = serde_json::from_slice(&read(out.join("config.json"))).expect("JSON");
        assert_eq!(config["torch_dtype"], "float16", "{name}");
        let may_be_there = ["generation_config.json", "tokenizer.json"];
        for file in may_be_there.into_iter().filter(|file| golden(name).join(file).exists()) {
            assert_eq!(read(out.join(file)), read(golden(name).join(file)), "{name}: {file}");
        }
        assert!(files(&out).contains("model.safetensors"), "{name} fits one file");

        run(&mut gptj_without_gpu(&["verify", text(&out)]));
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
            let mut model = load(&gpu, &open(path), &LoadOptions::default());
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
        ("tiny", checkpoint::Dtype::F32, "float32"),
        ("narrow_mlp", checkpoint::Dtype::F16, "float16"),
        ("odd_widths", checkpoint::Dtype::BF16, "bfloat16"),
    ] {
        let out = directory.path().join(name);
        convert(&golden(name), &out, &["--format", "as-is"]);
        let to = open(&out);
        assert_same_model(name, &open(&golden(name)), &to);
        for tensor in TensorName::all(to.config()) {
            assert_eq!(to.tensor(tensor).expect("it is sound").format(), Some(format), "{name}");
        }
        let config: Value = serde_json::from_slice(&read(out.join("config.json"))).expect("JSON");
        assert_eq!(config["torch_dtype"], torch_name);
    }
    // Wide numbers come first, so that each lies at a multiple of its size: here the bias is between others of two
    // bytes.
    let mixed = ModelDir::sound().with_tensors(|tensors| {
        tensors.zeros("transformer.h.0.mlp.fc_in.bias", Dtype::F32, &[80]).fill(0x11);
    });
    let out = directory.path().join("mixed");
    convert(mixed.path(), &out, &["--format", "as-is"]);
    assert_same_model("mixed", &open(mixed.path()), &open(&out));
    let bytes = read(out.join("model.safetensors"));
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
    let index: Value = serde_json::from_slice(&read(out.join("model.safetensors.index.json"))).expect("JSON");
    let map = index["weight_map"].as_object().expect("an object");
    let shards: BTreeSet<_> = map.values().map(|name| name.as_str().expect("a name")).collect();
    assert!(shards.len() > 2, "{shards:?}");
    let mut bytes = 0;
    for shard in &shards {
        let file = read(out.join(shard));
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
        (&file, "it exists and is not a directory"),
        (&nowhere, ""),
        (&below_a_file, ""),
    ] {
        let (code, stdout, stderr) = finish(&mut gptj(&["convert", NARROW, text(out)]));
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(&format!("error: cannot write {}: ", out.display())), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
        assert_eq!(files(directory.path()), before);
        assert_eq!(files(&full).len(), 1);
    }
    convert(&golden("narrow_mlp"), &empty, &[]);
    assert_eq!(files(directory.path()), before);
    open(&empty);

    for size in ["0", "-1", "5XB", "x", "99999999999GB"] {
        let arguments = ["convert", NARROW, text(&nowhere), "--max-shard-size", size];
        let (code, _, stderr) = finish(&mut gptj(&arguments));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("--max-shard-size") && stderr.contains("must be a size"), "{stderr}");
    }
}

/// A number that cannot be written is found in the middle of a file.
#[test]
fn nothing_is_left_where_a_number_cannot_be_written() {
    let name = "transformer.ln_f.weight";
    for (bits, word) in [(70000f32.to_bits(), "f16 cannot hold"), (f32::NAN.to_bits(), "element 7 is NaN")] {
        let model = ModelDir::sound().with_tensors(|tensors| {
            tensors.zeros(name, Dtype::F32, &[48])[28..32].copy_from_slice(&bits.to_le_bytes());
        });
        let directory = TempDir::new().expect("a temporary directory");
        let out = directory.path().join("out");
        let (code, stdout, stderr) = finish(&mut gptj(&["convert", model.text(), text(&out)]));
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(&format!("tensor {name} in ")) && stderr.contains(word), "{stderr}");
        assert!(files(directory.path()).is_empty());
    }
}

/// A limit on the size of files stands for a full disk: after 32 KiB, the system refuses to write more.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_where_the_disk_is_full() {
    let directory = TempDir::new().expect("a temporary directory");
    let out = directory.path().join("out");
    let program = plain_gptj(&["convert", NARROW, text(&out)]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]);
    // The program has arguments of its own where cargo is told of a runner.
    command.arg(program.get_program()).args(program.get_args());
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    let file = out.join("model.safetensors");
    assert!(stderr.contains(&format!("error: cannot write {}: File too large", file.display())), "{stderr}");
    assert!(files(directory.path()).is_empty());
}
