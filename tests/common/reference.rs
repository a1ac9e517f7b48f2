//! What transformers computes with a model, for the tests of file formats: its logits and its greedy text.

use std::path::Path;

use gptj::internals::gpu::Gpu;
use gptj::{Checkpoint, GenerateOptions, Generation, LoadOptions, Model, SamplingOptions};
use safetensors::SafeTensors;

use super::common::{assert_close, block_on, logits_of_all};

/// As in `tests/model.rs`: what the rounding of the cache to f16 may change of a stage's largest number.
const TOLERANCE: f32 = 1.0 / 512.0;

/// Fails unless the model gives the logits and the greedy tokens of a `stages.safetensors`.
pub fn assert_equals_transformers(gpu: &Gpu, checkpoint: &Checkpoint, stages: &Path) {
    let what = stages.display();
    let bytes = std::fs::read(stages).unwrap_or_else(|error| panic!("{what}: {error}"));
    let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
    let data = |name: &str| file.tensor(name).unwrap_or_else(|_| panic!("{name} in {what}")).data();
    let floats = |name: &str| -> Vec<f32> { bytemuck::pod_collect_to_vec(data(name)) };
    let tokens = |name: &str| -> Vec<u32> { bytemuck::pod_collect_to_vec(data(name)) };

    let options = LoadOptions::default();
    let mut model = block_on(Model::load(gpu, checkpoint, &options, |_| ())).unwrap_or_else(|e| panic!("{what}: {e}"));
    let (prompt, want) = (tokens("tokens"), floats("logits"));
    let got = logits_of_all(&mut model, &prompt);
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let error = got.iter().zip(&want).fold(0f32, |error, (got, want)| error.max((got - want).abs()));
    println!("{what}: logits are off by at most {:.1e} of the largest, {largest}", error / largest);
    assert_close(&format!("logits of {what}"), &got, &want, TOLERANCE * largest, 0.0);

    // A token that leads by less than the error that both logits may have decides nothing.
    let (greedy, margins) = (tokens("greedy"), floats("margins"));
    let decided = margins.iter().take_while(|&&margin| margin > 2.0 * TOLERANCE * largest).count();
    assert!(decided >= 8, "{what}: the reference's own margins decide too few tokens to compare");
    model.truncate(0, 0);
    let options = GenerateOptions {
        max_new_tokens: Some(decided),
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    };
    let mut generation = Generation::new(&mut model, None, &prompt, &options).expect("a good prompt");
    while block_on(generation.next()).expect("the GPU works").is_some() {}
    assert_eq!(generation.generated(), &greedy[..decided], "{what}");
}
