//! Every class of Hugging Face's GPT-J against transformers, on models of odd shapes: what each layer makes of a text
//! and what attention looks at, loss and log-probabilities, labels, answers, embeddings, and perplexity.
//!
//! `tests/golden/README.md` says what the cases are. As in `tests/model.rs`, weights are exact in f16 and the reference
//! computed in f32, so what differs is the rounding of the cache's keys and values to f16. A score is a sum of products
//! with rounded keys and so off by up to 2^-10 of its terms' magnitude, here some 16 (2^-6), and a weight by as much of
//! itself; logits are off by up to [`TOLERANCE`] of the largest, and log-probabilities, loss and probabilities by as
//! much as logits.

mod common;

use std::path::{Path, PathBuf};

use common::{assert_close, block_on, gpu};
use gptj::{
    Checkpoint, Class, Error, GenerateOptions, Generation, Gpu, LoadOptions, Model, Pooling, Session, Tokenizer,
    Windows,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Of a stage's largest number; the reason is in `tests/model.rs`.
const TOLERANCE: f32 = 1.0 / 512.0;

/// Of a weight of attention, and of what is next to nothing.
const WEIGHT_TOLERANCE: f32 = 1.0 / 64.0;
const NOTHING: f32 = 1e-5;

const CLASSES: &str = "tests/golden/classes";

fn load(gpu: &Gpu, directory: &Path, class: Class) -> Model {
    let checkpoint = Checkpoint::open_as(directory, class).unwrap_or_else(|error| panic!("{error}"));
    let model = block_on(Model::load(gpu, &checkpoint, &LoadOptions::default(), |_| ()));
    model.unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
}

/// The numbers of a safetensors file.
struct Numbers(Vec<u8>, PathBuf);

impl Numbers {
    fn read(path: PathBuf) -> Self {
        Self(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())), path)
    }

    fn get<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        let file = SafeTensors::deserialize(&self.0).expect("the generator writes sound files");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{} of {}: {error}", name, self.1.display()));
        bytemuck::pod_collect_to_vec(tensor.data())
    }
}

fn cases<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    #[derive(Deserialize)]
    struct File<T> {
        cases: Vec<T>,
    }
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str::<File<T>>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).cases
}

/// The largest difference; fails where it exceeds the tolerance.
fn difference(what: &str, got: &[f32], want: &[f32], tolerance: f32) -> f32 {
    assert_close(what, got, want, tolerance, 0.0);
    got.iter().zip(want).fold(0f32, |largest, (got, want)| largest.max((got - want).abs()))
}

/// The same relative to the largest number wanted.
fn relative_difference(what: &str, got: &[f32], want: &[f32]) -> f32 {
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    difference(what, got, want, TOLERANCE * largest) / largest
}

/// The language models of the goldens, and what transformers made of a text.
fn language_models() -> [(&'static str, PathBuf); 8] {
    ["tiny", "wide_head", "narrow_mlp", "odd_widths", "whole_head", "sharded", "shakespeare", "shakespeare_200"].map(
        |name| {
            let demo = name.starts_with("shakespeare");
            (name, if demo { "models/shakespeare".into() } else { Path::new("tests/golden").join(name) })
        },
    )
}

/// Hidden states and attentions, of language models and of a bare `GPTJModel`, whose tensors have no prefix.
#[test]
fn what_layers_make_equals_transformers() {
    let Some(gpu) = gpu() else { return };
    println!("{:<18} tokens  layers  hidden states, of the largest  attentions", "model");
    let base = Path::new(CLASSES).join("base");
    let models = language_models().map(|(name, model)| (name, model, format!("{name}.safetensors")));
    for (name, directory, expected) in
        models.into_iter().chain([("base", base, "base/expected.safetensors".to_owned())])
    {
        let want = Numbers::read(Path::new(CLASSES).join(expected));
        let tokens: Vec<u32> = want.get("tokens");
        let mut model = load(&gpu, &directory, Class::Model);
        let stages = block_on(model.stages(0, &tokens, true)).expect("the GPU works");
        let n_layer = model.config().n_layer;
        assert_eq!((stages.hidden_states.len(), stages.attentions.len()), (n_layer + 1, n_layer));
        let (mut hidden, mut attentions) = (0f32, 0f32);
        for (index, states) in stages.hidden_states.iter().enumerate() {
            let key = format!("hidden_states.{index}");
            hidden = hidden.max(relative_difference(&format!("{name}, {key}"), states, &want.get::<f32>(&key)));
        }
        for (index, weights) in stages.attentions.iter().enumerate() {
            let key = format!("attentions.{index}");
            let want: Vec<f32> = want.get(&key);
            assert_close(&format!("{name}, {key}"), weights, &want, NOTHING, WEIGHT_TOLERANCE);
            attentions = attentions.max(difference(&key, weights, &want, 1.0));
        }
        println!("{name:<18} {:>6}  {n_layer:>6}  {hidden:>29.1e}  {attentions:>10.1e}", tokens.len());

        model.truncate(0, 0);
        let mut last = Vec::new();
        block_on(model.last_hidden_state(0, &tokens, |states| last.extend_from_slice(states))).expect("the GPU works");
        relative_difference(&format!("{name}, last_hidden_state"), &last, &stages.hidden_states[n_layer]);
    }
}

/// Loss with labels, some of them ignored, and log-probabilities.
#[test]
fn loss_and_log_probabilities_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    println!("{:<18} loss        of transformers  log-probabilities", "model");
    for (name, directory) in language_models() {
        let want = Numbers::read(Path::new(CLASSES).join(format!("{name}.safetensors")));
        let tokens: Vec<u32> = want.get("tokens");
        let mut model = load(&gpu, &directory, Class::CausalLm);
        let logits = common::logits_of_all(&mut model, &tokens);
        let tolerance = TOLERANCE * logits.iter().fold(0f32, |largest, value| largest.max(value.abs()));

        let labels: Vec<i64> = want.get::<i32>("labels").into_iter().map(i64::from).collect();
        assert!(labels.contains(&gptj::IGNORED), "some label is ignored");
        let loss = block_on(model.loss(&tokens, &labels)).expect("the GPU works") as f32;
        let their_loss: Vec<f32> = want.get("loss");
        difference(&format!("{name}, loss"), &[loss], &their_loss, tolerance);
        let labels: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
        let own = block_on(model.loss(&tokens, &labels)).expect("the GPU works") as f32;
        difference(&format!("{name}, loss of the text itself"), &[own], &want.get::<f32>("loss_self"), tolerance);

        let score = block_on(model.score(&tokens, 3)).expect("the GPU works");
        assert_eq!((score.log_probabilities[0], score.top[0].len()), (None, 0), "nothing precedes the first token");
        let got: Vec<f32> = score.log_probabilities.iter().flatten().map(|&logprob| logprob as f32).collect();
        let logprobs = difference(&format!("{name}, logprobs"), &got, &want.get::<f32>("logprobs"), tolerance);
        assert!((score.perplexity().expect("of some tokens").ln() - f64::from(own)).abs() < 1e-5);
        println!("{name:<18} {loss:<11.6} {:<16.6} {logprobs:.1e}", their_loss[0]);

        // The most likely token's log-probability is the first of the top ones, exactly.
        let width = model.config().vocab_size;
        for (position, row) in logits.chunks_exact(width).enumerate().take(tokens.len() - 1) {
            let most_likely = gptj::internals::sampler::argmax(row);
            assert_eq!(score.top[position + 1][0].0, most_likely, "{name}, position {position}");
            let greedy = [&tokens[..=position], &[most_likely]].concat();
            if position % 7 == 0 {
                let again = block_on(model.score(&greedy, 1)).expect("the GPU works");
                assert_eq!(again.log_probabilities[position + 1], Some(again.top[position + 1][0].1));
            }
        }
    }
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
        let directory = Path::new(CLASSES).join(name);
        let checkpoint = Checkpoint::open(&directory).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(checkpoint.config().class, Class::SequenceClassification, "as its architectures say");
        let mut model = load(&gpu, &directory, Class::SequenceClassification);
        let cases: Vec<Labelled> = cases(&directory.join("expected.json"));
        // A regression's only number may be next to nothing.
        let largest = cases.iter().flat_map(|case| &case.logits).fold(0f32, |largest, value| largest.max(value.abs()));
        let (mut logits, mut probabilities, mut padded) = (0f32, 0f64, 0);
        for (index, case) in cases.iter().enumerate() {
            let what = format!("{name}, case {index}");
            assert_eq!(model.config().labels, case.labels, "{what}");
            let found = block_on(model.classify(&case.tokens)).expect("the GPU works");
            logits = logits.max(difference(&what, &found.logits, &case.logits, TOLERANCE * largest) / largest);
            assert_eq!(found.scores.len(), case.probabilities.len(), "{what}");
            for (&got, &want) in found.scores.iter().zip(&case.probabilities) {
                // Of a softmax by twice the error of a logit, of a sigmoid by a quarter, and of a number by all of it.
                let error = (got - want).abs();
                assert!(error <= f64::from(2.0 * TOLERANCE * largest) + 1e-6, "{what}: {got}, not {want}");
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
        let directory = Path::new(CLASSES).join(name);
        let mut model = load(&gpu, &directory, Class::QuestionAnswering);
        let cases: Vec<Answered> = cases(&directory.join("expected.json"));
        let (mut logits, mut score) = (0f32, 0f64);
        for (index, case) in cases.iter().enumerate() {
            let what = format!("{name}, case {index}");
            let found = block_on(model.answer(&case.question, &case.context, 15)).expect("the GPU works");
            logits = logits.max(relative_difference(&format!("{what}, start"), &found.start_logits, &case.start));
            logits = logits.max(relative_difference(&format!("{what}, end"), &found.end_logits, &case.end));
            let best = [found.span.start(), found.span.end()].map(|token| token + case.question.len());
            assert_eq!(best, case.best, "{what}");
            let error = (found.score - case.score).abs();
            let largest = case.start.iter().chain(&case.end).fold(0f32, |largest, logit| largest.max(logit.abs()));
            // Two softmaxes, each off by twice the error of a logit, relatively.
            assert!(error <= case.score * f64::from(4.0 * TOLERANCE * largest), "{what}: {}", found.score);
            score = score.max(error);
        }
        println!("{name:<24} {:>5}  {logits:>22.1e}  {score:.1e}", cases.len());
    }
}

#[test]
fn embeddings_equal_transformers() {
    let Some(gpu) = gpu() else { return };
    let directory = Path::new(CLASSES).join("base");
    let want = Numbers::read(directory.join("expected.safetensors"));
    let tokens: Vec<u32> = want.get("tokens");
    let mut model = load(&gpu, &directory, Class::Model);
    println!("pooling   embedding, of the largest number");
    for (pooling, name) in [(Pooling::Last, "last"), (Pooling::Mean, "mean"), (Pooling::WeightedMean, "weighted")] {
        let got = block_on(model.embed(&tokens, pooling)).expect("the GPU works");
        println!("{name:<9} {:.1e}", relative_difference(name, &got, &want.get::<f32>(&format!("pool.{name}"))));
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
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let plays = read("tests/golden/shakespeare/held_out.txt");
    let cases: Vec<Measured> =
        serde_json::from_str(&read("tests/golden/shakespeare/perplexity.json")).expect("the generator's file");
    let tokenizer = Tokenizer::open(Path::new("models/shakespeare"), 1024).expect("sound").expect("it has one");
    let mut model = load(&gpu, Path::new("models/shakespeare"), Class::CausalLm);
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

#[derive(Deserialize)]
struct Generated {
    tokens: Vec<u32>,
    end_of_text: Vec<u32>,
    max_new_tokens: usize,
    options: gptj::SamplingOptions,
    generated: Vec<u32>,
}

/// Whole texts, each by other options, as transformers' generate() continues them; every token leads by so much that
/// any GPU must choose it.
#[test]
fn texts_equal_those_of_generate() {
    let Some(gpu) = gpu() else { return };
    let text = std::fs::read_to_string("tests/golden/generate.json").expect("the goldens are there");
    let cases: Vec<Generated> = serde_json::from_str(&text).expect("the generator writes sound files");
    let mut model = load(&gpu, Path::new("models/shakespeare"), Class::CausalLm);
    for (index, case) in cases.iter().enumerate() {
        let sampling = gptj::SamplingOptions { greedy: true, ..case.options.clone() };
        let max_new_tokens = Some(case.max_new_tokens);
        let eos_token_ids = Some(case.end_of_text.clone());
        let options = GenerateOptions { max_new_tokens, sampling, eos_token_ids, ..GenerateOptions::default() };
        let mut text = Generation::new(&mut model, None, &case.tokens, &options).expect("a good prompt");
        while block_on(text.next()).expect("the GPU works").is_some() {}
        assert_eq!(text.generated(), case.generated, "case {index}: {:?}", case.options);
    }
}

/// A text that is fed in two parts is looked at as a whole.
#[test]
fn attention_looks_back_at_what_was_fed_before() {
    let Some(gpu) = gpu() else { return };
    let directory = Path::new("tests/golden/tiny");
    let want = Numbers::read(Path::new(CLASSES).join("tiny.safetensors"));
    let (tokens, whole) = (want.get::<u32>("tokens"), want.get::<f32>("attentions.0"));
    let mut model = load(&gpu, directory, Class::Model);
    block_on(model.stages(0, &tokens[..7], false)).expect("the GPU works");
    let rest = block_on(model.stages(0, &tokens[7..], true)).expect("the GPU works");
    let (n, width) = (tokens.len(), tokens.len() * tokens.len());
    let heads = whole.chunks_exact(width).flat_map(|head| &head[7 * n..]).copied().collect::<Vec<_>>();
    assert_close("attentions.0 of the rest", &rest.attentions[0], &heads, NOTHING, WEIGHT_TOLERANCE);
}

/// Labels that are no labels of the text, an answer of no tokens, and the like.
#[test]
fn impossible_requests_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, Path::new("tests/golden/tiny"), Class::CausalLm);
    for (labels, words) in [
        (&[1, 2][..], "there are 2 for 3 tokens"),
        (&[1, -100, -100], "none of them counts"),
        (&[1, 5000, 2], "5000 is neither in the vocabulary"),
        (&[1, -1, 2], "-1 is neither"),
    ] {
        let error = block_on(model.loss(&[1, 2, 3], labels)).expect_err("impossible").to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut model = load(&gpu, &Path::new(CLASSES).join("question_answering"), Class::QuestionAnswering);
    for (question, context, longest, words) in [
        (&[1][..], &[2][..], 0, "an answer has at least 1 token"),
        (&[], &[2], 5, "the question is empty"),
        (&[1], &[], 5, "the context is empty"),
        (&[1], &[5000], 5, "token 5000"),
    ] {
        let error = block_on(model.answer(question, context, longest)).expect_err("impossible").to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A model is asked for what it has no head for, or opened as what it is not.
#[test]
fn what_a_class_lacks_is_an_error() {
    let Some(gpu) = gpu() else { return };
    let directory = Path::new(CLASSES).join("single_label");
    let mut model = load(&gpu, &directory, Class::SequenceClassification);
    let errors = [
        block_on(model.score(&[1, 2], 0)).expect_err("no language model"),
        block_on(model.answer(&[1], &[2], 5)).expect_err("no question answering"),
        Session::new(&mut model).err().expect("no language model"),
    ];
    for error in errors {
        assert!(matches!(error, Error::Class { is: Class::SequenceClassification, .. }), "{error}");
        assert!(error.to_string().contains("GPTJForSequenceClassification"), "{error}");
    }
    for (class, words) in [
        (Class::CausalLm, "lm_head.weight, lm_head.bias; they are the head of a GPTJForCausalLM"),
        (
            Class::QuestionAnswering,
            "qa_outputs.weight, qa_outputs.bias; they are the head of a GPTJForQuestionAnswering",
        ),
    ] {
        let error = Checkpoint::open_as(&directory, class).err().expect("it has another head").to_string();
        assert!(error.contains(words) && error.contains("score.weight"), "{error}");
    }
    let mut model = load(&gpu, &directory, Class::Model);
    let error = block_on(model.classify(&[1])).expect_err("the head is not loaded");
    assert!(matches!(error, Error::Class { is: Class::Model, wanted: Class::SequenceClassification }), "{error}");
}
