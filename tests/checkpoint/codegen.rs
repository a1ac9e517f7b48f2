//! CodeGen's files: where q, k and v lie in them, their tokenizer, and what is said of those that are damaged.
//!
//! `tests/formats/README.md` says what the fixtures are.

use std::path::{Path, PathBuf};

use gptj::checkpoint::{BlockTensor, TensorName};
use gptj::{Checkpoint, Tokenizer, checkpoint};
use half::f16;
use safetensors::Dtype;
use serde::Deserialize;

use crate::common::golden;
use crate::common::model_dir::{ModelDir, Tensors};

/// The saved checkpoint: two blocks, four heads of twelve.
fn saved() -> PathBuf {
    golden::path("formats/codegen/padded_head")
}

fn open(directory: &Path) -> Checkpoint {
    Checkpoint::open(directory).unwrap_or_else(|error| panic!("{error}"))
}

/// Its configuration and its tensors, to damage.
fn parts() -> (String, Tensors) {
    let config = String::from_utf8(golden::read(saved().join("config.json"))).expect("a text");
    (config, Tensors::open(saved().join("model.safetensors")))
}

/// A directory with this configuration and these tensors.
fn model(config: &str, tensors: &Tensors) -> ModelDir {
    ModelDir::empty().with("config.json", config).with("model.safetensors", tensors.to_file())
}

/// The matrix in which a block's q, k and v are.
fn qkv_name(layer: usize) -> String {
    format!("transformer.h.{layer}.attn.qkv_proj.weight")
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
    let (config, mut tensors) = parts();
    let width = 48;
    let mut four = tensors.clone();
    let four = [0, 1].map(|layer| bytemuck::pod_collect_to_vec::<u8, f16>(four.bytes(&qkv_name(layer))));
    let third = |layer: usize, third: usize| -> Vec<f16> {
        let numbers = &four[layer];
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
    check(&open(&saved()));

    // The same model as a fork in eight shares would have it.
    for layer in 0..2 {
        let [q, v, k] = [0, 1, 2].map(|index| third(layer, index));
        let share = |share: usize| {
            let rows = share * 6 * width..(share + 1) * 6 * width;
            [&q[rows.clone()], &v[rows.clone()], &k[rows]].concat()
        };
        let numbers: Vec<f16> = (0..8).flat_map(share).collect();
        tensors.insert(&qkv_name(layer), Dtype::F16, &[144, 48], &numbers);
    }
    let config = config
        .replace("\"n_head\": 4", "\"n_head\": 8, \"head_dim\": 128")
        .replace("\"rotary_dim\": 8", "\"rotary_dim\": 6");
    check(&open(model(&config, &tensors).path()));
}

#[test]
fn what_does_not_fit_is_named() {
    let qkv = &*qkv_name(1);
    let message = |config: &str, tensors: &Tensors| {
        Checkpoint::open(model(config, tensors).path()).err().expect("it is damaged").to_string()
    };
    let (config, sound) = parts();

    let mut tensors = sound.clone();
    tensors.zeros(qkv, Dtype::F16, &[48, 144]);
    let text = message(&config, &tensors);
    assert!(
        text.contains(qkv) && text.contains("its shape is [48, 144]; the configuration makes it [144, 48]"),
        "{text}"
    );

    let mut tensors = sound.clone();
    tensors.0.remove(qkv);
    let text = message(&config, &tensors);
    assert!(text.contains("3 of the model's tensors are missing: transformer.h.1.attn.q_proj.weight"), "{text}");

    let text = message(&config.replace("codegen", "gptj"), &sound);
    assert!(text.contains("transformer.h.0.attn.q_proj.weight") && text.contains(".attn.qkv_proj.weight"), "{text}");

    let text = message(&config.replace("\"n_head\": 4", "\"n_head\": 6"), &sound);
    assert!(text.contains("config.json") && text.contains("n_head (6) is not divisible by 4"), "{text}");

    let mut tensors = sound;
    tensors.bytes(qkv)[2 * (12 * 48 + 7)..][..2].copy_from_slice(&f16::NAN.to_le_bytes());
    let directory = model(&config, &tensors);
    let checkpoint = open(directory.path());
    let view = checkpoint.tensor(TensorName::Block(1, BlockTensor::VProj)).expect("its shape is right");
    let error = view.to_f32().expect_err("a number is none");
    assert!(matches!(error, checkpoint::Error::Tensor { .. }), "{error}");
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
    let directory = golden::path("formats/codegen/tokenizer");
    let files = ["vocab.json", "merges.txt", "added_tokens.json"];
    let old = files.iter().fold(ModelDir::empty(), |old, file| old.with(file, golden::read(directory.join(file))));
    let cases: Vec<Case> = golden::json("formats/codegen/tokenizer/text.json");
    for directory in [&*directory, old.path()] {
        let tokenizer =
            Tokenizer::open(directory, 51_200).unwrap_or_else(|error| panic!("{error}")).expect("it has one");
        for Case { text, ids, decoded } in &cases {
            assert_eq!(&tokenizer.encode(text).expect("every byte has a token"), ids, "{text:?}");
            assert_eq!(&tokenizer.decode(ids).expect("the ids are in the vocabulary"), decoded, "{ids:?}");
        }
    }
}
