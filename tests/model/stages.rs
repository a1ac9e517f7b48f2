//! Language models against Hugging Face transformers, stage by stage and token by token.
//!
//! `tests/golden/README.md` says what the goldens are: their weights are exact in f16, and the reference computed in f32.

use gptj::{Checkpoint, FinishReason, GenerateOptions, Generation, LoadOptions, SamplingOptions};
use pollster::block_on;

use crate::common::golden::Golden;
use crate::common::gpu::gpu;
use crate::common::model_dir::ModelDir;
use crate::common::numbers::{STAGE_TOLERANCE, assert_close_to_largest};
use crate::common::transformers::{assert_greedy_text_equals_transformers, assert_logits_equal_transformers, load};
use crate::{LANGUAGE_MODELS, load_golden};

/// What transformers computed.
fn stages(name: &str) -> Golden {
    Golden::open(format!("golden/{name}/stages.safetensors"))
}

#[test]
fn every_stage_equals_transformers() {
    let Some(gpu) = gpu() else { return };
    for name in LANGUAGE_MODELS {
        let want = stages(name);
        let mut model = load_golden(&gpu, name, &LoadOptions::default());
        let stages = block_on(model.stages(0, &want.u32("tokens"), false)).expect("the GPU works");
        let (ln_f, hidden) = stages.hidden_states.split_last().expect("there are some");
        let hidden: Vec<_> = hidden.iter().chain([&stages.last_block]).collect();
        let n_wanted = want.shapes().keys().filter(|key| key.starts_with("hidden.")).count();
        assert_eq!(hidden.len(), n_wanted, "{name} has a stage for the embedding and each block");
        let hidden = hidden.into_iter().enumerate().map(|(index, got)| (format!("hidden.{index}"), got));
        for (stage, got) in hidden.chain([("ln_f".to_owned(), ln_f)]) {
            assert_close_to_largest(&format!("{name}, {stage}"), got, &want.f32(&stage), STAGE_TOLERANCE);
        }
        assert_logits_equal_transformers(name, &mut model, &want);
    }
}

#[test]
fn greedy_text_equals_transformers() {
    let Some(gpu) = gpu() else { return };
    for name in LANGUAGE_MODELS {
        let mut model = load_golden(&gpu, name, &LoadOptions::default());
        assert_greedy_text_equals_transformers(name, &mut model, &stages(name));
    }
}

/// The token that ends a text is the last one; generation_config.json says which it is, before config.json.
#[test]
fn end_of_text_ends_the_text() {
    let Some(gpu) = gpu() else { return };
    let want = stages("narrow_mlp");
    let greedy = want.u32("greedy");
    let end = greedy[5];
    let length = 1 + greedy.iter().position(|&token| token == end).expect("it is in there");
    let directory = ModelDir::sound().with("generation_config.json", format!(r#"{{"eos_token_id": [{end}, 7777]}}"#));

    let checkpoint = Checkpoint::open(directory.path()).expect("a sound checkpoint");
    let mut model = load(&gpu, &checkpoint, &LoadOptions::default());
    let options = GenerateOptions { sampling: SamplingOptions::greedy(), ..GenerateOptions::default() };
    let mut generation = Generation::new(&mut model, None, &want.u32("tokens"), &options).expect("a good prompt");
    while block_on(generation.next()).expect("the GPU works").is_some() {}
    assert_eq!(generation.generated(), &greedy[..length]);
    assert_eq!(generation.finish_reason(), Some(FinishReason::Stop));
}
