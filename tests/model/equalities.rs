//! What a text gives does not depend on how it is fed, on what else the model does, or on how the GPU holds the weights.

use gptj::internals::engine::Pipeline;
use gptj::internals::gpu::GpuOptions;
use gptj::internals::kernels::reference::argmax;
use gptj::{GemvConfig, LoadOptions, SlotTokens};
use pollster::block_on;

use crate::common::gpu::{gpu, open};
use crate::common::numbers::{STAGE_TOLERANCE, assert_close_to_largest};
use crate::{load_golden, prompt};

/// Both ran here, with the same rounding of the cache; only the order of sums may differ, and what its last bits do to
/// a rounding of the cache now and then.
fn assert_logits_close(what: &str, got: &[f32], want: &[f32]) {
    assert_close_to_largest(what, got, want, STAGE_TOLERANCE / 4.0);
}

/// A prompt in one go, in chunks of any size, and token by token gives the same logits. The prompt is long enough for
/// its history to be split.
#[test]
fn prefill_equals_one_by_one_and_chunks_are_invisible() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "shakespeare", &LoadOptions::default());
    let tokens = prompt(300, model.config().vocab_size);
    let at_once = block_on(model.logits(0, &tokens)).expect("the GPU works");

    model.truncate(0, 0);
    let mut one_by_one = Vec::new();
    for token in &tokens {
        one_by_one = block_on(model.logits(0, &[*token])).expect("the GPU works");
    }
    assert_logits_close("one by one", &one_by_one, &at_once);

    for chunk in [32, 96] {
        let mut model = load_golden(&gpu, "shakespeare", &LoadOptions { chunk, ..LoadOptions::default() });
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
        let gemv = Some(GemvConfig { lanes: 64, rows: 4, depth: 1, limit });
        let mut model = load_golden(&gpu, "shakespeare", &LoadOptions { gemv, ..LoadOptions::default() });
        let tokens = prompt(150, model.config().vocab_size);
        block_on(model.logits(0, &tokens)).expect("the GPU works")
    });
    assert_close_to_largest("logits", &in_tiles, &by_rows, STAGE_TOLERANCE);
}

/// What a sequence gives does not depend on what other slots hold.
#[test]
fn slots_do_not_see_each_other() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "tiny", &LoadOptions { n_slots: 3, ..LoadOptions::default() });
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
        let mut model = load_golden(&gpu, "shakespeare", &LoadOptions { chunk: 32, ..LoadOptions::default() });
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
    let mut model = load_golden(&gpu, "tiny", &LoadOptions { n_slots: 2, ..LoadOptions::default() });
    let mut pipeline = Pipeline::default();
    let tokens = prompt(20, model.config().vocab_size);
    let plainly = |slot: usize, tokens: &[u32]| {
        let mut fresh = load_golden(&gpu, "tiny", &LoadOptions { n_slots: 2, ..LoadOptions::default() });
        block_on(fresh.logits(slot, tokens)).expect("the GPU works")
    };
    let greedy_token = |logits: &[f32]| argmax(logits, logits.len())[0];
    let sequence = |last: &[u32]| [&tokens, last].concat();

    let first = block_on(pipeline.greedy_token(&mut model, 0, &tokens, true)).expect("the GPU works");
    assert_eq!(first, greedy_token(&plainly(0, &tokens)));
    // The token that the GPU went on with: the next one is under way.
    let second = block_on(pipeline.greedy_token(&mut model, 0, &[first], true)).expect("the GPU works");
    assert_eq!(second, greedy_token(&plainly(0, &sequence(&[first]))));
    // Another token than that, and more than one.
    let other = (second + 1) % model.config().vocab_size as u32;
    let third = block_on(pipeline.greedy_token(&mut model, 0, &[other], true)).expect("the GPU works");
    assert_eq!(third, greedy_token(&plainly(0, &sequence(&[first, other]))));
    block_on(pipeline.greedy_token(&mut model, 0, &[third, other], true)).expect("the GPU works");
    let want = plainly(0, &sequence(&[first, other, third, other, third]));
    // Its logits, after it was asked for its token; then the same again, from a place further back.
    assert_logits_close("logits", &block_on(pipeline.logits(&mut model, 0, &[third])).expect("the GPU works"), &want);
    model.truncate(0, tokens.len() + 4);
    assert_logits_close("again", &block_on(pipeline.logits(&mut model, 0, &[third])).expect("the GPU works"), &want);
    // Of the next place, encoded ahead, which takes whatever token comes.
    let further = sequence(&[first, other, third, other, third, second]);
    let want_further = plainly(0, &further);
    assert_logits_close(
        "further",
        &block_on(pipeline.logits(&mut model, 0, &[second])).expect("the GPU works"),
        &want_further,
    );
    // The same place of another slot.
    block_on(pipeline.logits(&mut model, 1, &further[..further.len() - 1])).expect("the GPU works");
    model.truncate(0, further.len() - 2);
    block_on(pipeline.logits(&mut model, 0, &[first])).expect("the GPU works");
    assert_logits_close(
        "slot 1",
        &block_on(pipeline.logits(&mut model, 1, &[second])).expect("the GPU works"),
        &want_further,
    );
    // The context's last position, after which there is nothing to go on to.
    let room = model.config().n_positions - model.cache().length(0);
    block_on(pipeline.greedy_token(&mut model, 0, &vec![first; room], true)).expect("the GPU works");
    assert!(block_on(pipeline.greedy_token(&mut model, 0, &[first], true)).is_err(), "the context is full");
}

/// Sequences that decode together get the tokens that each gets alone.
#[test]
fn a_batch_is_its_sequences() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "tiny", &LoadOptions { n_slots: 11, ..LoadOptions::default() });
    let prompts: Vec<_> =
        (0..11).map(|slot| prompt(40, model.config().vocab_size)[slot..2 * slot + 3].to_vec()).collect();
    let alone: Vec<u32> = prompts
        .iter()
        .map(|prompt| {
            let token = block_on(model.greedy_token(0, prompt)).expect("the GPU works");
            model.truncate(0, 0);
            token
        })
        .collect();
    let mut next = Vec::new();
    for (slot, prompt) in prompts.iter().enumerate() {
        let (start, last) = prompt.split_at(prompt.len() - 1);
        block_on(model.logits(slot, start)).expect("the GPU works");
        next.push(SlotTokens { slot, tokens: last });
    }
    let alone: Vec<_> = alone.into_iter().map(Some).collect();
    assert_eq!(block_on(model.greedy_tokens(&next)).expect("the GPU works"), alone);
}
