//! LoRA adapters as the program takes them: what they make of a model, and what is said of those that cannot be merged.

use std::path::{Path, PathBuf};

use gptj::checkpoint::{BlockTensor, TensorName};
use gptj::internals::kernels::reference;
use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::golden::read;
use crate::common::gpu::gpu;
use crate::common::lora::{ALL, ATTENTION, adapter_of, with_adapters};
use crate::common::model_dir::{ModelDir, NARROW, Tensors, replace, text};
use crate::common::program::{finish, gptj, gptj_without_gpu};

/// Converts a model with adapters and returns where it is.
fn convert(model: &Path, adapters: &[(&str, f32)], into: &TempDir, name: &str) -> PathBuf {
    let out = into.path().join(name);
    let mut command = gptj_without_gpu(&["convert", text(model), text(&out)]);
    for (directory, scale) in adapters {
        command.args(["--lora", &format!("{directory}={scale}")]);
    }
    let (code, _, stderr) = finish(&mut command);
    assert_eq!(code, 0, "{stderr}");
    out
}

// ---- adapters that can be merged ----

/// Several adapters are rounded once, to the f16 that is nearest.
#[test]
fn converted_matrices_are_the_nearest_f16() {
    let directory = TempDir::new().expect("a temporary directory");
    let adapters = [(ATTENTION, 1.0), (ALL, 0.5)];
    let merged = with_adapters(Path::new(NARROW), &adapters);
    let written = with_adapters(&convert(Path::new(NARROW), &adapters, &directory, "out"), &[]);
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
    let (code, stdout, stderr) = finish(&mut gptj_without_gpu(&[
        "info",
        "--json",
        "--model",
        NARROW,
        "--lora",
        ATTENTION,
        "--lora",
        &format!("{ALL}=0.5"),
    ]));
    assert_eq!(code, 0, "{stderr}");
    let info: Value = serde_json::from_str(&stdout).expect("JSON");
    let want = json!([
        { "path": ATTENTION, "scale": 1.0, "matrices": 4 },
        { "path": ALL, "scale": 0.5, "matrices": 12 },
    ]);
    assert_eq!(info["lora"], want);
    let (_, stdout, _) = finish(&mut gptj_without_gpu(&["info", "--model", NARROW, "--lora", ALL]));
    assert!(stdout.contains(&format!("{ALL} merged into 12 matrices, times 1\n")), "{stdout}");

    // A name may have the sign in it.
    let directory = TempDir::new().expect("a temporary directory");
    let named = directory.path().join("a=b");
    std::fs::create_dir(&named).expect("room");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(Path::new(ALL).join(file), named.join(file)).expect("room");
    }
    for argument in [text(&named).to_owned(), format!("{}=2", named.display())] {
        assert_eq!(finish(&mut gptj_without_gpu(&["info", "--model", NARROW, "--lora", &argument])).0, 0);
    }
}

#[test]
fn generate_takes_adapters() {
    if gpu().is_none() {
        return;
    }
    let generate = |adapters: &[&str]| {
        let arguments = ["generate", "--json", "--greedy", "-n", "8", "--model", NARROW, "--prompt-tokens", "7,150,3"];
        let (code, stdout, stderr) = finish(&mut gptj(&[&arguments, adapters].concat()));
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str::<Value>(&stdout).expect("JSON")["tokens"].clone()
    };
    assert_ne!(generate(&["--lora", ALL]), generate(&[]));
    assert_eq!(generate(&["--lora", &format!("{ALL}=0")]), generate(&[]), "times zero it is nothing");
}

// ---- adapters that cannot ----

/// An adapter of its own to damage: one of the two, with changes.
fn damaged(adapter: &str, settings: &Value, change: impl FnOnce(&mut Tensors)) -> ModelDir {
    let adapter = Path::new(adapter);
    let mut config = serde_json::from_slice(&read(adapter.join("adapter_config.json"))).expect("JSON");
    replace(&mut config, settings);
    let mut tensors = Tensors::open(adapter.join("adapter_model.safetensors"));
    change(&mut tensors);
    let directory = ModelDir::empty().with("adapter_config.json", config.to_string());
    directory.with("adapter_model.safetensors", tensors.to_file())
}

/// Fails unless the program says all of `words`, without a GPU.
fn assert_refused(case: &str, model: &str, adapter: &str, code: i32, words: &[&str]) {
    let arguments = ["generate", "--model", model, "--prompt-tokens", "1", "--lora", adapter];
    let (found, stdout, stderr) = finish(&mut gptj_without_gpu(&arguments));
    assert_eq!((found, stdout.as_str()), (code, ""), "{case}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{case}: {word:?} is missing in {stderr:?}");
    }
}

const A: &str = "base_model.model.transformer.h.1.attn.q_proj.lora_A.weight";

const B: &str = "base_model.model.transformer.h.1.attn.q_proj.lora_B.weight";

#[test]
fn adapters_of_other_kinds_are_refused_by_name() {
    for (changes, word) in [
        (json!({"peft_type": "IA3"}), "peft_type is IA3; only LORA can be merged"),
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
        (json!({"rank_pattern": {"h\\.[01]\\..*": 2}}), "is not a module's name"),
        (json!({"alpha_pattern": {"q_proj": 2, "attn.q_proj": 3}}), "the patterns attn.q_proj and q_proj are both for"),
        (json!({"rank_pattern": {"q_proj": 2}}), "its shape is [4, 48]; the model and the rank make it [2, 48]"),
        (json!({"r": 8}), "its shape is [4, 48]; the model and the rank make it [8, 48]"),
    ] {
        let adapter = damaged(ATTENTION, &changes, |_| ());
        assert_refused(&changes.to_string(), NARROW, adapter.text(), 1, &[word, adapter.text()]);
    }
    let adapter = damaged(ATTENTION, &json!({}), |_| ());
    for (text_of_file, word) in [("", "EOF"), ("[]", "adapter_config.json"), ("{", "EOF")] {
        std::fs::write(adapter.file("adapter_config.json"), text_of_file).expect("room");
        assert_refused(text_of_file, NARROW, adapter.text(), 1, &["adapter_config.json", word]);
    }
}

/// What is done to the tensors of an adapter.
type Damage<'a> = Box<dyn FnOnce(&mut Tensors) + 'a>;

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let rename = |from: &'static str, to: &'static str| move |tensors: &mut Tensors| tensors.rename(from, to);
    let other = |module: &str| format!("base_model.model.{module}");
    let embedding = other("transformer.wte.lora_embedding_A");
    let saved = other("lm_head.weight");
    let magnitude = other("transformer.h.1.attn.q_proj.lora_magnitude_vector.weight");
    let block_2 = "base_model.model.transformer.h.2.attn.q_proj.lora_A.weight";
    let twice = "transformer.h.1.attn.q_proj.lora_A.default.weight";
    let cases: Vec<(&str, Damage<'_>, Vec<String>)> = vec![
        ("no A", Box::new(|t| _ = t.0.remove(A)), vec![B.into(), "its lora_A is missing".into()]),
        ("no B", Box::new(|t| _ = t.0.remove(B)), vec![A.into(), "its lora_B is missing".into()]),
        ("no tensors", Box::new(|t| t.0.clear()), vec!["it has no tensors".into()]),
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
        assert_refused(case, NARROW, adapter.text(), 1, &words);
    }
    assert_refused("another model", "tests/golden/tiny", ATTENTION, 1, &["its shape is [4, 48]", "make it [4, 32]"]);
}

#[test]
fn adapters_that_are_not_there_are_named() {
    let empty = TempDir::new().expect("a temporary directory");
    assert_refused("empty", NARROW, text(empty.path()), 1, &["cannot read", "adapter_config.json"]);
    assert_refused("a model", NARROW, NARROW, 1, &["cannot read", "adapter_config.json"]);
    assert_refused("no number", NARROW, &format!("{ALL}=much"), 1, &["cannot read", "all=much"]);
    assert_refused("NaN", NARROW, &format!("{ALL}=NaN"), 2, &["lora: the scale NaN is not a finite number"]);
    std::fs::copy(Path::new(ALL).join("adapter_config.json"), empty.path().join("adapter_config.json")).expect("room");
    let words = ["no adapter_model.safetensors and no adapter_model.bin in this directory"];
    assert_refused("no tensors", NARROW, text(empty.path()), 1, &words);
    std::fs::write(empty.path().join("adapter_model.safetensors"), "version https://git-lfs").expect("room");
    assert_refused("a text", NARROW, text(empty.path()), 1, &["not a sound safetensors file"]);
}

/// What f16 cannot hold is refused by the GPU's merge as by the CPU's, for each tensor by its name.
#[test]
fn what_becomes_too_large_is_refused() {
    if gpu().is_none() {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let adapter = adapter_of("narrow_mlp", 3);
    let adapter = format!("{}=1e7", adapter.text());
    let out = directory.path().join("out");
    let on_gpu = ["generate", "--prompt-tokens", "1,2", "--model", NARROW, "--lora", &adapter];
    let on_cpu = ["convert", NARROW, text(&out), "--lora", &adapter];
    for arguments in [&on_gpu[..], &on_cpu[..]] {
        let (code, stdout, stderr) = finish(&mut gptj(arguments));
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains("tensor transformer.h.0.attn.") && stderr.contains("F16 cannot hold"), "{stderr}");
    }
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
            tensors.bytes(FIRST_B)[..4].copy_from_slice(&number.to_le_bytes());
        });
        let out = directory.path().join("out");
        let adapter = format!("{}={scale}", adapter.path().display());
        let (code, _, stderr) = finish(&mut gptj_without_gpu(&["convert", NARROW, text(&out), "--lora", &adapter]));
        assert_eq!(code, 1, "{case}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{case}: {stderr}");
        assert!(!out.exists(), "{case}");
    }
}
