//! A model of GPT-J-6B's size on the GPU at hand, a software driver included: that it loads, what it takes, and that
//! its logits are those of the plain loops, which see one block at a time.
//!
//! ```text
//! python tests/make_random_model.py /tmp/random-6b --preset 6b
//! GPTJ_FULL_SIZE=/tmp/random-6b cargo test --release --test model full_size -- --ignored --nocapture
//! ```

use std::path::PathBuf;
use std::time::Instant;

use gptj::checkpoint::{BlockTensor, TensorName};
use gptj::internals::kernels::reference::{self, BlockWeights, LayerCache};
use gptj::internals::kernels::{Row, rotary_angles};
use gptj::internals::weights::Weights;
use gptj::{Checkpoint, Config, LoadOptions, MemoryPlan};
use pollster::block_on;

use crate::common::gpu::gpu;
use crate::common::numbers::{assert_close, difference, largest};
use crate::common::transformers::load;

/// Of the largest logit. A block's keys and values are rounded to f16, to 2^-11 of each or to 2^-10 where a driver
/// rounds towards zero, and the stream passes through 28 blocks: the square root of 28 times 2^-10, twice for the MLP's
/// answer.
const TOLERANCE: f32 = 1.0 / 96.0;

/// Positions that are compared with the plain loops.
const COMPARED: usize = 4;

#[test]
#[ignore = "takes 13.2 GB of memory and the checkpoint that GPTJ_FULL_SIZE names"]
fn a_model_of_full_size() {
    let directory = PathBuf::from(std::env::var_os("GPTJ_FULL_SIZE").expect("GPTJ_FULL_SIZE names a checkpoint"));
    let gpu = gpu().expect("a GPU");
    let checkpoint = Checkpoint::open(&directory).expect("a sound checkpoint");
    let config = checkpoint.config();
    let plan = MemoryPlan::new((&gpu).into(), config, &LoadOptions::default()).expect("it fits");
    println!("{}", gpu.info());
    println!("plan: context {}, {:?}, total {}", plan.config.n_positions, plan.budget, plan.budget.total());

    let start = Instant::now();
    let mut model = load(&gpu, &checkpoint, &LoadOptions::default());
    let seconds = start.elapsed().as_secs_f64();
    let weights = Weights::bytes(config);
    println!("load: {seconds:.1} s, {:.2} GB/s of weights", weights as f64 / seconds / 1e9);
    let (engine, allocator) = (gpu.created().buffer_bytes, gpu.allocated_bytes());
    println!("memory on the GPU: engine's count {engine}, allocator's {allocator:?}; {}", process_memory());

    let prompt: Vec<u32> = (0..64).map(|i| (i * 7919 + 11) % config.vocab_size as u32).collect();
    let start = Instant::now();
    let logits = block_on(model.logits(0, &prompt)).expect("the GPU works");
    println!("prompt of 64 tokens: {:.2} s", start.elapsed().as_secs_f64());
    assert!(logits.iter().all(|logit| logit.is_finite()), "the logits after 64 tokens are finite");

    let mut token = reference::argmax(&logits, config.vocab_size)[0];
    let mut decoded = Vec::new();
    let start = Instant::now();
    for _ in 0..8 {
        token = block_on(model.greedy_token(0, &[token])).expect("the GPU works");
        decoded.push(token);
    }
    println!("decoded {decoded:?}, {:.0} ms a token", start.elapsed().as_secs_f64() * 1e3 / 8.0);

    let want = plain_logits(&checkpoint, &prompt[..COMPARED]);
    let largest = largest(&want);
    for (position, want) in want.chunks_exact(config.vocab_size).enumerate() {
        model.truncate(0, 0);
        let got = block_on(model.logits(0, &prompt[..=position])).expect("the GPU works");
        assert_close(&format!("logits of position {position}"), &got, want, largest * TOLERANCE, 0.0);
        println!(
            "position {position}: off by {:.1e} of the largest logit, {largest:.1}",
            difference(&got, want) / largest
        );
    }
    println!("{}", process_memory());
}

/// The logits of every position by the plain loops, with one block at a time in memory.
fn plain_logits(checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    let config = &Config { n_positions: tokens.len(), ..checkpoint.config().clone() };
    let tensor = |name| checkpoint.tensor(name).expect("it is there").to_f32().expect("it is sound");
    let rows: Vec<Row> = (0..tokens.len() as u32).map(|position| Row { slot: 0, position }).collect();
    let angles = rotary_angles(config, config.n_positions);
    let norm = |x: &[f32], [gain, bias]: [TensorName; 2]| {
        reference::layer_norm(x, &tensor(gain), &tensor(bias), config.layer_norm_epsilon)
    };
    let mut x = reference::token_embedding(tokens, &tensor(TensorName::Wte), config.n_embd);
    for layer in 0..config.n_layer {
        let part = |part| tensor(TensorName::Block(layer, part));
        let block = BlockWeights {
            qkv: [BlockTensor::QProj, BlockTensor::KProj, BlockTensor::VProj].map(part),
            out_proj: part(BlockTensor::OutProj),
            fc_in: part(BlockTensor::FcInWeight),
            fc_in_bias: part(BlockTensor::FcInBias),
            fc_out: part(BlockTensor::FcOutWeight),
            fc_out_bias: part(BlockTensor::FcOutBias),
        };
        let normed =
            norm(&x, [BlockTensor::Ln1Weight, BlockTensor::Ln1Bias].map(|part| TensorName::Block(layer, part)));
        let [mut keys, mut values] = [(); 2].map(|()| LayerCache::new(config, 1, config.n_positions));
        let (q, hidden) = reference::block_in(&rows, &normed, &block, &angles, config, [&mut keys, &mut values]);
        let attended = reference::attention(&rows, &q, &keys, &values);
        reference::block_out(&mut x, &attended, &hidden, &block, config);
    }
    let ln_f = norm(&x, [TensorName::LnFWeight, TensorName::LnFBias]);
    reference::lm_head(&ln_f, &tensor(TensorName::LmHeadWeight), &tensor(TensorName::LmHeadBias), config.n_embd)
}

/// What Linux says of this process; a software driver's memory is part of it.
fn process_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines: Vec<_> = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")).collect();
    format!("the process: {}", lines.join(", ").replace('\t', " "))
}
