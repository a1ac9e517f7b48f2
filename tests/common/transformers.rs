//! Whole models against what transformers computes with them.

use std::path::Path;

use gptj::internals::gpu::Gpu;
use gptj::{Checkpoint, GenerateOptions, Generation, LoadOptions, Model, SamplingOptions};
use pollster::block_on;

use super::golden::Golden;
use super::numbers::{STAGE_TOLERANCE, assert_close_to_largest, largest};

/// The model of a checkpoint.
pub fn load(gpu: &Gpu, checkpoint: &Checkpoint, options: &LoadOptions) -> Model {
    let model = block_on(Model::load(gpu, checkpoint, options, |_| ()));
    model.unwrap_or_else(|error| panic!("{}: {error}", checkpoint.path().display()))
}

/// The logits at each of some tokens, of a new sequence.
pub fn logits_of_all(model: &mut Model, tokens: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    model.truncate(0, 0);
    let read = model.logits_at_every_token(0, tokens, 0, |logits| all.extend_from_slice(logits));
    block_on(read).expect("the GPU works");
    all
}

/// The most likely tokens after a prompt, in a new sequence.
pub fn greedy(model: &mut Model, prompt: &[u32], count: usize) -> Vec<u32> {
    model.truncate(0, 0);
    let (max_new_tokens, sampling) = (Some(count), SamplingOptions::greedy());
    let options = GenerateOptions { max_new_tokens, sampling, ..GenerateOptions::default() };
    let mut text = Generation::new(model, None, prompt, &options).expect("a good prompt");
    while block_on(text.next()).expect("the GPU works").is_some() {}
    text.generated().to_vec()
}

/// Fails unless a model gives the logits of a `stages.safetensors`.
pub fn assert_logits_equal_transformers(what: &str, model: &mut Model, stages: &Golden) {
    let got = logits_of_all(model, &stages.u32("tokens"));
    assert_close_to_largest(&format!("{what}, logits"), &got, &stages.f32("logits"), STAGE_TOLERANCE);
}

/// Fails unless a model's greedy text is that of a `stages.safetensors`, as long as the reference's two best logits are
/// further apart than twice the error that both may have; where they are closer, either is right, and what follows is
/// another text.
pub fn assert_greedy_text_equals_transformers(what: &str, model: &mut Model, stages: &Golden) {
    let error = STAGE_TOLERANCE * largest(&stages.f32("logits"));
    let (want, margins) = (stages.u32("greedy"), stages.f32("margins"));
    let decided = margins.iter().take_while(|&&margin| margin > 2.0 * error).count();
    println!("{what}: {decided} of {} tokens are decided by more than {}", want.len(), 2.0 * error);
    assert!(decided >= 8, "{what}: the reference's own margins decide too few tokens to compare");
    assert_eq!(greedy(model, &stages.u32("tokens"), decided), want[..decided], "{what}");
}

/// Fails unless the model of a checkpoint gives the logits and the greedy text of a `stages.safetensors` in `tests`.
pub fn assert_equals_transformers(gpu: &Gpu, checkpoint: &Checkpoint, stages: impl AsRef<Path>) {
    let what = stages.as_ref().display().to_string();
    let stages = Golden::open(&stages);
    let mut model = load(gpu, checkpoint, &LoadOptions::default());
    assert_logits_equal_transformers(&what, &mut model, &stages);
    assert_greedy_text_equals_transformers(&what, &mut model, &stages);
}
