//! What a model takes on the GPU: buffers, memory, and nothing more once it decodes.

use gptj::internals::engine::Pipeline;
use gptj::internals::gpu::GpuOptions;
use gptj::internals::model::synthetic;
use gptj::{Checkpoint, Config, LoadOptions, MemoryUsage, Model};
use pollster::block_on;

use crate::common::golden;
use crate::common::gpu::{gpu, open};
use crate::common::transformers::load;
use crate::{load_golden, prompt};

/// After the first token, decoding replays: it creates nothing on the GPU and allocates no memory there.
#[test]
fn decoding_creates_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut model = load_golden(&gpu, "tiny", &LoadOptions::default());
    let mut pipeline = Pipeline::default();
    let tokens = prompt(20, model.config().vocab_size);
    let mut next = block_on(pipeline.greedy_token(&mut model, 0, &tokens, true)).expect("the GPU works");
    next = block_on(pipeline.greedy_token(&mut model, 0, &[next], true)).expect("the GPU works");
    let (created, allocated) = (gpu.created(), gpu.allocated_bytes());
    assert!(created.buffers > 0 && created.bind_groups > 0 && created.pipelines > 0);
    for _ in 0..20 {
        next = block_on(pipeline.greedy_token(&mut model, 0, &[next], true)).expect("the GPU works");
        assert_eq!(gpu.created(), created);
        assert_eq!(gpu.allocated_bytes(), allocated);
    }
}

/// The engine's own account of a model's memory is what it allocates.
#[test]
fn the_budget_is_what_is_allocated() {
    let Some(gpu) = gpu() else { return };
    let before = gpu.created().buffer_bytes;
    let checkpoint = Checkpoint::open(&golden::model("odd_widths")).expect("the golden is sound");
    let options = LoadOptions { chunk: 40, n_slots: 2, ..LoadOptions::default() };
    let _model = load(&gpu, &checkpoint, &options);
    assert_eq!(gpu.created().buffer_bytes - before, MemoryUsage::new(checkpoint.config(), &options).allocated());
}

/// A dry run has every dispatch and bind group of the real thing, and next to no memory.
#[test]
fn a_dry_run_takes_no_memory() {
    let Some(gpu) = open(&GpuOptions { dry_run: true, ..GpuOptions::default() }) else { return };
    let config = Config::preset("6b").expect("there is one");
    let weights = block_on(synthetic::weights(&gpu, &config, 0)).expect("they fit");
    let mut model = block_on(Model::new(&gpu, &config, weights, &LoadOptions::default())).expect("it fits");
    assert!(gpu.created().buffer_bytes < 64 << 20);
    let launches = model.launches(1);
    assert!(gpu.created().bind_groups >= launches, "one a dispatch");
    block_on(model.greedy_token(0, &[1, 2, 3])).expect("the GPU works");
}

/// Made-up weights are as large as real ones, and what comes of them is finite.
#[test]
fn synthetic_weights_make_a_model() {
    let Some(gpu) = gpu() else { return };
    let config = Config::preset("tiny").expect("there is one");
    let logits = [1, 1, 2].map(|seed| {
        let weights = block_on(synthetic::weights(&gpu, &config, seed)).expect("they fit");
        let options = LoadOptions { chunk: 32, ..LoadOptions::default() };
        let mut model = block_on(Model::new(&gpu, &config, weights, &options)).expect("it fits");
        block_on(model.logits(0, &prompt(20, config.vocab_size))).expect("the GPU works")
    });
    assert!(logits[0].iter().all(|logit| logit.is_finite()));
    assert_eq!(logits[0], logits[1]);
    assert_ne!(logits[0], logits[2]);
}
