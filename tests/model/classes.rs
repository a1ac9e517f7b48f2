//! What Hugging Face's classes beside the language model compute: labels, answers and embeddings.
//!
//! `tests/golden/README.md` says what the cases are. Logits are off by up to [`STAGE_TOLERANCE`] of the largest, and
//! probabilities by as much as logits.

use gptj::{Checkpoint, Class, LoadOptions, Pooling};
use pollster::block_on;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::numbers::{STAGE_TOLERANCE, assert_close, assert_close_to_largest, difference, largest};
use crate::common::transformers::load;
use crate::load_as;

/// What transformers made of texts with a model.
fn cases<T: DeserializeOwned>(name: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct File<T> {
        cases: Vec<T>,
    }
    golden::json::<File<T>>(format!("golden/classes/{name}/expected.json")).cases
}

#[derive(Deserialize)]
struct Labelled {
    tokens: Vec<u32>,
    padded: String,
    pooled: usize,
    logits: Vec<f32>,
    probabilities: Vec<f64>,
    labels: Vec<String>,
}

/// The three problem types, with and without a padding token: also texts that end in it, and those that transformers
/// computed in a padded batch.
#[test]
fn labels_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    println!("{:<14} cases  padded  logits, of the largest  probabilities", "model");
    for name in ["single_label", "multi_label", "regression", "two_labels"] {
        let checkpoint = Checkpoint::open(&golden::path("golden/classes").join(name)).expect("the golden is sound");
        assert_eq!(checkpoint.config().class, Class::SequenceClassification, "as its architectures say");
        let mut model = load(&gpu, &checkpoint, &LoadOptions::default());
        let cases: Vec<Labelled> = cases(name);
        // A regression's only number may be next to nothing.
        let largest = cases.iter().fold(0f32, |most, case| most.max(largest(&case.logits)));
        let (mut logits, mut probabilities, mut padded) = (0f32, 0f64, 0);
        for (index, case) in cases.iter().enumerate() {
            let what = format!("{name}, case {index}");
            assert_eq!(model.config().labels, case.labels, "{what}");
            let found = block_on(model.classify(&case.tokens)).expect("the GPU works");
            assert_close(&what, &found.logits, &case.logits, STAGE_TOLERANCE * largest, 0.0);
            logits = logits.max(difference(&found.logits, &case.logits) / largest);
            assert_eq!(found.scores.len(), case.probabilities.len(), "{what}");
            for (&got, &want) in found.scores.iter().zip(&case.probabilities) {
                // Of a softmax by twice the error of a logit, of a sigmoid by a quarter, and of a number by all of it.
                let error = (got - want).abs();
                assert!(error <= f64::from(2.0 * STAGE_TOLERANCE * largest) + 1e-6, "{what}: {got}, not {want}");
                probabilities = probabilities.max(error);
            }
            // What comes after the token that is read does not matter.
            let read = block_on(model.classify(&case.tokens[..=case.pooled])).expect("the GPU works");
            assert_eq!(read, found, "{what}");
            padded += usize::from(case.padded != "none");
        }
        println!("{name:<14} {:>5}  {padded:>6}  {logits:>22.1e}  {probabilities:>13.1e}", cases.len());
    }
}

#[derive(Deserialize)]
struct Answered {
    question: Vec<u32>,
    context: Vec<u32>,
    start: Vec<f32>,
    end: Vec<f32>,
    best: [usize; 2],
    score: f64,
}

#[test]
fn answers_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    println!("{:<24} cases  logits, of the largest  score", "model");
    for name in ["question_answering", "question_answering_wide"] {
        let mut model = load_as(&gpu, &format!("classes/{name}"), Class::QuestionAnswering);
        let cases: Vec<Answered> = cases(name);
        let (mut logits, mut score) = (0f32, 0f64);
        for (index, case) in cases.iter().enumerate() {
            let what = format!("{name}, case {index}");
            let found = block_on(model.answer(&case.question, &case.context, 15)).expect("the GPU works");
            for (got, want) in [(&found.start_logits, &case.start), (&found.end_logits, &case.end)] {
                logits = logits.max(assert_close_to_largest(&what, got, want, STAGE_TOLERANCE));
            }
            let best = [found.span.start(), found.span.end()].map(|token| token + case.question.len());
            assert_eq!(best, case.best, "{what}");
            let error = (found.score - case.score).abs();
            let largest = largest(&case.start).max(largest(&case.end));
            // Two softmaxes, each off by twice the error of a logit, relatively.
            assert!(error <= case.score * f64::from(4.0 * STAGE_TOLERANCE * largest), "{what}: {}", found.score);
            score = score.max(error);
        }
        println!("{name:<24} {:>5}  {logits:>22.1e}  {score:.1e}", cases.len());
    }
}

#[test]
fn embeddings_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    let want = Golden::open("golden/classes/base/expected.safetensors");
    let tokens = want.u32("tokens");
    let mut model = load_as(&gpu, "classes/base", Class::Model);
    for (pooling, name) in [(Pooling::Last, "last"), (Pooling::Mean, "mean"), (Pooling::WeightedMean, "weighted")] {
        let got = block_on(model.embed(&tokens, pooling)).expect("the GPU works");
        assert_close_to_largest(name, &got, &want.f32(&format!("pool.{name}")), STAGE_TOLERANCE);
    }
}
