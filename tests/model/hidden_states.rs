//! What each layer makes of a text, and what its attention looks at, against transformers.
//!
//! A score of attention is a sum of products with keys that are rounded to f16, and so off by up to 2^-10 of its terms'
//! magnitude, here some 16 (2^-6), and a weight by as much of itself.

use gptj::Class;
use pollster::block_on;

use crate::common::golden::Golden;
use crate::common::gpu::gpu;
use crate::common::numbers::{STAGE_TOLERANCE, assert_close, assert_close_to_largest, difference};
use crate::{language_model_texts, load_as};

/// Of a weight of attention, and of what is next to nothing.
const WEIGHT_TOLERANCE: f32 = 1.0 / 64.0;

const NOTHING: f32 = 1e-5;

/// Hidden states and attentions, of language models and of a bare `GPTJModel`, whose tensors have no prefix.
#[test]
fn what_layers_make_equals_transformers() {
    let Some(gpu) = gpu() else { return };
    println!("{:<18} tokens  layers  hidden states, of the largest  attentions", "model");
    let models = language_model_texts().map(|name| (name, format!("golden/classes/{name}.safetensors")));
    for (name, expected) in models.chain([("classes/base", "golden/classes/base/expected.safetensors".to_owned())]) {
        let want = Golden::open(expected);
        let tokens = want.u32("tokens");
        let mut model = load_as(&gpu, name, Class::Model);
        let stages = block_on(model.stages(0, &tokens, true)).expect("the GPU works");
        let n_layer = model.config().n_layer;
        assert_eq!((stages.hidden_states.len(), stages.attentions.len()), (n_layer + 1, n_layer));
        let (mut hidden, mut attentions) = (0f32, 0f32);
        for (index, states) in stages.hidden_states.iter().enumerate() {
            let key = format!("hidden_states.{index}");
            let what = format!("{name}, {key}");
            hidden = hidden.max(assert_close_to_largest(&what, states, &want.f32(&key), STAGE_TOLERANCE));
        }
        for (index, weights) in stages.attentions.iter().enumerate() {
            let key = format!("attentions.{index}");
            let want = want.f32(&key);
            assert_close(&format!("{name}, {key}"), weights, &want, NOTHING, WEIGHT_TOLERANCE);
            attentions = attentions.max(difference(weights, &want));
        }
        println!("{name:<18} {:>6}  {n_layer:>6}  {hidden:>29.1e}  {attentions:>10.1e}", tokens.len());

        model.truncate(0, 0);
        let mut last = Vec::new();
        block_on(model.last_hidden_state(0, &tokens, |states| last.extend_from_slice(states))).expect("the GPU works");
        let what = format!("{name}, last_hidden_state");
        assert_close_to_largest(&what, &last, &stages.hidden_states[n_layer], STAGE_TOLERANCE);
    }
}

/// A text that is fed in two parts is looked at as a whole.
#[test]
fn attention_looks_back_at_what_was_fed_before() {
    let Some(gpu) = gpu() else { return };
    let want = Golden::open("golden/classes/tiny.safetensors");
    let (tokens, whole) = (want.u32("tokens"), want.f32("attentions.0"));
    let mut model = load_as(&gpu, "tiny", Class::Model);
    block_on(model.stages(0, &tokens[..7], false)).expect("the GPU works");
    let rest = block_on(model.stages(0, &tokens[7..], true)).expect("the GPU works");
    let (n, width) = (tokens.len(), tokens.len() * tokens.len());
    let heads = whole.chunks_exact(width).flat_map(|head| &head[7 * n..]).copied().collect::<Vec<_>>();
    assert_close("attentions.0 of the rest", &rest.attentions[0], &heads, NOTHING, WEIGHT_TOLERANCE);
}
