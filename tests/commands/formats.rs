//! Checkpoints of every format as the program takes them.

use std::path::Path;

use gptj::{Checkpoint, Tokenizer};

use crate::common::gpu::gpu;
use crate::common::model_dir::text;
use crate::common::program::{finish, gptj, gptj_without_gpu, run};
use crate::common::pytorch::sound;

#[test]
fn the_program_takes_files() {
    let output = |arguments: &[&str]| {
        let (_, stdout, stderr) = finish(&mut gptj_without_gpu(arguments));
        [stdout, stderr]
    };
    let text = "the thing is <|endoftext|>";
    let [want, _] = output(&["tokenize", "--model", "tests/formats/gguf/mixed.gguf", text]);
    assert!(want.trim_end().ends_with(",299"), "{want:?}");
    for model in ["mixed.gguf", "mixed.bin", "mixed-ggjt.bin"] {
        let model = format!("tests/formats/gguf/{model}");
        let [ids, stderr] = output(&["tokenize", "--model", &model, "--tokenizer", "tests/golden/bpe", text]);
        assert_eq!(ids, want, "{stderr}");
        let [info, stderr] = output(&["info", "--json", "--model", &model]);
        assert!(info.contains("\"n_inner\": 96"), "{stderr}");
    }
    let [_, stderr] = output(&["generate", "--model", "tests/formats/gguf/mixed.bin", "--prompt", text]);
    assert!(stderr.contains("mixed.bin has no tokenizer.json") && stderr.contains("--tokenizer"), "{stderr}");
    let [_, stderr] = output(&["tokenize", "--tokenizer", "tests/golden/tiny", text]);
    assert!(stderr.contains("tests/golden/tiny has no tokenizer.json"), "{stderr}");
}

#[test]
fn a_gguf_file_needs_no_other() {
    if gpu().is_none() {
        return;
    }
    let model = "tests/formats/gguf/mixed.gguf";
    let arguments = ["generate", "--model", model, "--prompt", "the thing", "--greedy", "-n", "3"];
    let (text, _) = run(&mut gptj(&arguments));
    assert!(text.starts_with("the thing"), "{text:?}");
}

/// A converted file brings its tokenizer along.
#[test]
fn a_converted_file_keeps_its_tokenizer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("out");
    let file = Path::new("tests/formats/gguf/mixed.gguf");
    run(&mut gptj(&["convert", text(file), text(&out)]));
    let [before, after] = [file, &out].map(|path| {
        let vocab_size = Checkpoint::open(path).expect("a sound model").config().vocab_size;
        let tokenizer = Tokenizer::open(path, vocab_size).expect("a sound tokenizer").expect("there is one");
        tokenizer.encode("Ham. To be, or not <|endoftext|>").expect("a text")
    });
    assert_eq!(before, after);
}

/// PyTorch's files, in every form that `torch.save` has written.
#[test]
fn the_program_takes_them() {
    for (name, directory) in sound() {
        let (code, _, stderr) = finish(&mut gptj(&["info", "--json", "--model", directory.text()]));
        assert_eq!(code, 0, "{name}: {stderr}");
    }
}
