//! What the program says to a model that it cannot use.
//!
//! Each case damages one thing of a sound model. What can be found out without a GPU is tested where there is none, so
//! that a check which came only after the GPU was opened would be noticed: its message would be about the GPU.

use gptj::Checkpoint;
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::json;

use crate::common::golden::{model, read};
use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, Tensors, replace, sound, text, with_header};
use crate::common::program::{gptj, gptj_without_gpu};
use crate::refusal::assert_refused;

impl ModelDir {
    /// Fails unless `generate` finds what is wrong, without a GPU.
    fn assert_refused(&self, case: &str, words: &[&str]) {
        let mut command = gptj_without_gpu(&["generate", "--model", self.text(), "--prompt-tokens", "1"]);
        assert_refused(case, &mut command, 1, words);
    }
}

#[test]
fn the_model_that_is_damaged_below_is_sound() {
    let model = ModelDir::sound().with_tensors(|_| ());
    Checkpoint::open(model.path()).expect("it is sound");
    let model = model.with("model.safetensors", with_header(|_| ()));
    Checkpoint::open(model.path()).expect("it is sound");
}

// ---- files ----

#[test]
fn missing_files_are_named() {
    ModelDir::empty().assert_refused("an empty directory", &["cannot read", "config.json"]);
    ModelDir::sound().without("config.json").assert_refused("no configuration", &["cannot read", "config.json"]);
    let words = ["no model.safetensors, no pytorch_model.bin, and no index of shards"];
    ModelDir::sound().without("model.safetensors").assert_refused("no weights", &words);

    let model = ModelDir::sound();
    for (case, path, words) in [
        ("no directory", model.file("nowhere"), ["cannot read", "no such file or directory"]),
        ("a file", model.file("config.json"), ["config.json", "neither a model directory nor a GGUF or GGML file"]),
    ] {
        let path = text(&path);
        for command in ["generate", "tokenize", "info"] {
            let mut command = gptj_without_gpu(&[command, "--model", path]);
            assert_refused(case, &mut command, 1, &[path, words[0], words[1]]);
        }
    }
}

#[test]
fn configurations_that_are_no_json_are_refused() {
    for (text, word) in [
        (&b""[..], "EOF while parsing"),
        (b"{\"model_type\": \"gptj\"", "EOF while parsing"),
        (b"model_type: gptj", "expected value"),
        (b"[]", "expected"),
        (b"{\"model_type\": \"\xff\"}", "UTF-8"),
    ] {
        let case = String::from_utf8_lossy(text);
        ModelDir::sound().with("config.json", text).assert_refused(&case, &["config.json", word]);
    }
}

#[test]
fn configurations_of_no_possible_gptj_are_refused() {
    for (changes, word) in [
        (
            json!({"model_type": "llama"}),
            "not a GPT-J or CodeGen model: model_type is llama; it must be gptj or codegen",
        ),
        (json!({"model_type": null, "architectures": null}), "not a GPT-J or CodeGen model: model_type is missing"),
        (json!({"activation_function": "relu"}), "activation_function is relu"),
        (json!({"rotary": false}), "rotary is false"),
        (json!({"n_embd": 50}), "n_embd (50) is not divisible by n_head (3)"),
        (json!({"model_type": "codegen"}), "n_head (3) is not divisible by 4"),
        (json!({"rotary_dim": 7}), "rotary_dim is 7; it must be even and between 2 and the head's 16"),
        (json!({"rotary_dim": 18}), "rotary_dim is 18"),
        (json!({"rotary_dim": 0}), "rotary_dim is 0"),
        (json!({"layer_norm_epsilon": 0}), "layer_norm_epsilon is 0"),
        (json!({"n_head": 0}), "n_head is 0"),
        (json!({"n_positions": 0}), "n_positions is 0"),
        (json!({"n_layer": 1_000_000}), "n_layer is 1000000"),
        (json!({"n_embd": 48_000_000}), "n_embd is 48000000"),
        (json!({"n_inner": u64::MAX}), "n_inner is 18446744073709551615"),
        (json!({"vocab_size": 1e99}), "vocab_size"),
        (json!({"n_embd": -48}), "n_embd"),
        (json!({"n_embd": "48"}), "n_embd"),
        (json!({"eos_token_id": "end"}), "eos_token_id: must be a token id or a list of them"),
    ] {
        ModelDir::sound().with_config(&changes).assert_refused(&changes.to_string(), &["config.json", word]);
    }
}

#[test]
fn configurations_that_contradict_the_tensors_are_refused() {
    let tensor = "tensor transformer.h.0.mlp.fc_in.weight in ";
    for (changes, words) in [
        (json!({"n_embd": 96}), ["tensor transformer.wte.weight in ", "its shape is [200, 48]", "[200, 96]"]),
        (json!({"vocab_size": 201}), ["tensor transformer.wte.weight in ", "its shape is [200, 48]", "[201, 48]"]),
        (json!({"n_inner": null}), [tensor, "its shape is [80, 48]", "the configuration makes it [192, 48]"]),
        (json!({"n_layer": 3}), ["10 of the model's tensors are missing", "transformer.h.2.ln_1.weight", ", …"]),
    ] {
        ModelDir::sound().with_config(&changes).assert_refused(&changes.to_string(), &words);
    }
}

#[test]
fn damaged_generation_configurations_are_refused() {
    for (text, word) in [("{", "EOF"), (r#"{"eos_token_id": -1}"#, "eos_token_id is not a token id")] {
        let model = ModelDir::sound().with("generation_config.json", text);
        model.assert_refused(text, &["generation_config.json", word]);
    }
}

// ---- tensors ----

#[test]
fn damaged_safetensors_files_are_refused() {
    let header_of = |length: u64| [&length.to_le_bytes()[..], &sound("model.safetensors")[8..]].concat();
    let cut_off = |bytes: usize| sound("model.safetensors")[..bytes].to_vec();
    let mut binary = sound("model.safetensors");
    binary[20] = 0xff;
    let length = sound("model.safetensors").len();
    let appended = [sound("model.safetensors"), vec![0]].concat();
    let ends_early = "it ends before its header does";
    let does_not_end = "its tensors do not end where it ends";
    for (case, file, word) in [
        ("empty", Vec::new(), ends_early),
        ("seven bytes", cut_off(7), ends_early),
        ("nothing but the header's length", cut_off(8), ends_early),
        ("cut off in the header", cut_off(100), ends_early),
        ("cut off in the tensors", cut_off(length - 1), does_not_end),
        ("a byte too many", appended, does_not_end),
        ("a header longer than the file", header_of(length as u64), ends_early),
        ("an absurd header", header_of(u64::MAX), "does not begin with a header's length"),
        ("a text", b"version https://git-lfs.github.com/spec/v1".to_vec(), "if it is a Git LFS pointer"),
        ("an empty header", header_of(0), "invalid JSON in header"),
        ("a header cut short", header_of(50), "invalid JSON in header"),
        ("a header that is no text", binary, "invalid UTF-8 in header"),
    ] {
        let model = ModelDir::sound().with("model.safetensors", file);
        model.assert_refused(case, &["model.safetensors: not a sound safetensors file", word]);
    }
}

/// In the file, lm_head.bias (400 bytes) comes first, then lm_head.weight (19,200 bytes); h.1.attn.bias is the last.
#[test]
fn tensors_with_impossible_places_are_refused() {
    let place = "invalid offset for tensor `lm_head.weight`";
    let disagree = "a tensor's shape and its bytes in the file disagree";
    let last = "transformer.h.1.attn.bias";
    let longer = json!({"shape": [1, 1, 48, 24], "data_offsets": [108_052, 108_052 + 48 * 24]});
    for (case, name, changes, word) in [
        ("overlapping", "lm_head.weight", json!({"data_offsets": [0, 19_200]}), place),
        ("after a hole", "lm_head.weight", json!({"data_offsets": [402, 19_602]}), place),
        ("backwards", "lm_head.weight", json!({"data_offsets": [400, 0]}), place),
        ("beyond the file", last, longer, "its tensors do not end where it ends"),
        ("too many bytes", last, json!({"data_offsets": [108_052, 1u64 << 60]}), disagree),
        ("too few bytes", "lm_head.bias", json!({"shape": [201]}), disagree),
        ("more elements than can be counted", "lm_head.bias", json!({"shape": [u64::MAX, 2]}), "overflow"),
        ("a negative size", "lm_head.bias", json!({"shape": [-200]}), "invalid JSON in header"),
        ("no place", "lm_head.bias", json!({"data_offsets": null}), "invalid JSON in header"),
        ("an unknown format", "lm_head.bias", json!({"dtype": "Q7"}), "unknown variant `Q7`"),
    ] {
        let file = with_header(|header| replace(&mut header[name], &changes));
        let model = ModelDir::sound().with("model.safetensors", file);
        model.assert_refused(case, &["model.safetensors: not a sound safetensors file", word]);
    }
}

#[test]
fn tensors_of_the_wrong_kind_are_refused() {
    for (name, dtype, shape, word) in [
        ("lm_head.bias", Dtype::I32, &[200][..], "its numbers are I32; F32, F16 and BF16 can be loaded"),
        ("transformer.ln_f.bias", Dtype::F64, &[48], "its numbers are F64"),
        ("lm_head.weight", Dtype::F16, &[48, 200], "its shape is [48, 200]; the configuration makes it [200, 48]"),
        ("transformer.ln_f.bias", Dtype::F16, &[], "its shape is []; the configuration makes it [48]"),
    ] {
        let model = ModelDir::sound().with_tensors(|tensors| _ = tensors.zeros(name, dtype, shape));
        model.assert_refused(name, &[&format!("tensor {name} in "), "model.safetensors", word]);
    }
}

#[test]
fn missing_tensors_are_named() {
    let name = "transformer.h.1.attn.q_proj.weight";
    let model = ModelDir::sound().with_tensors(|tensors| _ = tensors.0.remove(name));
    model.assert_refused("one", &[&format!("1 of the model's tensors are missing: {name}")]);
    let model = model.with_tensors(|tensors| tensors.0.clear());
    model.assert_refused("all", &["25 of the model's tensors are missing: wte.weight", ", …"]);
}

/// Numbers are looked at on their way to the GPU, so this needs one.
#[test]
fn numbers_that_cannot_be_computed_with_are_refused() {
    if gpu().is_none() {
        return;
    }
    for (name, dtype, number, word) in [
        ("transformer.wte.weight", Dtype::F16, f32::NAN, "element 7 is NaN; the file is damaged"),
        ("lm_head.weight", Dtype::F16, f32::NEG_INFINITY, "element 7 is -inf; the file is damaged"),
        ("lm_head.bias", Dtype::BF16, f32::INFINITY, "element 7 is inf; the file is damaged"),
        ("transformer.ln_f.bias", Dtype::F32, f32::NAN, "element 7 is NaN; the file is damaged"),
        ("transformer.h.1.mlp.fc_out.weight", Dtype::F32, 65_520.0, "element 7 is 65520, which f16 cannot hold"),
        ("transformer.h.0.attn.q_proj.weight", Dtype::BF16, -131_072.0, "element 7 is -131072, which f16 cannot hold"),
    ] {
        let number = match dtype {
            Dtype::F16 => f16::from_f32(number).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(number).to_le_bytes().to_vec(),
            _ => number.to_le_bytes().to_vec(),
        };
        let model = ModelDir::sound().with_tensors(|tensors| {
            let shape = tensors.0[name].1.clone();
            tensors.zeros(name, dtype, &shape)[7 * number.len()..8 * number.len()].copy_from_slice(&number);
        });
        let mut command = gptj(&["generate", "--model", model.text(), "--prompt-tokens", "1"]);
        assert_refused(name, &mut command, 1, &[&format!("tensor {name} in "), "model.safetensors", word]);
    }
}

// ---- shards ----

#[test]
fn damaged_indices_are_refused() {
    let index = "model.safetensors.index.json";
    let same_directory = "is not the name of a file in the same directory";
    for (text, words) in [
        ("", [index, "EOF while parsing"]),
        ("[1]", [index, "weight_map is missing"]),
        (r#"{"metadata": {}}"#, [index, "weight_map is missing"]),
        (r#"{"weight_map": ["shard.safetensors"]}"#, [index, "weight_map is missing or not an object"]),
        (r#"{"weight_map": {"wte.weight": 1}}"#, [index, same_directory]),
        (r#"{"weight_map": {"wte.weight": ""}}"#, [index, same_directory]),
        (r#"{"weight_map": {"wte.weight": ".."}}"#, [index, same_directory]),
        (r#"{"weight_map": {"wte.weight": "../shard.safetensors"}}"#, ["\"../shard.safetensors\"", same_directory]),
        (r#"{"weight_map": {"wte.weight": "/etc/passwd"}}"#, ["\"/etc/passwd\"", same_directory]),
        (r#"{"weight_map": {"wte.weight": "a/shard.safetensors"}}"#, ["\"a/shard.safetensors\"", same_directory]),
        (
            r#"{"weight_map": {"wte.weight": "absent.safetensors"}}"#,
            [index, "1 of the 1 files that it names are missing: absent.safetensors"],
        ),
        (r#"{"weight_map": {"wte.weight": "config.json"}}"#, ["config.json", "not a sound safetensors file"]),
        (r#"{"weight_map": {}}"#, ["25 of the model's tensors are missing", "wte.weight"]),
    ] {
        ModelDir::sound().without("model.safetensors").with(index, text).assert_refused(text, &words);
    }
}

#[test]
fn a_tensor_that_no_shard_has_is_missing() {
    let mut tensors = Tensors::open(model("narrow_mlp").join("model.safetensors"));
    tensors.0.remove("lm_head.bias");
    let index = r#"{"weight_map": {"lm_head.weight": "shard.safetensors", "lm_head.bias": "shard.safetensors"}}"#;
    let model = ModelDir::sound().without("model.safetensors").with("shard.safetensors", tensors.to_file());
    let model = model.with("model.safetensors.index.json", index);
    model.assert_refused("incomplete shards", &["1 of the model's tensors are missing: lm_head.bias"]);
}

// ---- tokenizers ----

#[test]
fn damaged_tokenizers_are_refused() {
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let bpe = |file: &str| read(model("bpe").join(file));
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(bpe);
    let demo = read("models/shakespeare/tokenizer.json");
    let decoder = demo.windows(9).position(|key| key == b"\"decoder\"").expect("it has a decoder");
    let beyond = |id: u32| format!("has id {id}, but the model's vocabulary has only 200 tokens");
    let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]});
    let unmade = json!({"decoder": {"type": "ByteLevel"}, "model": model}).to_string();
    let makes = "merge \"a\" \"b\" makes a token that is not in the vocabulary";
    let cases: [(Files<'_>, &str, &str); 16] = [
        (&[("tokenizer.json", unmade.as_bytes())], "tokenizer.json", makes),
        (&[("vocab.json", b"{\"a\": 0, \"b\": 1}"), ("merges.txt", b"a b\n")], "merges.txt", makes),
        (&[("tokenizer.json", b"")], "tokenizer.json", "EOF"),
        (&[("tokenizer.json", b"{}")], "tokenizer.json", "Model missing"),
        (&[("tokenizer.json", b"\"\xff\"")], "tokenizer.json", "invalid unicode"),
        (&[("tokenizer.json", &demo[..decoder])], "tokenizer.json", "EOF"),
        (&[("tokenizer.json", &demo[..decoder + 20])], "tokenizer.json", "EOF"),
        (&[("tokenizer.json", &demo)], "tokenizer.json", &beyond(1023)),
        (&[("vocab.json", &vocab)], "merges.txt", "missing; vocab.json needs it"),
        (&[("vocab.json", &vocab), ("merges.txt", &merges)], "vocab.json", &beyond(299)),
        (&[("vocab.json", &vocab[..99]), ("merges.txt", &merges)], "vocab.json", "EOF"),
        (&[("vocab.json", b"[]"), ("merges.txt", &merges)], "vocab.json", "Bad vocabulary"),
        (&[("vocab.json", &vocab), ("merges.txt", b"#version: 0.2\nab\n")], "merges.txt", "Merges text file invalid"),
        (&[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"a q\n")], "merges.txt", "Token `q` out of vocabulary"),
        (
            &[("vocab.json", &vocab), ("merges.txt", &merges), ("added_tokens.json", b"{\"x\": ")],
            "added_tokens.json",
            "EOF",
        ),
        (
            &[("vocab.json", &vocab), ("merges.txt", &merges), ("added_tokens.json", b"{\"<x>\": 300, \"<y>\": 302}")],
            "added_tokens.json",
            "token \"<y>\" has id 302; added tokens must follow the others without a gap",
        ),
    ];
    for (files, file, word) in cases {
        let model = files.iter().fold(ModelDir::sound(), |model, (file, contents)| model.with(file, contents));
        model.assert_refused(word, &[file, word]);
        let mut command = gptj_without_gpu(&["tokenize", "--model", model.text(), "text"]);
        assert_refused(word, &mut command, 1, &[file, word]);
    }
}
