//! Many texts at once: each is what it would be alone, whatever is beside it, and nobody waits for anybody.

use std::collections::BTreeMap;
use std::time::Instant;

use gptj::internals::weights::Weights;
use gptj::{
    Checkpoint, Engine, FinishReason, GemvConfig, GenerateOptions, Generation, Gpu, LoadOptions, Model,
    SamplingOptions, Sequence, SlotTokens, Token, Tokenizer,
};
use pollster::block_on;

use crate::common::golden;
use crate::common::gpu::gpu;
use crate::{demo_tokenizer as tokenizer, load_golden};

/// The demo model, with room for so many texts.
fn load(gpu: &Gpu, n_slots: usize) -> Model {
    load_golden(gpu, "shakespeare", &LoadOptions { n_slots, ..LoadOptions::default() })
}

/// Texts of many lengths, from one token to more than a step takes row by row, and to more than a chunk; each with
/// other options.
fn requests(count: usize) -> Vec<(Vec<u32>, GenerateOptions)> {
    let lengths = [1, 5, 33, 17, 90, 2, 300, 40];
    let request = |index: usize| {
        let length = lengths[index % lengths.len()] + index / lengths.len();
        let prompt = (0..length).map(|i| ((i * i * 31 + i * 7 + 3 * index + 1) % 1024) as u32).collect();
        let seed = index as u64;
        let sampling = match index % 4 {
            0 => SamplingOptions::greedy(),
            1 => SamplingOptions { seed, temperature: 0.8, top_p: 0.9, ..SamplingOptions::default() },
            2 => SamplingOptions { repetition_penalty: 1.3, no_repeat_ngram_size: 3, ..SamplingOptions::greedy() },
            _ => SamplingOptions { seed, top_k: 0, min_p: 0.02, ..SamplingOptions::default() },
        };
        let stop = if index.is_multiple_of(3) { vec!["the".to_owned()] } else { Vec::new() };
        let max_new_tokens = Some(6 + index % 7);
        (prompt, GenerateOptions { max_new_tokens, sampling, stop, ..GenerateOptions::default() })
    };
    (0..count).map(request).collect()
}

/// What a text became.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    tokens: Vec<u32>,
    text: String,
    finish_reason: Option<FinishReason>,
}

impl Outcome {
    fn add(&mut self, token: &Token) {
        assert_eq!(self.finish_reason, None, "nothing comes after the last token");
        self.tokens.push(token.id);
        self.text += &token.text;
        self.finish_reason = token.finish_reason;
    }
}

fn alone(model: &mut Model, tokenizer: &Tokenizer, (prompt, options): &(Vec<u32>, GenerateOptions)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut text = Generation::new(model, Some(tokenizer), prompt, options).expect("a good prompt");
    while let Some(token) = block_on(text.next()).expect("the GPU works") {
        outcome.add(&token);
    }
    assert_eq!((text.generated(), text.finish_reason()), (outcome.tokens.as_slice(), outcome.finish_reason));
    outcome
}

fn sequence(model: &Model, tokenizer: &Tokenizer, request: &(Vec<u32>, GenerateOptions)) -> Sequence {
    Sequence::new(model.config(), Some(tokenizer), &request.0, &request.1).expect("a good prompt")
}

/// Runs an engine to its end and returns what its texts became, and in how many steps.
fn run(engine: &mut Engine) -> (BTreeMap<usize, Outcome>, usize) {
    let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
    let mut steps = 0;
    while !engine.is_empty() {
        for (index, token) in block_on(engine.step()).expect("the GPU works") {
            outcomes.entry(index).or_default().add(&token.expect("some token is left"));
        }
        steps += 1;
    }
    assert!(block_on(engine.step()).expect("the GPU works").is_empty(), "nothing comes after the end");
    (outcomes, steps)
}

/// Thirty-two at once, ragged and each with options of its own: every one is what it is alone, to the token. And it is
/// cheaper: the weights are read once for all of them.
#[test]
fn a_sequence_is_what_it_is_alone() {
    let Some(gpu) = gpu() else { return };
    let (requests, tokenizer) = (requests(32), tokenizer());
    let mut model = load(&gpu, 1);
    let start = Instant::now();
    let want: Vec<_> = requests.iter().map(|request| alone(&mut model, &tokenizer, request)).collect();
    let seconds_alone = start.elapsed().as_secs_f64();
    let reasons: Vec<_> = want.iter().filter_map(|outcome| outcome.finish_reason).collect();
    for reason in [FinishReason::Stop, FinishReason::Length] {
        assert!(reasons.contains(&reason), "some text ends by {reason:?}");
    }

    let model = load(&gpu, 32);
    let sequences: Vec<_> = requests.iter().map(|request| sequence(&model, &tokenizer, request)).collect();
    let weights = Weights::bytes_per_token(model.config());
    let start = Instant::now();
    let mut engine = Engine::new(model).expect("a language model");
    for (index, sequence) in sequences.into_iter().enumerate() {
        assert_eq!(engine.add(sequence).expect("it fits"), index);
    }
    let (got, steps) = run(&mut engine);
    let seconds = start.elapsed().as_secs_f64();
    for (index, want) in want.iter().enumerate() {
        assert_eq!(&got[&index], want, "text {index}, of {} tokens", requests[index].0.len());
    }
    let n_tokens: usize = want.iter().map(|outcome| outcome.tokens.len()).sum();
    println!("{n_tokens} tokens of 32 texts, prompts included in the time");
    println!("                one at a time   together");
    println!("tok/s           {:13.1} {:10.1}", n_tokens as f64 / seconds_alone, n_tokens as f64 / seconds);
    let read = weights as f64 / 1e6;
    println!("weights, MB/tok {read:13.2} {:10.2}", read * steps as f64 / n_tokens as f64);
    assert!(steps < 20, "a step continues all of them: {steps} steps");
}

/// What makes that so: the logits of each of several feeds are those of the feed alone, to the bit, whichever kernels
/// take it: prompts that share a step, prompts of more than a chunk, and single tokens; with products in tiles and
/// without.
#[test]
fn logits_of_slots_are_those_of_each_alone() {
    let Some(gpu) = gpu() else { return };
    let lengths = [1, 5, 27, 33, 40, 1, 100, 33, 129, 3, 30];
    let tiles = GemvConfig { lanes: 64, rows: 4, depth: 1, limit: 16 };
    for gemv in [None, Some(tiles)] {
        let options = LoadOptions { n_slots: lengths.len(), chunk: 128, gemv, ..LoadOptions::default() };
        let mut model = load_golden(&gpu, "shakespeare", &options);
        let prompt =
            |(slot, &length): (usize, &usize)| (0..length).map(move |i| ((i * i + 7 * slot + 3) % 1024) as u32);
        let prompts: Vec<Vec<u32>> = lengths.iter().enumerate().map(|case| prompt(case).collect()).collect();
        let want: Vec<_> = prompts
            .iter()
            .map(|prompt| {
                model.truncate(0, 0);
                block_on(model.logits(0, prompt)).expect("the GPU works")
            })
            .collect();
        model.truncate(0, 0);
        let of_slots: Vec<_> = prompts.iter().enumerate().map(|(slot, tokens)| SlotTokens { slot, tokens }).collect();
        let got = block_on(model.logits_of_slots(&of_slots)).expect("the GPU works");
        for ((prompt, got), want) in prompts.iter().zip(&got).zip(&want) {
            assert!(got == want, "{} tokens, {gemv:?}", prompt.len());
        }
    }
}

/// Where there are fewer slots than texts, those that end make room for those that wait, and a text may come at any
/// time or be taken away.
#[test]
fn sequences_come_and_go() {
    let Some(gpu) = gpu() else { return };
    let (requests, tokenizer) = (requests(9), tokenizer());
    let mut model = load(&gpu, 3);
    let want: Vec<_> = requests.iter().map(|request| alone(&mut model, &tokenizer, request)).collect();
    let mut sequences: Vec<_> = requests.iter().map(|request| sequence(&model, &tokenizer, request)).collect();
    let late = sequences.split_off(7);

    let mut engine = Engine::new(model).expect("a language model");
    sequences.into_iter().for_each(|sequence| _ = engine.add(sequence).expect("it fits"));
    let mut got: BTreeMap<usize, Outcome> = BTreeMap::new();
    for _ in 0..2 {
        for (index, token) in block_on(engine.step()).expect("the GPU works") {
            assert!(index < 3, "the others wait for a slot");
            got.entry(index).or_default().add(&token.expect("some token is left"));
        }
    }
    late.into_iter().for_each(|sequence| _ = engine.add(sequence).expect("it fits"));
    // One that runs and one that waits.
    assert_eq!(engine.remove(1).expect("it runs").generated().len(), 2);
    assert!(engine.remove(5).expect("it waits").generated().is_empty());
    assert!(engine.remove(5).is_none() && engine.remove(99).is_none());
    assert_eq!(engine.len(), 7);
    while !engine.is_empty() {
        for (index, token) in block_on(engine.step()).expect("the GPU works") {
            got.entry(index).or_default().add(&token.expect("some token is left"));
        }
    }
    for (index, want) in want.iter().enumerate() {
        match index {
            1 => assert_eq!(got[&index].tokens, want.tokens[..2], "it was taken away after two tokens"),
            5 => assert!(!got.contains_key(&index), "it was taken away before it began"),
            _ => assert_eq!(&got[&index], want, "text {index}"),
        }
    }
}

/// A generation may be dropped at any token; what comes after it knows nothing of it.
#[test]
fn a_dropped_generation_leaves_nothing_behind() {
    let Some(gpu) = gpu() else { return };
    let (requests, tokenizer) = (requests(3), tokenizer());
    let mut model = load(&gpu, 1);
    let want = alone(&mut model, &tokenizer, &requests[1]);
    for request in [&requests[0], &requests[2]] {
        let mut text = Generation::new(&mut model, Some(&tokenizer), &request.0, &request.1).expect("a good prompt");
        block_on(text.next()).expect("the GPU works");
        drop(text);
        assert_eq!(alone(&mut model, &tokenizer, &requests[1]), want);
    }
}

/// An error of one text ends it alone; the others get what they would get without it.
#[test]
fn an_error_is_of_one_sequence() {
    let Some(gpu) = gpu() else { return };
    let (mut requests, tokenizer) = (requests(4), tokenizer());
    let mut model = load(&gpu, 4);
    let want: Vec<_> = requests.iter().map(|request| alone(&mut model, &tokenizer, request)).collect();
    requests[2].1.sampling.suppress_tokens = (0..1024).collect();
    let sequences: Vec<_> = requests.iter().map(|request| sequence(&model, &tokenizer, request)).collect();
    let mut engine = Engine::new(model).expect("a language model");
    sequences.into_iter().for_each(|sequence| _ = engine.add(sequence).expect("it fits"));
    let mut got: BTreeMap<usize, Outcome> = BTreeMap::new();
    let mut errors = Vec::new();
    while !engine.is_empty() {
        for (index, token) in block_on(engine.step()).expect("the GPU works") {
            match token {
                Ok(token) => got.entry(index).or_default().add(&token),
                Err(error) => errors.push((index, error.to_string())),
            }
        }
    }
    assert!(errors.len() == 1 && errors[0].0 == 2 && errors[0].1.contains("rule out every token"), "{errors:?}");
    for index in [0, 1, 3] {
        assert_eq!(got[&index], want[index], "text {index}");
    }
}

/// Models on one GPU do not disturb each other, on two threads at the same time.
#[test]
fn several_models_work_on_a_gpu_at_once() {
    let Some(gpu) = gpu() else { return };
    let (requests, tokenizer) = (requests(8), tokenizer());
    let mut models = [load(&gpu, 1), load(&gpu, 1)];
    let want: Vec<_> = requests.iter().map(|request| alone(&mut models[0], &tokenizer, request)).collect();
    std::thread::scope(|scope| {
        for model in &mut models {
            scope.spawn(|| {
                for (request, want) in requests.iter().zip(&want) {
                    assert_eq!(&alone(model, &tokenizer, request), want);
                }
            });
        }
    });
}

/// Generations take turns, and everything may go to another thread.
#[test]
fn generations_take_turns_and_change_threads() {
    let Some(gpu) = gpu() else { return };
    let (requests, tokenizer) = (requests(2), tokenizer());
    let mut models = [load(&gpu, 1), load(&gpu, 1)];
    let want = alone(&mut models[0], &tokenizer, &requests[1]);
    let [first, second] = &mut models;
    let [mut a, mut b] = [(first, &requests[0]), (second, &requests[1])]
        .map(|(model, (prompt, options))| Generation::new(model, Some(&tokenizer), prompt, options).expect("good"));
    let mut got = Outcome::default();
    // In turn, and one of them elsewhere each time.
    while let Some(token) = block_on(b.next()).expect("the GPU works") {
        got.add(&token);
        std::thread::scope(|scope| {
            scope.spawn(|| block_on(a.next()).expect("the GPU works"));
        });
    }
    assert_eq!(got, want);
}

fn assert_send<T: Send>(_: &T) {}

/// What executors with several threads want of futures.
#[test]
fn futures_can_change_threads() {
    let Some(gpu) = gpu() else { return };
    let checkpoint = Checkpoint::open(&golden::model("shakespeare")).expect("the demo model");
    assert_send(&Gpu::open(&gptj::GpuOptions::default()));
    assert_send(&Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()));
    let mut model = load(&gpu, 1);
    assert_send(&model.classify(&[1]));
    assert_send(&model.score(&[1, 2], 0));
    assert_send(&model.loss(&[1, 2], &[1, 2]));
    assert_send(&model.perplexity(&[1, 2], gptj::Windows::default(), |_| ()));
    assert_send(&model.answer(&[1], &[2], 1));
    assert_send(&model.embed(&[1], gptj::Pooling::Last));
    assert_send(&model.logits_of_slots(&[]));
    assert_send(&model.greedy_tokens(&[]));
    assert_send(&model.logits_at_every_token(0, &[1], 0, |_| ()));
    assert_send(&model.last_hidden_state(0, &[1], |_| ()));
    assert_send(&model.stages(0, &[1], true));
    assert_send(&Generation::new(&mut model, None, &[1], &GenerateOptions::default()).expect("a good prompt").next());
    assert_send(&Engine::new(model).expect("a language model").step());
}
