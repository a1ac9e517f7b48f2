//! `gptj verify`.

use std::path::Path;

use gptj::Checkpoint;
use gptj::checkpoint::TensorName;
use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::golden::{model, read};
use crate::common::model_dir::{ModelDir, text};
use crate::common::program::{finish, gptj_without_gpu};

/// What `verify --json` prints, and the exit code.
fn verify(model: &Path) -> (Value, i32) {
    let (code, stdout, stderr) = finish(&mut gptj_without_gpu(&["verify", "--json", text(model)]));
    (serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout}; {stderr}")), code)
}

#[test]
fn sound_models_are_said_to_be_sound() {
    let (found, code) = verify(&model("tiny"));
    let checkpoint = Checkpoint::open(&model("tiny")).expect("the golden is sound");
    let parameters = checkpoint.config().parameter_count();
    let want = json!({
        "model": "tests/golden/tiny",
        "tensors": TensorName::all(checkpoint.config()).len(),
        "parameters": parameters,
        "bytes": 4 * parameters,
        "problems": [],
    });
    assert_eq!((found, code), (want, 0));
    let (code, stdout, stderr) = finish(&mut gptj_without_gpu(&["verify"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("the built-in model: sound; ") && stdout.contains("a tokenizer that fits"), "{stdout}");
    let (_, stdout, _) = finish(&mut gptj_without_gpu(&["verify", "tests/golden/tiny"]));
    assert!(stdout.ends_with("no tokenizer\n"), "{stdout}");
}

#[test]
fn everything_that_is_wrong_is_reported() {
    let floats = |bytes: &mut [u8], numbers: &[(usize, f32)]| {
        for &(index, number) in numbers {
            bytes[4 * index..][..4].copy_from_slice(&number.to_le_bytes());
        }
    };
    let model = ModelDir::sound().with_tensors(|tensors| {
        let numbers = [(3, f32::NAN), (5, f32::INFINITY), (9, 65520.0), (10, -1e9), (11, 65504.0)];
        floats(tensors.zeros("transformer.wte.weight", Dtype::F32, &[200, 48]), &numbers);
        // A vector stays f32.
        floats(tensors.zeros("transformer.ln_f.weight", Dtype::F32, &[48]), &[(0, 1e9)]);
        let bias = tensors.zeros("lm_head.bias", Dtype::F16, &[200]);
        bias[398..].copy_from_slice(&f16::NEG_INFINITY.to_le_bytes());
        tensors.zeros("transformer.h.0.attn.q_proj.weight", Dtype::F16, &[48, 47]);
        tensors.zeros("transformer.h.1.mlp.fc_in.bias", Dtype::I32, &[80]);
        tensors.rename("transformer.h.1.ln_1.bias", "transformer.h.1.ln_2.bias");
        tensors.zeros("transformer.h.2.ln_1.bias", Dtype::F32, &[48]);
        tensors.zeros("transformer.h.2.ln_1.weight", Dtype::F32, &[48]);
    });
    // The tokenizer of a model with a larger vocabulary.
    let model = model.with("tokenizer.json", read("models/shakespeare/tokenizer.json"));
    let (found, code) = verify(model.path());
    assert_eq!(code, 1);
    assert_eq!(found["tensors"], 22, "of 25 tensors, three cannot be read: {found:#}");
    let problems = found["problems"].as_array().expect("a list");
    let words = [
        ("transformer.h.2.ln_1.bias", "it is of block 2, but with n_layer 2 the last block is 1"),
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

    let (code, stdout, stderr) = finish(&mut gptj_without_gpu(&["verify", model.text()]));
    assert_eq!(code, 1);
    assert_eq!(stdout.lines().count(), words.len(), "{stdout}");
    assert_eq!(stderr, format!("error: {} has 8 problems\n", model.text()));
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let model = ModelDir::sound().with("model.safetensors", "version https://git-lfs.github.com/spec/v1");
    let (code, stdout, stderr) = finish(&mut gptj_without_gpu(&["verify", "--json", model.text()]));
    assert_eq!(code, 1);
    let found: Value = serde_json::from_str(&stdout).expect("JSON");
    for message in [stderr.as_str(), found["problems"][0]["problem"].as_str().expect("a problem")] {
        assert!(message.contains("not a sound safetensors file"), "{message}");
    }
}
