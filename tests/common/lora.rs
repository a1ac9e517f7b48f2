//! LoRA adapters: those that `tests/formats/make_lora.py` wrote, of [`NARROW`](super::model_dir::NARROW), and made-up
//! ones.

use std::path::Path;

use gptj::Checkpoint;
use gptj::checkpoint::TensorName;
use safetensors::Dtype;
use serde_json::json;

use super::golden;
use super::model_dir::{ModelDir, Tensors};
use super::numbers::numbers;

pub const ATTENTION: &str = "tests/formats/lora/attention";

pub const ALL: &str = "tests/formats/lora/all";

/// A model with adapters, each times a number.
pub fn with_adapters(model: &Path, adapters: &[(&str, f32)]) -> Checkpoint {
    let mut checkpoint = Checkpoint::open(model).unwrap_or_else(|error| panic!("{error}"));
    for (directory, scale) in adapters {
        checkpoint.add_adapter(Path::new(directory), *scale).unwrap_or_else(|error| panic!("{error}"));
    }
    checkpoint
}

/// An adapter of every matrix of a golden, of this rank.
pub fn adapter_of(name: &str, rank: usize) -> ModelDir {
    let checkpoint = with_adapters(&golden::model(name), &[]);
    let mut tensors = Tensors::default();
    for name in TensorName::all(checkpoint.config()) {
        let TensorName::Block(_, tensor) = name else { continue };
        let shape = name.shape(checkpoint.config());
        if shape.len() != 2 {
            continue;
        }
        let view = checkpoint.tensor(name).expect("it is sound");
        let module = view.name().strip_suffix(".weight").expect("a matrix");
        for (side, shape) in [("A", [rank, shape[1]]), ("B", [shape[0], rank])] {
            let seed = tensors.0.len() as u32 + tensor as u32;
            let numbers: Vec<f32> = numbers(seed, shape[0] * shape[1]).iter().map(|number| number / 8.0).collect();
            let name = format!("base_model.model.{module}.lora_{side}.weight");
            tensors.insert(&name, Dtype::F32, &shape, &numbers);
        }
    }
    let settings = json!({ "peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": "all-linear" });
    let directory = ModelDir::empty().with("adapter_config.json", settings.to_string());
    directory.with("adapter_model.safetensors", tensors.to_file())
}
