//! LoRA adapters against PEFT, merged on the GPU and, by `gptj convert`, without one.
//!
//! `tests/formats/make_lora.py` wrote the adapters and what transformers computes with them in f32. Merged weights are
//! rounded to f16 (2^-11 of a number), beside what `tests/model.rs` says of the cache.

#![cfg(feature = "cli")]

mod common;
#[expect(dead_code, reason = "each test file uses its own part of this")]
#[path = "bad_input/model.rs"]
mod model;
#[path = "common/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{assert_close, block_on, gpu, numbers};
use gptj::checkpoint::{BlockTensor, TensorName};
use gptj::internals::gpu::Gpu;
use gptj::internals::reference;
use gptj::{Checkpoint, LoadOptions, Model};
use half::f16;
use model::{Tensors, read, replace};
use program::{gptj, gptj_without_gpu};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

const NARROW: &str = "tests/golden/narrow_mlp";
const ATTENTION: &str = "tests/formats/lora/attention";
const ALL: &str = "tests/formats/lora/all";

/// Of the largest logit: 2^-10 for the cache, as much for the weights, and twice that for passing through both blocks.
const TOLERANCE: f32 = 1.0 / 256.0;

/// What PEFT's adapters make of the model, by the names in `make_lora.py`.
fn cases() -> [(&'static str, Vec<(&'static str, f32)>); 5] {
    [
        ("base", vec![]),
        ("attention", vec![(ATTENTION, 1.0)]),
        ("all", vec![(ALL, 1.0)]),
        ("half", vec![(ALL, 0.5)]),
        ("both", vec![(ATTENTION, 1.0), (ALL, 1.0)]),
    ]
}

fn checkpoint(model: &Path, adapters: &[(&str, f32)]) -> Checkpoint {
    let mut checkpoint = Checkpoint::open(model).unwrap_or_else(|error| panic!("{error}"));
    for (directory, scale) in adapters {
        checkpoint.add_adapter(Path::new(directory), *scale).unwrap_or_else(|error| panic!("{error}"));
    }
    checkpoint
}

/// The logits of all of some tokens.
fn logits(gpu: &Gpu, checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    let mut model = block_on(Model::load(gpu, checkpoint, &LoadOptions::default(), |_| ())).expect("it fits");
    common::logits_of_all(&mut model, tokens)
}

fn assert_logits_close(what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let error = got.iter().zip(want).fold(0f32, |error, (got, want)| error.max((got - want).abs()));
    println!("{what}: off by at most {:.1e} of the largest, {largest}", error / largest);
    assert_close(what, got, want, TOLERANCE * largest, 0.0);
}

fn goldens() -> (Vec<u32>, BTreeMap<String, Vec<f32>>) {
    let bytes = read("tests/formats/lora/logits.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
    let data = |name: &str| file.tensor(name).expect("every golden has it").data().to_vec();
    let logits = cases().map(|(name, _)| (name.to_owned(), bytemuck::pod_collect_to_vec(&data(name))));
    (bytemuck::pod_collect_to_vec(&data("tokens")), logits.into())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the program starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), stdout, stderr)
}

/// Converts a model with adapters and returns where it is.
fn convert(model: &Path, adapters: &[(&str, f32)], into: &TempDir, name: &str) -> PathBuf {
    let out = into.path().join(name);
    let mut command = gptj_without_gpu(&["convert", text(model), text(&out)]);
    for (directory, scale) in adapters {
        command.args(["--lora", &format!("{directory}={scale}")]);
    }
    let (code, _, stderr) = run(&mut command);
    assert_eq!(code, Some(0), "{stderr}");
    out
}

// ---- adapters that can be merged ----

#[test]
fn merged_models_compute_what_peft_computes() {
    let Some(gpu) = gpu() else { return };
    let directory = TempDir::new().expect("a temporary directory");
    let (tokens, want) = goldens();
    for (name, adapters) in cases() {
        let merged = logits(&gpu, &checkpoint(Path::new(NARROW), &adapters), &tokens);
        assert_logits_close(name, &merged, &want[name]);
        let written = convert(Path::new(NARROW), &adapters, &directory, name);
        assert_logits_close(
            &format!("{name}, converted"),
            &logits(&gpu, &checkpoint(&written, &[]), &tokens),
            &want[name],
        );
        if name != "base" {
            let change = merged.iter().zip(&want["base"]).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(change > 5.0, "{name} changes the logits by {change}");
        }
    }
}

/// Older versions of PEFT save adapters by PyTorch.
#[test]
fn pickled_adapters_are_the_same() {
    let Some(gpu) = gpu() else { return };
    let (tokens, _) = goldens();
    let [safetensors, pickled] = [ATTENTION, "tests/formats/lora/attention_bin"]
        .map(|adapter| logits(&gpu, &checkpoint(Path::new(NARROW), &[(adapter, 1.0)]), &tokens));
    assert_eq!(safetensors, pickled);
}

/// An adapter of every matrix of a golden, of this rank.
fn adapter_of(golden: &str, rank: usize) -> TempDir {
    let checkpoint = checkpoint(&Path::new("tests/golden").join(golden), &[]);
    let mut tensors = BTreeMap::new();
    for name in TensorName::all(checkpoint.config()) {
        let TensorName::Block(_, tensor) = name else { continue };
        let shape = name.shape(checkpoint.config());
        if shape.len() != 2 {
            continue;
        }
        let view = checkpoint.tensor(name).expect("it is sound");
        let module = view.name().strip_suffix(".weight").expect("a matrix");
        for (side, shape) in [("A", [rank, shape[1]]), ("B", [shape[0], rank])] {
            let seed = tensors.len() as u32 + tensor as u32;
            let numbers: Vec<u8> =
                numbers(seed, shape[0] * shape[1]).iter().flat_map(|n| (n / 8.0).to_le_bytes()).collect();
            tensors
                .insert(format!("base_model.model.{module}.lora_{side}.weight"), (Dtype::F32, shape.to_vec(), numbers));
        }
    }
    let directory = TempDir::new().expect("a temporary directory");
    let settings = json!({ "peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": "all-linear" });
    std::fs::write(directory.path().join("adapter_config.json"), settings.to_string()).expect("room");
    std::fs::write(directory.path().join("adapter_model.safetensors"), Tensors(tensors).to_file()).expect("room");
    directory
}

/// The GPU and the CPU merge independently of each other, and heads whose features are padded are no exception.
#[test]
fn the_gpu_merges_as_the_cpu_does() {
    let Some(gpu) = gpu() else { return };
    let directory = TempDir::new().expect("a temporary directory");
    for name in ["odd_widths", "wide_head", "tiny"] {
        let model = Path::new("tests/golden").join(name);
        let adapter = adapter_of(name, 3);
        let adapters = [(text(adapter.path()), 1.0), (text(adapter.path()), -0.25)];
        let written = convert(&model, &adapters, &directory, name);
        let tokens = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
        let want = logits(&gpu, &checkpoint(&written, &[]), &tokens);
        assert_logits_close(name, &logits(&gpu, &checkpoint(&model, &adapters), &tokens), &want);
        let unmerged = logits(&gpu, &checkpoint(&model, &[]), &tokens);
        assert!(unmerged.iter().zip(&want).any(|(a, b)| (a - b).abs() > 0.5), "{name}: the adapters change something");
    }
}

/// What f16 cannot hold is refused by the GPU's merge as by the CPU's, for each tensor by its name.
#[test]
fn what_becomes_too_large_is_refused() {
    if gpu().is_none() {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let adapter = adapter_of("narrow_mlp", 3);
    let adapter = format!("{}=1e7", text(adapter.path()));
    let out = directory.path().join("out");
    let on_gpu = ["generate", "--prompt-tokens", "1,2", "--model", NARROW, "--lora", &adapter];
    let on_cpu = ["convert", NARROW, text(&out), "--lora", &adapter];
    for arguments in [&on_gpu[..], &on_cpu[..]] {
        let (code, stdout, stderr) = run(&mut gptj(arguments));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains("tensor transformer.h.0.attn.") && stderr.contains("F16 cannot hold"), "{stderr}");
    }
}

/// Several adapters are rounded once, to the f16 that is nearest.
#[test]
fn converted_matrices_are_the_nearest_f16() {
    let directory = TempDir::new().expect("a temporary directory");
    let adapters = [(ATTENTION, 1.0), (ALL, 0.5)];
    let merged = checkpoint(Path::new(NARROW), &adapters);
    let written = checkpoint(&convert(Path::new(NARROW), &adapters, &directory, "out"), &[]);
    let mut seen = 0;
    for name in TensorName::all(merged.config()) {
        let [before, after] =
            [&merged, &written].map(|model| model.tensor(name).expect("sound").to_f32().expect("finite"));
        let mut want = before;
        if let TensorName::Block(layer, tensor) = name
            && let Some(product) = merged.low_rank(layer, tensor).expect("sound")
        {
            reference::merge_lora(&mut want, &product.b, &product.a, product.rank);
            seen += 1;
            // Two adapters of one matrix stand side by side: 4 and, by its pattern or not, 3.
            assert_eq!(product.rank == 7, matches!(tensor, BlockTensor::QProj | BlockTensor::VProj));
        }
        // Sums in f32 and in f64 may lie on two sides of the middle between two numbers of f16.
        let is_near = |(got, want): (&f32, &f32)| (f16::from_f32(*got).to_f32() - want).abs() <= want.abs() / 1024.0;
        assert!(after.iter().zip(&want).all(is_near), "{name:?}");
    }
    assert_eq!(seen, 12, "six matrices in each of two blocks");
}

#[test]
fn adapters_come_with_a_scale_or_without() {
    let (code, stdout, stderr) = run(&mut gptj_without_gpu(&[
        "info",
        "--json",
        "--model",
        NARROW,
        "--lora",
        ATTENTION,
        "--lora",
        &format!("{ALL}=0.5"),
    ]));
    assert_eq!(code, Some(0), "{stderr}");
    let info: Value = serde_json::from_str(&stdout).expect("JSON");
    let want = json!([
        { "path": ATTENTION, "scale": 1.0, "matrices": 4 },
        { "path": ALL, "scale": 0.5, "matrices": 12 },
    ]);
    assert_eq!(info["lora"], want);
    let (_, stdout, _) = run(&mut gptj_without_gpu(&["info", "--model", NARROW, "--lora", ALL]));
    assert!(stdout.contains(&format!("{ALL} merged into 12 matrices, times 1\n")), "{stdout}");

    // A name may have the sign in it.
    let directory = TempDir::new().expect("a temporary directory");
    let named = directory.path().join("a=b");
    std::fs::create_dir(&named).expect("room");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(Path::new(ALL).join(file), named.join(file)).expect("room");
    }
    for argument in [text(&named).to_owned(), format!("{}=2", named.display())] {
        assert_eq!(run(&mut gptj_without_gpu(&["info", "--model", NARROW, "--lora", &argument])).0, Some(0));
    }
}

#[test]
fn generate_takes_adapters() {
    if gpu().is_none() {
        return;
    }
    let generate = |adapters: &[&str]| {
        let arguments = ["generate", "--json", "--greedy", "-n", "8", "--model", NARROW, "--prompt-tokens", "7,150,3"];
        let (code, stdout, stderr) = run(&mut gptj(&[&arguments, adapters].concat()));
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str::<Value>(&stdout).expect("JSON")["tokens"].clone()
    };
    assert_ne!(generate(&["--lora", ALL]), generate(&[]));
    assert_eq!(generate(&["--lora", &format!("{ALL}=0")]), generate(&[]), "times zero it is nothing");
}

// ---- adapters that cannot ----

/// An adapter of its own to damage: one of the two, with changes.
fn damaged(adapter: &str, settings: &Value, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let mut config = serde_json::from_slice(&read(Path::new(adapter).join("adapter_config.json"))).expect("JSON");
    replace(&mut config, settings);
    std::fs::write(directory.path().join("adapter_config.json"), config.to_string()).expect("room");
    let bytes = read(Path::new(adapter).join("adapter_model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
    let tensors = file.tensors().into_iter();
    let mut tensors = Tensors(
        tensors.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect(),
    );
    change(&mut tensors);
    std::fs::write(directory.path().join("adapter_model.safetensors"), tensors.to_file()).expect("room");
    directory
}

/// Fails unless the program says all of `words`, without a GPU.
fn assert_refused(case: &str, model: &str, adapter: &str, code: i32, words: &[&str]) {
    let arguments = ["generate", "--model", model, "--prompt-tokens", "1", "--lora", adapter];
    let (found, stdout, stderr) = run(&mut gptj_without_gpu(&arguments));
    assert_eq!((found, stdout.as_str()), (Some(code), ""), "{case}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{case}: {word:?} is missing in {stderr:?}");
    }
}

const A: &str = "base_model.model.transformer.h.1.attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.transformer.h.1.attn.q_proj.lora_B.weight";

#[test]
fn adapters_of_other_kinds_are_refused_by_name() {
    for (changes, word) in [
        (json!({"peft_type": "IA3"}), "peft_type is IA3; adapters of the type LORA can be merged"),
        (json!({"peft_type": null}), "peft_type is missing"),
        (json!({"use_dora": true}), "use_dora is true"),
        (json!({"lora_bias": true}), "lora_bias is true"),
        (json!({"bias": "all"}), "bias is \"all\""),
        (json!({"modules_to_save": ["lm_head"]}), "modules_to_save is [\"lm_head\"]"),
        (json!({"layer_replication": [[0, 1]]}), "layer_replication is"),
        (json!({"init_lora_weights": "pissa_niter_4"}), "init_lora_weights is pissa_niter_4"),
        (json!({"r": 0}), "the rank r is 0"),
        (json!({"r": -1}), "adapter_config.json"),
        (json!({"lora_alpha": "much"}), "adapter_config.json"),
        (json!({"lora_alpha": 1e60}), "lora_alpha is"),
        (json!({"rank_pattern": {"q_proj": 0}}), "the rank q_proj is 0"),
        (json!({"rank_pattern": {"h\\.[01]\\..*": 2}}), "is no name of a module"),
        (json!({"alpha_pattern": {"q_proj": 2, "attn.q_proj": 3}}), "the patterns attn.q_proj and q_proj are both for"),
        (json!({"rank_pattern": {"q_proj": 2}}), "its shape is [4, 48]; the model and the rank make it [2, 48]"),
        (json!({"r": 8}), "its shape is [4, 48]; the model and the rank make it [8, 48]"),
    ] {
        let adapter = damaged(ATTENTION, &changes, |_| ());
        assert_refused(&changes.to_string(), NARROW, text(adapter.path()), 1, &[word, text(adapter.path())]);
    }
    let adapter = damaged(ATTENTION, &json!({}), |_| ());
    for (text_of_file, word) in [("", "EOF"), ("[]", "adapter_config.json"), ("{", "EOF")] {
        std::fs::write(adapter.path().join("adapter_config.json"), text_of_file).expect("room");
        assert_refused(text_of_file, NARROW, text(adapter.path()), 1, &["adapter_config.json", word]);
    }
}

/// What is done to the tensors of an adapter.
type Damage<'a> = Box<dyn FnOnce(&mut Tensors) + 'a>;

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let rename = |from: &'static str, to: &'static str| {
        move |tensors: &mut Tensors| {
            let tensor = tensors.0.remove(from).expect("it was there");
            tensors.0.insert(to.to_owned(), tensor);
        }
    };
    let other = |module: &str| format!("base_model.model.{module}");
    let embedding = other("transformer.wte.lora_embedding_A");
    let saved = other("lm_head.weight");
    let magnitude = other("transformer.h.1.attn.q_proj.lora_magnitude_vector.weight");
    let block_2 = "base_model.model.transformer.h.2.attn.q_proj.lora_A.weight";
    let twice = "transformer.h.1.attn.q_proj.lora_A.default.weight";
    let cases: Vec<(&str, Damage<'_>, Vec<String>)> = vec![
        ("no A", Box::new(|t| _ = t.0.remove(A)), vec![B.into(), "its lora_A is missing".into()]),
        ("no B", Box::new(|t| _ = t.0.remove(B)), vec![A.into(), "its lora_B is missing".into()]),
        ("no tensors", Box::new(|t| t.0.clear()), vec!["it has no tensors, so that it would change nothing".into()]),
        ("a block too many", Box::new(rename(A, block_2)), vec![block_2.into(), "the model has 2 blocks".into()]),
        ("no number", Box::new(rename(A, "h.one.attn.q_proj.lora_A.weight")), vec!["h.one.attn.q_proj".into()]),
        ("no module", Box::new(rename(A, "h.1.mlp.q_proj.lora_A.weight")), vec!["h.1.mlp.q_proj".into()]),
        ("another side", Box::new(rename(A, "h.1.attn.q_proj.lora_C.weight")), vec!["lora_C".into()]),
        ("another adapter", Box::new(rename(A, "h.1.attn.q_proj.lora_A.mine.weight")), vec!["lora_A.mine".into()]),
        (
            "twice",
            Box::new(|t| _ = t.zeros(twice, Dtype::F32, &[4, 48])),
            vec!["the same tensor is here under another name".into()],
        ),
        ("a wide A", Box::new(|t| _ = t.zeros(A, Dtype::F32, &[4, 49])), vec![A.into(), "its shape is [4, 49]".into()]),
        ("a flat B", Box::new(|t| _ = t.zeros(B, Dtype::F32, &[192])), vec![B.into(), "its shape is [192]".into()]),
        (
            "an integer B",
            Box::new(|t| _ = t.zeros(B, Dtype::I32, &[48, 4])),
            vec![B.into(), "its numbers are I32".into()],
        ),
        ("an embedding", Box::new(|t| _ = t.zeros(&embedding, Dtype::F32, &[4, 200])), vec![embedding.clone()]),
        ("a saved module", Box::new(|t| _ = t.zeros(&saved, Dtype::F32, &[200, 48])), vec![saved.clone()]),
        ("DoRA", Box::new(|t| _ = t.zeros(&magnitude, Dtype::F32, &[48])), vec![magnitude.clone()]),
    ];
    for (case, change, words) in cases {
        let adapter = damaged(ATTENTION, &json!({}), change);
        let words: Vec<_> = words.iter().map(String::as_str).chain(["adapter_model.safetensors"]).collect();
        assert_refused(case, NARROW, text(adapter.path()), 1, &words);
    }
    assert_refused("another model", "tests/golden/tiny", ATTENTION, 1, &["its shape is [4, 48]", "make it [4, 32]"]);
}

#[test]
fn adapters_that_are_not_there_are_named() {
    let empty = TempDir::new().expect("a temporary directory");
    assert_refused("empty", NARROW, text(empty.path()), 1, &["cannot read", "adapter_config.json"]);
    assert_refused("a model", NARROW, NARROW, 1, &["cannot read", "adapter_config.json"]);
    assert_refused("no number", NARROW, &format!("{ALL}=much"), 1, &["cannot read", "all=much"]);
    assert_refused("NaN", NARROW, &format!("{ALL}=NaN"), 2, &["lora: NaN is no number to multiply an adapter by"]);
    std::fs::copy(Path::new(ALL).join("adapter_config.json"), empty.path().join("adapter_config.json")).expect("room");
    let words = ["no adapter_model.safetensors and no adapter_model.bin in this directory"];
    assert_refused("no tensors", NARROW, text(empty.path()), 1, &words);
    std::fs::write(empty.path().join("adapter_model.safetensors"), "version https://git-lfs").expect("room");
    assert_refused("a text", NARROW, text(empty.path()), 1, &["not a sound safetensors file"]);
}

/// What a matrix becomes is known only once it is read.
#[test]
fn numbers_that_cannot_be_merged_are_named() {
    const FIRST_B: &str = "base_model.model.transformer.h.0.attn.q_proj.lora_B.weight";
    let directory = TempDir::new().expect("a temporary directory");
    for (case, number, scale, words) in [
        ("NaN", f32::NAN, 1.0, [FIRST_B, "element 0 is NaN"]),
        ("infinite by its scale", 1e38, 1e9, [FIRST_B, "element 0 is too large to be multiplied by"]),
        (
            "too large for f16",
            1e9,
            1.0,
            ["tensor transformer.h.0.attn.q_proj.weight in ", "with its adapters, element 0 is"],
        ),
    ] {
        let adapter = damaged(ATTENTION, &json!({}), |tensors| {
            let (_, _, bytes) = tensors.0.get_mut(FIRST_B).expect("it was there");
            bytes[..4].copy_from_slice(&number.to_le_bytes());
        });
        let out = directory.path().join("out");
        let adapter = format!("{}={scale}", adapter.path().display());
        let (code, _, stderr) = run(&mut gptj_without_gpu(&["convert", NARROW, text(&out), "--lora", &adapter]));
        assert_eq!(code, Some(1), "{case}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{case}: {stderr}");
        assert!(!out.exists(), "{case}");
    }
}
