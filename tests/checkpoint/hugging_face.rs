//! What a Hugging Face directory may hold and may not, and what is kept of its numbers' formats.

use std::ops::ControlFlow;
use std::path::Path;

use gptj::checkpoint::{BlockTensor, Dtype, TensorName, WriteFormat, WriteOptions, write};
use gptj::{Checkpoint, Class, Tokenizer, checkpoint};
use serde_json::{Value, json};

use crate::common::golden::{self, Golden, read};
use crate::common::model_dir::ModelDir;

/// What is said of a model that is not sound.
fn error(path: &Path) -> String {
    Checkpoint::open(path).err().expect("it is not sound").to_string()
}

fn convert(checkpoint: &Checkpoint, out: &Path, options: &WriteOptions) {
    write(checkpoint, out, options, &mut |_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{error}"));
}

/// Every number of every tensor of the model at `path` is that of another.
fn assert_holds_the_same(path: &Path, other: &Checkpoint) {
    let written = Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"));
    for tensor in TensorName::all(written.config()) {
        let [a, b] = [other, &written].map(|checkpoint| checkpoint.tensor(tensor).expect("it is there"));
        assert_eq!(
            a.to_f32().expect("numbers"),
            b.to_f32().expect("numbers"),
            "{}: {tensor:?}",
            other.path().display()
        );
    }
}

/// Where a tensor is in two files, nobody can know which one is meant.
#[test]
fn a_tensor_is_in_one_file() {
    let tiny = |file: &str| read(golden::model("tiny").join(file));
    let index = json!({ "weight_map": { "x": "a.safetensors", "y": "b.safetensors" } });
    let directory = ModelDir::empty()
        .with("config.json", tiny("config.json"))
        .with("a.safetensors", tiny("model.safetensors"))
        .with("b.safetensors", tiny("model.safetensors"))
        .with("model.safetensors.index.json", index.to_string());
    let error = error(directory.path());
    assert!(error.contains("b.safetensors: it is in") && error.contains("a.safetensors as well"), "{error}");
}

/// A configuration of fewer blocks than there are would compute something else.
#[test]
fn no_block_is_left_out() {
    let directory = ModelDir::copy_of("golden/tiny").with_config(&json!({ "n_layer": 4 }));
    let error = error(directory.path());
    assert!(error.contains("it is of block 4, but with n_layer 4"), "{error}");
}

/// A configuration is checked for the class that is asked for, and not only for its own.
#[test]
fn a_classification_needs_labels() {
    let changes = json!({ "architectures": ["GPTJModel"], "id2label": {} });
    let directory = ModelDir::copy_of("golden/classes/single_label").with_config(&changes);
    assert_eq!(Checkpoint::open(directory.path()).expect("a bare model").config().class, Class::Model);
    let error = Checkpoint::open_as(directory.path(), Class::SequenceClassification).err().expect("no labels");
    assert!(error.to_string().contains("id2label names no label"), "{error}");
}

/// How the texts of some training were cut and filled up does not touch other texts.
#[test]
fn a_tokenizer_neither_cuts_nor_fills_up() {
    let mut json = serde_json::from_slice::<Value>(&read("models/shakespeare/tokenizer.json")).expect("JSON");
    let (text, name) = ("To be, or not to be, that is the question", "tokenizer.json");
    let plain = Tokenizer::from_bytes(name, json.to_string().as_bytes(), 1024).expect("a tokenizer");
    json["truncation"] = json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 8 });
    json["padding"] = json!({
        "strategy": { "Fixed": 40 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    });
    let cutting = Tokenizer::from_bytes(name, json.to_string().as_bytes(), 1024).expect("a tokenizer");
    assert_eq!(cutting.encode(text).expect("it has tokens"), plain.encode(text).expect("it has tokens"));
}

/// Every class is written with the names, shapes and keys that transformers wrote it with.
#[test]
fn every_class_is_written_as_transformers_has_it() {
    for name in ["single_label", "multi_label", "regression", "two_labels", "question_answering", "base"] {
        let from = golden::path("golden/classes").join(name);
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let checkpoint = Checkpoint::open(&from).unwrap_or_else(|error| panic!("{error}"));
        convert(&checkpoint, &out, &WriteOptions::default());
        let [theirs, ours] = [&from, &out].map(|path| Golden::at(path.join("model.safetensors")).shapes());
        assert_eq!(ours, theirs, "{name}");
        let [theirs, ours] =
            [&from, &out].map(|path| serde_json::from_slice::<Value>(&read(path.join("config.json"))).expect("JSON"));
        let keys = [
            "architectures",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "id2label",
            "label2id",
            "problem_type",
            "layer_norm_epsilon",
            "tie_word_embeddings",
            "n_positions",
            "rotary_dim",
        ];
        for key in keys.into_iter().filter(|key| !theirs[key].is_null()) {
            assert_eq!(ours[key], theirs[key], "{name}: {key}");
        }
        assert_holds_the_same(&out, &checkpoint);
    }
}

/// Formats are kept where tensors are put together from others.
#[test]
fn as_is_keeps_the_formats_of_what_is_put_together() {
    let q = TensorName::Block(0, BlockTensor::QProj);
    for (model, format) in [("tests/formats/codegen/padded_head", Dtype::F16), ("tests/formats/mesh", Dtype::BF16)] {
        let checkpoint = Checkpoint::open(Path::new(model)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(checkpoint.tensor(q).expect("it is there").format(), Some(format), "{model}");
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let options = WriteOptions { format: WriteFormat::AsIs, ..WriteOptions::default() };
        convert(&checkpoint, &out, &options);
        assert_holds_the_same(&out, &checkpoint);
    }
}

/// Whoever hears of the progress can stop it, and nothing is left behind.
#[test]
fn writing_can_be_stopped() {
    let checkpoint = Checkpoint::open(&golden::model("tiny")).expect("a sound model");
    let directory = tempfile::tempdir().expect("a directory");
    let mut heard = 0;
    let stopped = write(&checkpoint, &directory.path().join("out"), &WriteOptions::default(), &mut |_| {
        heard += 1;
        if heard == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(checkpoint::Error::Stopped)) && heard == 3);
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}
