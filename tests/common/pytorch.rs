//! PyTorch's checkpoints that `tests/formats/make_pytorch.py` wrote, of the golden `odd_widths`.

use super::golden::{model, path, read};
use super::model_dir::{ModelDir, copy_all};

const FILES: [&str; 6] = [
    "f32.bin",
    "f16_protocol_5.bin",
    "bf16_protocol_4.bin",
    "legacy.bin",
    "legacy_pieces_protocol_4.bin",
    "nested_pieces.bin",
];

/// A model directory with the golden's configuration and some more files.
pub fn directory(files: &[(&str, &[u8])]) -> ModelDir {
    let configured = ModelDir::empty().with("config.json", read(model("odd_widths").join("config.json")));
    files.iter().fold(configured, |directory, (name, bytes)| directory.with(name, bytes))
}

/// The directories of all sound checkpoints: each file alone, and the shards.
pub fn sound() -> Vec<(&'static str, ModelDir)> {
    let fixture = |name: &str| path("formats/pytorch").join(name);
    let alone = |name| (name, directory(&[("pytorch_model.bin", &read(fixture(name)))]));
    let shards = directory(&[]);
    copy_all(&fixture("sharded"), shards.path());
    FILES.map(alone).into_iter().chain([("sharded", shards)]).collect()
}
