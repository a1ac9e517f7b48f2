//! Whole models against Hugging Face transformers, stage by stage, and the properties that every model must have.
//!
//! `tests/golden/README.md` says what the goldens are. Their weights are exact in f16 and the reference computed in f32,
//! so that what may differ is the rounding of the cache's keys and values to f16 (2^-11 of a number, or 2^-10 where a
//! driver rounds towards zero) and the order of f32 sums (some 2^-20). A block adds to the stream a mixture of rounded values
//! and an MLP's answer to it, so a stage is compared to within [`TOLERANCE`] of its largest number.

mod common;

use std::path::{Path, PathBuf};

use common::{assert_close, block_on, gpu, open};
use gptj::gpu::{Gpu, GpuOptions};
use gptj::{Checkpoint, GenerateOptions, Generation, LoadOptions, Model, SamplingOptions, Tokenizer};
use safetensors::SafeTensors;

/// Of a stage's largest number: 2^-10 for a driver that rounds the cache towards zero, twice that for passing through
/// up to five blocks.
const TOLERANCE: f32 = 1.0 / 512.0;

const GOLDENS: [&str; 7] =
    ["tiny", "wide_head", "narrow_mlp", "odd_widths", "whole_head", "sharded", "shakespeare"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The checkpoint of a golden; the demo model's lies with the model.
fn checkpoint(name: &str) -> Checkpoint {
    let directory = match name {
        "shakespeare" => Path::new(env!("CARGO_MANIFEST_DIR")).join("models/shakespeare"),
        _ => golden(name),
    };
    Checkpoint::open(&directory).unwrap_or_else(|error| panic!("{error}"))
}

fn load(gpu: &Gpu, name: &str, options: LoadOptions) -> Model {
    block_on(Model::load(gpu, &checkpoint(name), &options, |_| ())).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What transformers computed.
struct Reference {
    tokens: Vec<u32>,
    hidden: Vec<Vec<f32>>,
    ln_f: Vec<f32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
    margins: Vec<f32>,
}

impl Reference {
    fn read(name: &str) -> Self {
        let path = golden(name).join("stages.safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
        let data = |name: &str| file.tensor(name).unwrap_or_else(|_| panic!("{name} in {}", path.display())).data();
        let floats = |name: &str| -> Vec<f32> { bytemuck::pod_collect_to_vec(data(name)) };
        let tokens = |name: &str| -> Vec<u32> { bytemuck::pod_collect_to_vec(data(name)) };
        let stages = (0..).map(|stage| format!("hidden.{stage}")).take_while(|stage| file.tensor(stage).is_ok());
        Self {
            hidden: stages.map(|stage| floats(&stage)).collect(),
            tokens: tokens("tokens"),
            ln_f: floats("ln_f"),
            logits: floats("logits"),
            greedy: tokens("greedy"),
            margins: floats("margins"),
        }
    }
}

fn assert_stage_close(what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let error = got.iter().zip(want).fold(0f32, |error, (got, want)| error.max((got - want).abs()));
    println!("{what}: off by at most {:.1e} of the largest number, {largest}", error / largest);
    assert_close(what, got, want, TOLERANCE * largest, 0.0);
}

/// The largest error that logits may have by [`TOLERANCE`].
fn logit_error(reference: &Reference) -> f32 {
    TOLERANCE * reference.logits.iter().fold(0f32, |largest, value| largest.max(value.abs()))
}

#[test]
fn every_stage_equals_transformers() {
    let Some(gpu) = gpu() else { return };
    for name in GOLDENS {
        let reference = Reference::read(name);
        let mut model = load(&gpu, name, LoadOptions::default());
        let stages = block_on(model.stages(0, &reference.tokens)).expect("the GPU works");
        assert_eq!(stages.hidden.len(), reference.hidden.len(), "{name} has a stage for the embedding and each block");
        for (stage, (got, want)) in stages.hidden.iter().zip(&reference.hidden).enumerate() {
            assert_stage_close(&format!("{name}, hidden.{stage}"), got, want);
        }
        assert_stage_close(&format!("{name}, ln_f"), &stages.ln_f, &reference.ln_f);
        assert_stage_close(&format!("{name}, logits"), &stages.logits, &reference.logits);
    }
}

/// Greedy decoding gives the reference's tokens as long as its two best logits are further apart than twice the error
/// that both may have; where they are closer, either is right, and what follows is another text.
#[test]
fn greedy_text_equals_transformers() {
    let Some(gpu) = gpu() else { return };
    for name in GOLDENS {
        let reference = Reference::read(name);
        let error = logit_error(&reference);
        let decided = reference.margins.iter().take_while(|&&margin| margin > 2.0 * error).count();
        println!("{name}: {decided} of {} tokens are decided by more than {}", reference.greedy.len(), 2.0 * error);
        assert!(decided >= 8, "{name}: the reference's own margins decide too few tokens to compare");
        let mut model = load(&gpu, name, LoadOptions::default());
        let options = GenerateOptions {
            max_new_tokens: decided,
            sampling: SamplingOptions { greedy: true, ..SamplingOptions::default() },
            stop: Vec::new(),
        };
        let mut generation = Generation::new(&mut model, None, &reference.tokens, &options).expect("a good prompt");
        while block_on(generation.next()).expect("the GPU works").is_some() {}
        assert_eq!(generation.tokens(), &reference.greedy[..decided], "{name}");
    }
}
