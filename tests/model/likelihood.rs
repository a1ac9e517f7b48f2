//! Loss, log-probabilities and perplexity, against transformers: each is off by as much as logits.

use gptj::internals::generate::argmax;
use gptj::{LoadOptions, Windows};
use pollster::block_on;
use serde::Deserialize;

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::numbers::{STAGE_TOLERANCE, assert_close, difference, largest};
use crate::common::transformers::logits_of_all;
use crate::{demo_tokenizer, language_model_texts, load_golden};

/// Loss with labels, some of them ignored, and log-probabilities.
#[test]
fn loss_and_log_probabilities_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    println!("{:<18} loss        of transformers  log-probabilities", "model");
    for name in language_model_texts() {
        let want = Golden::open(format!("golden/classes/{name}.safetensors"));
        let tokens = want.u32("tokens");
        let mut model = load_golden(&gpu, name, &LoadOptions::default());
        let logits = logits_of_all(&mut model, &tokens);
        let tolerance = STAGE_TOLERANCE * largest(&logits);

        let labels: Vec<i64> = want.i32("labels").into_iter().map(i64::from).collect();
        assert!(labels.contains(&gptj::IGNORED), "some label is ignored");
        let loss = block_on(model.loss(&tokens, &labels)).expect("the GPU works") as f32;
        let their_loss = want.f32("loss");
        assert_close(&format!("{name}, loss"), &[loss], &their_loss, tolerance, 0.0);
        let labels: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
        let own = block_on(model.loss(&tokens, &labels)).expect("the GPU works") as f32;
        assert_close(&format!("{name}, loss of the text itself"), &[own], &want.f32("loss_self"), tolerance, 0.0);

        let score = block_on(model.score(&tokens, 3)).expect("the GPU works");
        assert_eq!((score.log_probabilities[0], score.top[0].len()), (None, 0), "nothing precedes the first token");
        let got: Vec<f32> = score.log_probabilities.iter().flatten().map(|&logprob| logprob as f32).collect();
        let want = want.f32("logprobs");
        assert_close(&format!("{name}, logprobs"), &got, &want, tolerance, 0.0);
        let logprobs = difference(&got, &want);
        assert!((score.perplexity().expect("of some tokens").ln() - f64::from(own)).abs() < 1e-5);
        println!("{name:<18} {loss:<11.6} {:<16.6} {logprobs:.1e}", their_loss[0]);

        // The most likely token's log-probability is the first of the top ones, exactly.
        let width = model.config().vocab_size;
        for (position, row) in logits.chunks_exact(width).enumerate().take(tokens.len() - 1) {
            let greedy_token = argmax(row);
            assert_eq!(score.top[position + 1][0].0, greedy_token, "{name}, position {position}");
            let greedy = [&tokens[..=position], &[greedy_token]].concat();
            if position % 7 == 0 {
                let again = block_on(model.score(&greedy, 1)).expect("the GPU works");
                assert_eq!(again.log_probabilities[position + 1], Some(again.top[position + 1][0].1));
            }
        }
    }
}

#[derive(Deserialize)]
struct Measured {
    bytes: usize,
    n_tokens: usize,
    context: usize,
    stride: usize,
    scored: usize,
    perplexity: f64,
}

/// The demo model on the beginning of a play that it has not seen: PyTorch's perplexity to a thousandth.
#[test]
fn perplexity_equals_pytorch() {
    assert_perplexities(|case| case.bytes <= 12_000);
}

/// The same on all that it has not seen.
#[test]
#[ignore = "takes a minute, and many on old drivers"]
fn perplexity_of_whole_plays_equals_pytorch() {
    assert_perplexities(|case| case.bytes > 12_000);
}

fn assert_perplexities(is_wanted: impl Fn(&Measured) -> bool) {
    let Some(gpu) = gpu() else { return };
    let plays = String::from_utf8(golden::read("tests/golden/shakespeare/held_out.txt")).expect("a text");
    let cases: Vec<Measured> = golden::json("golden/shakespeare/perplexity.json");
    let tokenizer = demo_tokenizer();
    let mut model = load_golden(&gpu, "shakespeare", &LoadOptions::default());
    println!("bytes    context  stride  scored   perplexity  PyTorch's");
    for case in cases.into_iter().filter(is_wanted) {
        let tokens = tokenizer.encode(&plays[..case.bytes]).expect("every byte has a token");
        assert_eq!(tokens.len(), case.n_tokens);
        let windows = Windows { context: Some(case.context), stride: Some(case.stride) };
        let mut done = 0;
        let measured = block_on(model.perplexity(&tokens, windows, |tokens| done = tokens)).expect("the GPU works");
        assert_eq!((measured.scored, done), (case.scored, case.n_tokens));
        let (got, want) = (measured.value(), case.perplexity);
        println!("{:<8} {:<8} {:<7} {:<8} {got:<11.5} {want:.5}", case.bytes, case.context, case.stride, case.scored);
        assert!((got / want - 1.0).abs() < 0.001, "{got}, not {want}");
    }
}
