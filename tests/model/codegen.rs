//! CodeGen against Hugging Face transformers.
//!
//! `tests/formats/README.md` says what the fixtures are. What they test beyond GPT-J's own goldens is where q, k and v
//! lie, and heads of other sizes.

use std::collections::BTreeMap;
use std::path::Path;

use gptj::{Checkpoint, Config};
use half::f16;
use safetensors::Dtype;

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, Tensors};
use crate::common::numbers::numbers;
use crate::common::transformers::assert_equals_transformers;

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

/// A model whose weights are the formula's.
fn by_formula(name: &str) -> ModelDir {
    let fixture = golden::path("formats/codegen").join(name);
    let stages = Golden::open(format!("formats/codegen/{name}/stages.safetensors"));
    let seed: u32 = stages.metadata("seed").expect("the generator writes it").parse().expect("a number");
    let config = String::from_utf8(golden::read(fixture.join("config.json"))).expect("a text");
    let mut tensors = Tensors::default();
    let shapes = shapes(&Config::parse(&config, &fixture).expect("a sound configuration"));
    for (i, (name, shape)) in shapes.into_iter().enumerate() {
        tensors.insert(&name, Dtype::F16, &shape, &weight(&name, &shape, 1000 * seed + i as u32));
    }
    ModelDir::empty().with("config.json", config).with("model.safetensors", tensors.to_file())
}

#[test]
fn logits_and_greedy_text_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    let open = |directory: &Path| Checkpoint::open(directory).unwrap_or_else(|error| panic!("{error}"));
    let saved = open(&golden::path("formats/codegen/padded_head"));
    assert_equals_transformers(&gpu, &saved, "formats/codegen/padded_head/stages.safetensors");
    for name in ["head_64", "head_80", "head_256"] {
        let checkpoint = by_formula(name);
        let stages = format!("formats/codegen/{name}/stages.safetensors");
        assert_equals_transformers(&gpu, &open(checkpoint.path()), stages);
    }
}
