//! CodeGen against Hugging Face transformers, and its files as they may be damaged.
//!
//! `tests/formats/README.md` says what the fixtures are. What they test beyond GPT-J's own goldens is where q, k and v
//! lie, and heads of other sizes.

mod common;
#[path = "common/reference.rs"]
mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{gpu, numbers};
use gptj::checkpoint::{BlockTensor, TensorName};
use gptj::{Checkpoint, Config, Error, Tokenizer};
use half::f16;

use reference::assert_equals_transformers;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new("tests/formats/codegen").join(name)
}

fn open(directory: &Path) -> Checkpoint {
    Checkpoint::open(directory).unwrap_or_else(|error| panic!("{error}"))
}

/// Shapes and numbers of a file's tensors.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f16>)>;

fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("the fixture is there");
    let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
    let tensor = |view: TensorView<'_>| (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data()));
    file.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect()
}

fn write_tensors(tensors: &Tensors, path: &Path) {
    let views = tensors.iter().map(|(name, (shape, numbers))| {
        let bytes = bytemuck::cast_slice(numbers);
        (name, TensorView::new(Dtype::F16, shape.clone(), bytes).expect("as many numbers as the shape needs"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("sound tensors")).expect("room for a small file");
}

/// A directory with this configuration and these tensors.
fn model(config: &str, tensors: &Tensors) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    std::fs::write(directory.path().join("config.json"), config).expect("room for a small file");
    write_tensors(tensors, &directory.path().join("model.safetensors"));
    directory
}

/// The saved checkpoint, to damage: two blocks, four heads of twelve.
fn saved() -> (String, Tensors) {
    let config = std::fs::read_to_string(fixture("padded_head/config.json")).expect("the fixture is there");
    (config, read_tensors(&fixture("padded_head/model.safetensors")))
}

// ---- weights by a formula ----

/// The names and shapes of a CodeGen's tensors.
fn shapes(config: &Config) -> BTreeMap<String, Vec<usize>> {
    let Config { vocab_size, n_embd, n_inner, .. } = *config;
    let block = |layer: usize| {
        [
            ("ln_1.weight", vec![n_embd]),
            ("ln_1.bias", vec![n_embd]),
            ("attn.qkv_proj.weight", vec![3 * n_embd, n_embd]),
            ("attn.out_proj.weight", vec![n_embd, n_embd]),
            ("mlp.fc_in.weight", vec![n_inner, n_embd]),
            ("mlp.fc_in.bias", vec![n_inner]),
            ("mlp.fc_out.weight", vec![n_embd, n_inner]),
            ("mlp.fc_out.bias", vec![n_embd]),
        ]
        .map(|(name, shape)| (format!("transformer.h.{layer}.{name}"), shape))
    };
    let others = [
        ("transformer.wte.weight", vec![vocab_size, n_embd]),
        ("transformer.ln_f.weight", vec![n_embd]),
        ("transformer.ln_f.bias", vec![n_embd]),
        ("lm_head.weight", vec![vocab_size, n_embd]),
        ("lm_head.bias", vec![vocab_size]),
    ]
    .map(|(name, shape)| (name.to_owned(), shape));
    (0..config.n_layer).flat_map(block).chain(others).collect()
}

/// The tensor that `weight` in `tests/formats/make_codegen.py` makes as well.
fn weight(name: &str, shape: &[usize], seed: u32) -> Vec<f16> {
    let parts: Vec<_> = name.rsplit('.').collect();
    let (offset, scale) = match (parts[0], parts[1]) {
        ("bias", _) => (0.0, 0.25),
        (_, layer) if layer.starts_with("ln_") => (1.0, 0.25),
        (_, "wte") => (0.0, 1.0),
        (_, layer) => {
            let gain = if layer == "lm_head" { 5.0 } else { 1.0 };
            (0.0, (gain * (3.0 / shape[1] as f64).sqrt()).log2().round().exp2() as f32)
        }
    };
    let count = shape.iter().product();
    numbers(seed, count).into_iter().map(|number| f16::from_f32(offset + scale * number)).collect()
}

fn by_formula(name: &str) -> TempDir {
    let config = std::fs::read_to_string(fixture(name).join("config.json")).expect("the fixture is there");
    let stages = std::fs::read(fixture(name).join("stages.safetensors")).expect("the fixture is there");
    let (_, header) = SafeTensors::read_metadata(&stages).expect("the generator writes sound files");
    let seed = header.metadata().as_ref().expect("there is metadata")["seed"].parse::<u32>().expect("a number");
    let shapes = shapes(&Config::parse(&config, Path::new(name)).expect("a sound configuration"));
    let tensors = shapes.into_iter().enumerate().map(|(i, (name, shape))| {
        let numbers = weight(&name, &shape, 1000 * seed + i as u32);
        (name, (shape, numbers))
    });
    model(&config, &tensors.collect())
}

// ---- the tests ----

#[test]
fn logits_and_greedy_text_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    assert_equals_transformers(&gpu, &open(&fixture("padded_head")), &fixture("padded_head/stages.safetensors"));
    for name in ["head_64", "head_80", "head_256"] {
        let directory = by_formula(name);
        assert_equals_transformers(&gpu, &open(directory.path()), &fixture(name).join("stages.safetensors"));
    }
}

/// Row by row, all at once, and from the middle of one share to that of another.
fn assert_reads(checkpoint: &Checkpoint, tensor: TensorName, want: &[f16]) {
    let view = checkpoint.tensor(tensor).expect("it is sound");
    let width = view.shape()[1];
    let wide: Vec<f32> = want.iter().map(|number| number.to_f32()).collect();
    assert_eq!(view.to_f32().expect("finite numbers"), wide, "{}", view.name());
    let mut rows = Vec::new();
    for row in 0..view.shape()[0] {
        view.append_f16(row * width..(row + 1) * width, &mut rows).expect("finite numbers");
        view.release(row * width..(row + 1) * width);
    }
    assert_eq!(rows, want, "{}", view.name());
    let (start, end) = (want.len() / 8 + 3, want.len() * 7 / 8 - 5);
    let mut middle = Vec::new();
    view.append_f16(start..end, &mut middle).expect("finite numbers");
    assert_eq!(middle, want[start..end], "{}", view.name());
}

/// In both layouts, that of transformers and that of the forks.
#[test]
fn q_k_and_v_are_found_in_every_share() {
    let (config, mut tensors) = saved();
    let width = 48;
    let four = read_tensors(&fixture("padded_head/model.safetensors"));
    let third = |layer: usize, third: usize| -> Vec<f16> {
        let (_, numbers) = &four[&format!("transformer.h.{layer}.attn.qkv_proj.weight")];
        let share = |share: usize| {
            let start = (3 * share + third) * 12 * width;
            &numbers[start..start + 12 * width]
        };
        (0..4).flat_map(share).copied().collect()
    };
    let check = |checkpoint: &Checkpoint| {
        for layer in 0..2 {
            for (tensor, index) in [(BlockTensor::QProj, 0), (BlockTensor::VProj, 1), (BlockTensor::KProj, 2)] {
                assert_reads(checkpoint, TensorName::Block(layer, tensor), &third(layer, index));
            }
        }
    };
    check(&open(&fixture("padded_head")));

    // The same model as a fork in eight shares would have it.
    for layer in 0..2 {
        let [q, v, k] = [0, 1, 2].map(|index| third(layer, index));
        let share = |share: usize| {
            let rows = share * 6 * width..(share + 1) * 6 * width;
            [&q[rows.clone()], &v[rows.clone()], &k[rows]].concat()
        };
        let name = format!("transformer.h.{layer}.attn.qkv_proj.weight");
        tensors.get_mut(&name).expect("it is there").1 = (0..8).flat_map(share).collect();
    }
    let config = config
        .replace("\"n_head\": 4", "\"n_head\": 8, \"head_dim\": 128")
        .replace("\"rotary_dim\": 8", "\"rotary_dim\": 6");
    check(&open(model(&config, &tensors).path()));
}

#[test]
fn what_does_not_fit_is_named() {
    let qkv = "transformer.h.1.attn.qkv_proj.weight";
    let message = |config: &str, tensors: &Tensors| {
        Checkpoint::open(model(config, tensors).path()).err().expect("it is damaged").to_string()
    };
    let (config, sound) = saved();

    let mut tensors = sound.clone();
    tensors.get_mut(qkv).expect("it is there").0 = vec![48, 144];
    let text = message(&config, &tensors);
    assert!(
        text.contains(qkv) && text.contains("its shape is [48, 144]; the configuration makes it [144, 48]"),
        "{text}"
    );

    let mut tensors = sound.clone();
    tensors.remove(qkv);
    let text = message(&config, &tensors);
    assert!(text.contains("3 of the model's tensors are missing: transformer.h.1.attn.q_proj.weight"), "{text}");

    let text = message(&config.replace("codegen", "gptj"), &sound);
    assert!(text.contains("transformer.h.0.attn.q_proj.weight") && text.contains(".attn.qkv_proj.weight"), "{text}");

    let text = message(&config.replace("\"n_head\": 4", "\"n_head\": 6"), &sound);
    assert!(text.contains("config.json") && text.contains("n_head (6) is not divisible by 4"), "{text}");

    let mut tensors = sound;
    tensors.get_mut(qkv).expect("it is there").1[12 * 48 + 7] = f16::NAN;
    let directory = model(&config, &tensors);
    let checkpoint = open(directory.path());
    let view = checkpoint.tensor(TensorName::Block(1, BlockTensor::VProj)).expect("its shape is right");
    let error = view.to_f32().expect_err("a number is none");
    assert!(matches!(error, Error::Tensor { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(qkv) && text.contains("element 7 is NaN; the file is damaged"), "{text}");
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

/// CodeGen's tokenizer has tokens for runs of blanks and of tabs, and its model more rows than it has tokens.
#[test]
fn the_tokenizer_equals_transformers() {
    let directory = fixture("tokenizer");
    let old = TempDir::new().expect("a temporary directory");
    for file in ["vocab.json", "merges.txt", "added_tokens.json"] {
        std::fs::copy(directory.join(file), old.path().join(file)).expect("room for a small file");
    }
    let cases = std::fs::read_to_string(directory.join("text.json")).expect("the fixture is there");
    let cases: Vec<Case> = serde_json::from_str(&cases).expect("the generator writes sound files");
    for directory in [&*directory, old.path()] {
        let tokenizer =
            Tokenizer::open(directory, 51_200).unwrap_or_else(|error| panic!("{error}")).expect("it has one");
        for Case { text, ids, decoded } in &cases {
            assert_eq!(&tokenizer.encode(text).expect("every byte has a token"), ids, "{text:?}");
            assert_eq!(&tokenizer.decode(ids).expect("the ids are in the vocabulary"), decoded, "{ids:?}");
        }
    }
}
