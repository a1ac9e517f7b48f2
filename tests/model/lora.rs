//! LoRA adapters that are merged on the GPU: against PEFT, and against the merge of `checkpoint::write`, which needs no
//! GPU.
//!
//! Merged weights are rounded to f16 (2^-11 of a number), beside the cache's keys and values.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use gptj::checkpoint::{WriteOptions, write};
use gptj::{Checkpoint, Gpu, LoadOptions};
use tempfile::TempDir;

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::lora::{ALL, ATTENTION, adapter_of, with_adapters};
use crate::common::model_dir::NARROW;
use crate::common::numbers::{assert_close_to_largest, difference};
use crate::common::transformers::{load, logits_of_all};

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

/// The logits of all of some tokens.
fn logits(gpu: &Gpu, checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    logits_of_all(&mut load(gpu, checkpoint, &LoadOptions::default()), tokens)
}

/// Writes a model with its adapters merged, and returns where it is.
fn merged(checkpoint: &Checkpoint, into: &TempDir, name: &str) -> PathBuf {
    let out = into.path().join(name);
    write(checkpoint, &out, &WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("it can be written");
    out
}

#[test]
fn merged_models_compute_what_peft_computes() {
    let Some(gpu) = gpu() else { return };
    let directory = TempDir::new().expect("a temporary directory");
    let want = Golden::open("formats/lora/logits.safetensors");
    let tokens = want.u32("tokens");
    for (name, adapters) in cases() {
        let checkpoint = with_adapters(Path::new(NARROW), &adapters);
        let got = logits(&gpu, &checkpoint, &tokens);
        assert_close_to_largest(name, &got, &want.f32(name), TOLERANCE);
        let written = with_adapters(&merged(&checkpoint, &directory, name), &[]);
        let converted = logits(&gpu, &written, &tokens);
        assert_close_to_largest(&format!("{name}, converted"), &converted, &want.f32(name), TOLERANCE);
        if name != "base" {
            let change = difference(&got, &want.f32("base"));
            assert!(change > 5.0, "{name} changes the logits by {change}");
        }
    }
}

/// Older versions of PEFT save adapters by PyTorch.
#[test]
fn pickled_adapters_are_the_same() {
    let Some(gpu) = gpu() else { return };
    let tokens = Golden::open("formats/lora/logits.safetensors").u32("tokens");
    let [safetensors, pickled] = [ATTENTION, "tests/formats/lora/attention_bin"]
        .map(|adapter| logits(&gpu, &with_adapters(Path::new(NARROW), &[(adapter, 1.0)]), &tokens));
    assert_eq!(safetensors, pickled);
}

/// The GPU and the CPU merge independently of each other, and heads whose features are padded are no exception.
#[test]
fn the_gpu_merges_as_the_cpu_does() {
    let Some(gpu) = gpu() else { return };
    let directory = TempDir::new().expect("a temporary directory");
    for name in ["odd_widths", "wide_head", "tiny"] {
        let adapter = adapter_of(name, 3);
        let adapters = [(adapter.text(), 1.0), (adapter.text(), -0.25)];
        let checkpoint = with_adapters(&golden::model(name), &adapters);
        let tokens = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
        let want = logits(&gpu, &with_adapters(&merged(&checkpoint, &directory, name), &[]), &tokens);
        assert_close_to_largest(name, &logits(&gpu, &checkpoint, &tokens), &want, TOLERANCE);
        let unmerged = logits(&gpu, &with_adapters(&golden::model(name), &[]), &tokens);
        assert!(difference(&unmerged, &want) > 0.5, "{name}: the adapters change something");
    }
}
