//! Whole models against Hugging Face transformers, stage by stage, and the properties that every model must have.
//!
//! `tests/golden/README.md` says what the goldens are. Their weights are exact in f16 and the reference computed in
//! f32, so that what may differ is the rounding of the cache's keys and values to f16 (2^-11 of a number, or 2^-10
//! where a driver rounds towards zero) and the order of f32 sums (some 2^-20). A block adds to the stream a mixture of
//! rounded values and an MLP's answer to it, so a stage is compared to within [`TOLERANCE`] of its largest number.

mod common;

use std::path::{Path, PathBuf};

use common::{assert_close, block_on, gpu, logits_of_all, open};
use gptj::VectorShape;
use gptj::internals::gpu::{Gpu, GpuOptions};
use gptj::{
    Budget, Checkpoint, Config, Feed, FinishReason, GenerateOptions, Generation, LoadOptions, Model, SamplingOptions,
};
use safetensors::SafeTensors;

/// Of a stage's largest number: 2^-10 for a driver that rounds the cache towards zero, twice that for passing through
/// up to five blocks.
const TOLERANCE: f32 = 1.0 / 512.0;

const GOLDENS: [&str; 7] = ["tiny", "wide_head", "narrow_mlp", "odd_widths", "whole_head", "sharded", "shakespeare"];

fn golden(name: &str) -> PathBuf {
    Path::new("tests/golden").join(name)
}

/// The checkpoint of a golden; the demo model's lies with the model.
fn checkpoint(name: &str) -> Checkpoint {
    let directory = match name {
        "shakespeare" => PathBuf::from("models/shakespeare"),
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
        let stages = block_on(model.stages(0, &reference.tokens, false)).expect("the GPU works");
        let (ln_f, hidden) = stages.hidden_states.split_last().expect("there are some");
        let hidden: Vec<_> = hidden.iter().chain([&stages.last_block]).collect();
        assert_eq!(hidden.len(), reference.hidden.len(), "{name} has a stage for the embedding and each block");
        for (stage, (got, want)) in hidden.into_iter().zip(&reference.hidden).enumerate() {
            assert_stage_close(&format!("{name}, hidden.{stage}"), got, want);
        }
        assert_stage_close(&format!("{name}, ln_f"), ln_f, &reference.ln_f);
        let logits = logits_of_all(&mut model, &reference.tokens);
        assert_stage_close(&format!("{name}, logits"), &logits, &reference.logits);
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
            max_new_tokens: Some(decided),
            sampling: SamplingOptions::greedy(),
            ..GenerateOptions::default()
        };
        let mut generation = Generation::new(&mut model, None, &reference.tokens, &options).expect("a good prompt");
        while block_on(generation.next()).expect("the GPU works").is_some() {}
        assert_eq!(generation.generated(), &reference.greedy[..decided], "{name}");
    }
}

/// Tokens of a made-up text.
fn prompt(length: usize, vocab_size: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 7 + 3) % vocab_size) as u32).collect()
}

fn assert_logits_close(what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    // Both ran here, with the same rounding of the cache; only the order of sums may differ, and what its last bits do
    // to a rounding of the cache now and then.
    assert_close(what, got, want, TOLERANCE / 4.0 * largest, 0.0);
}

/// A prompt in one go, in chunks of any size, and token by token gives the same logits. The prompt is long enough for
/// its history to be split.
#[test]
fn prefill_equals_one_by_one_and_chunks_are_invisible() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, "shakespeare", LoadOptions::default());
    let tokens = prompt(300, model.config().vocab_size);
    let at_once = block_on(model.logits(0, &tokens)).expect("the GPU works");

    model.truncate(0, 0);
    let mut one_by_one = Vec::new();
    for token in &tokens {
        one_by_one = block_on(model.logits(0, &[*token])).expect("the GPU works");
    }
    assert_logits_close("one by one", &one_by_one, &at_once);

    for chunk in [32, 96] {
        let mut model = load(&gpu, "shakespeare", LoadOptions { chunk, ..LoadOptions::default() });
        let in_chunks = block_on(model.logits(0, &tokens)).expect("the GPU works");
        assert_logits_close(&format!("chunks of {chunk}"), &in_chunks, &at_once);
    }

    // Feeding a text in two parts is feeding it whole, also from the middle of it on again.
    for split in [1, 9, 128] {
        model.truncate(0, split);
        let continued = block_on(model.logits(0, &tokens[split..])).expect("the GPU works");
        assert_logits_close(&format!("from token {split} on"), &continued, &at_once);
    }
}

/// A prompt in tiles gives what it gives row by row, but for the rounding of activations to f16: 2^-11 for the inputs
/// of eight products in a row, and that the roundings of a sum add up would be chance.
#[test]
fn tiles_equal_rows() {
    let Some(gpu) = gpu() else { return };
    let [in_tiles, by_rows] = [32, usize::MAX].map(|limit| {
        let vector = Some(VectorShape { lanes: 64, rows: 4, depth: 1, limit });
        let mut model = load(&gpu, "shakespeare", LoadOptions { vector, ..LoadOptions::default() });
        let tokens = prompt(150, model.config().vocab_size);
        block_on(model.logits(0, &tokens)).expect("the GPU works")
    });
    let largest = by_rows.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
    assert_close("logits", &in_tiles, &by_rows, largest * TOLERANCE, 0.0);
}

/// What a sequence gives does not depend on what other slots hold.
#[test]
fn slots_do_not_see_each_other() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, "tiny", LoadOptions { n_slots: 3, ..LoadOptions::default() });
    let tokens = prompt(40, model.config().vocab_size);
    let others = prompt(60, model.config().vocab_size)[17..].to_vec();
    let alone = block_on(model.logits(0, &tokens)).expect("the GPU works");
    block_on(model.logits(1, &others)).expect("the GPU works");
    let in_slot_2 = block_on(model.logits(2, &tokens)).expect("the GPU works");
    assert_eq!(in_slot_2, alone);
}

/// A GPU with small bindings and buffers has the large matrices in parts, of which a launch takes two, and computes the
/// same, bit by bit.
#[test]
fn small_bindings_change_nothing() {
    let Some(gpu) = gpu() else { return };
    let Some(small) = open(&GpuOptions { max_binding: 800 << 10, max_buffer: 1 << 20, ..GpuOptions::default() }) else {
        return;
    };
    let [whole, in_parts] = [gpu, small].map(|gpu| {
        let mut model = load(&gpu, "shakespeare", LoadOptions { chunk: 32, ..LoadOptions::default() });
        let tokens = prompt(20, model.config().vocab_size);
        (block_on(model.logits(0, &tokens)).expect("the GPU works"), model.launches(1))
    });
    assert_eq!(in_parts.1, whole.1, "block_in does not fit one binding, but two");
    assert_eq!(in_parts.0, whole.0);
}

/// What the GPU goes on with by itself, or the host encodes ahead, is used only where it is what is asked for next.
#[test]
fn what_was_done_ahead_is_used_only_where_it_fits() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, "tiny", LoadOptions { n_slots: 2, ..LoadOptions::default() });
    let tokens = prompt(20, model.config().vocab_size);
    let plainly = |slot: usize, tokens: &[u32]| {
        let mut fresh = load(&gpu, "tiny", LoadOptions { n_slots: 2, ..LoadOptions::default() });
        block_on(fresh.logits(slot, tokens)).expect("the GPU works")
    };
    let most_likely = |logits: &[f32]| gptj::internals::reference::argmax(logits, logits.len())[0];
    let sequence = |last: &[u32]| [&tokens, last].concat();

    let first = block_on(model.most_likely(0, &tokens, true)).expect("the GPU works");
    assert_eq!(first, most_likely(&plainly(0, &tokens)));
    // The token that the GPU went on with: the next one is under way.
    let second = block_on(model.most_likely(0, &[first], true)).expect("the GPU works");
    assert_eq!(second, most_likely(&plainly(0, &sequence(&[first]))));
    // Another token than that, and more than one.
    let other = (second + 1) % model.config().vocab_size as u32;
    let third = block_on(model.most_likely(0, &[other], true)).expect("the GPU works");
    assert_eq!(third, most_likely(&plainly(0, &sequence(&[first, other]))));
    block_on(model.most_likely(0, &[third, other], true)).expect("the GPU works");
    let want = plainly(0, &sequence(&[first, other, third, other, third]));
    // Its logits, after it was asked for its token; then the same again, from a place further back.
    assert_logits_close("logits", &block_on(model.logits(0, &[third])).expect("the GPU works"), &want);
    model.truncate(0, tokens.len() + 4);
    assert_logits_close("again", &block_on(model.logits(0, &[third])).expect("the GPU works"), &want);
    // Of the next place, encoded ahead, which takes whatever token comes.
    let further = sequence(&[first, other, third, other, third, second]);
    let want_further = plainly(0, &further);
    assert_logits_close("further", &block_on(model.logits(0, &[second])).expect("the GPU works"), &want_further);
    // The same place of another slot.
    block_on(model.logits(1, &further[..further.len() - 1])).expect("the GPU works");
    model.truncate(0, further.len() - 2);
    block_on(model.logits(0, &[first])).expect("the GPU works");
    assert_logits_close("slot 1", &block_on(model.logits(1, &[second])).expect("the GPU works"), &want_further);
    // The context's last position, after which there is nothing to go on to.
    let room = model.config().n_positions - model.cache().length(0);
    block_on(model.most_likely(0, &vec![first; room], true)).expect("the GPU works");
    assert!(block_on(model.most_likely(0, &[first], true)).is_err(), "the context is full");
}

/// After the first token, decoding replays: it creates nothing on the GPU and allocates no memory there.
#[test]
fn decoding_creates_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, "tiny", LoadOptions::default());
    let tokens = prompt(20, model.config().vocab_size);
    let mut next = block_on(model.most_likely(0, &tokens, true)).expect("the GPU works");
    next = block_on(model.most_likely(0, &[next], true)).expect("the GPU works");
    let (created, allocated) = (gpu.created(), gpu.allocated_bytes());
    assert!(created.buffers > 0 && created.bind_groups > 0 && created.pipelines > 0);
    for _ in 0..20 {
        next = block_on(model.most_likely(0, &[next], true)).expect("the GPU works");
        assert_eq!(gpu.created(), created);
        assert_eq!(gpu.allocated_bytes(), allocated);
    }
}

/// The engine's own account of a model's memory is what it allocates.
#[test]
fn the_budget_is_what_is_allocated() {
    let Some(gpu) = gpu() else { return };
    let before = gpu.created().buffer_bytes;
    let checkpoint = checkpoint("odd_widths");
    let options = LoadOptions { chunk: 40, n_slots: 2, ..LoadOptions::default() };
    let _model = block_on(Model::load(&gpu, &checkpoint, &options, |_| ())).expect("it fits");
    assert_eq!(gpu.created().buffer_bytes - before, Budget::new(checkpoint.config(), &options).allocated());
}

/// The token that ends a text is the last one; generation_config.json says which it is, before config.json.
#[test]
fn end_of_text_ends_the_text() {
    let Some(gpu) = gpu() else { return };
    let reference = Reference::read("narrow_mlp");
    let end = reference.greedy[5];
    let length = 1 + reference.greedy.iter().position(|&token| token == end).expect("it is in there");
    let directory = tempfile::tempdir().expect("a temporary directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("narrow_mlp").join(file), directory.path().join(file)).expect("a copy");
    }
    let text = format!(r#"{{"eos_token_id": [{end}, 7777]}}"#);
    std::fs::write(directory.path().join("generation_config.json"), text).expect("a file");

    let checkpoint = Checkpoint::open(directory.path()).expect("a sound checkpoint");
    let mut model = block_on(Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ())).expect("it fits");
    let options = GenerateOptions { sampling: SamplingOptions::greedy(), ..GenerateOptions::default() };
    let mut generation = Generation::new(&mut model, None, &reference.tokens, &options).expect("a good prompt");
    while block_on(generation.next()).expect("the GPU works").is_some() {}
    assert_eq!(generation.generated(), &reference.greedy[..length]);
    assert_eq!(generation.finish_reason(), Some(FinishReason::Stop));
}

/// Sequences that decode together get the tokens that each gets alone.
#[test]
fn a_batch_is_its_sequences() {
    let Some(gpu) = gpu() else { return };
    let mut model = load(&gpu, "tiny", LoadOptions { n_slots: 11, ..LoadOptions::default() });
    let prompts: Vec<_> =
        (0..11).map(|slot| prompt(40, model.config().vocab_size)[slot..2 * slot + 3].to_vec()).collect();
    let alone: Vec<u32> = prompts
        .iter()
        .map(|prompt| {
            let token = block_on(model.most_likely(0, prompt, false)).expect("the GPU works");
            model.truncate(0, 0);
            token
        })
        .collect();
    let mut next = Vec::new();
    for (slot, prompt) in prompts.iter().enumerate() {
        let (start, last) = prompt.split_at(prompt.len() - 1);
        block_on(model.logits(slot, start)).expect("the GPU works");
        next.push(Feed { slot, tokens: last });
    }
    let alone: Vec<_> = alone.into_iter().map(Some).collect();
    assert_eq!(block_on(model.most_likely_of_feeds(&next)).expect("the GPU works"), alone);
}

/// Made-up weights are as large as real ones, and what comes of them is finite.
#[test]
fn synthetic_weights_make_a_model() {
    let Some(gpu) = gpu() else { return };
    let config = Config::preset("tiny").expect("there is one");
    let logits = [1, 1, 2].map(|seed| {
        let weights = block_on(gptj::internals::synthetic::weights(&gpu, &config, seed)).expect("they fit");
        let options = LoadOptions { chunk: 32, ..LoadOptions::default() };
        let mut model = block_on(Model::new(&gpu, &config, weights, &options)).expect("it fits");
        block_on(model.logits(0, &prompt(20, config.vocab_size))).expect("the GPU works")
    });
    assert!(logits[0].iter().all(|logit| logit.is_finite()));
    assert_eq!(logits[0], logits[1]);
    assert_ne!(logits[0], logits[2]);
}

/// A rehearsal has every dispatch and bind group of the real thing, and next to no memory.
#[test]
fn a_rehearsal_takes_no_memory() {
    let Some(gpu) = open(&GpuOptions { rehearsal: true, ..GpuOptions::default() }) else { return };
    let config = Config::preset("6b").expect("there is one");
    let weights = block_on(gptj::internals::synthetic::weights(&gpu, &config, 0)).expect("they fit");
    let mut model = block_on(Model::new(&gpu, &config, weights, &LoadOptions::default())).expect("it fits");
    assert!(gpu.created().buffer_bytes < 64 << 20);
    assert!(gpu.created().bind_groups >= model.launches(1), "one a dispatch");
    block_on(model.most_likely(0, &[1, 2, 3], true)).expect("the GPU works");
}
