//! Attention, by each of its kernels.

use gptj::Config;
use gptj::internals::gpu::Gpu;
use gptj::internals::kernels::reference::{self, LayerCache};
use gptj::internals::kernels::{Row, attention_lanes, most_splits};
use gptj::internals::weights::BlockWidths;

use crate::cases::{CAPACITY, N_SLOTS, for_each_case, plan, rows, step, tuning};
use crate::common::numbers::{assert_close, numbers};
use crate::gpu_data::{f32_tensor, read, run, step_tensor};
use crate::layout::{GpuCache, activations, read_activations};

/// Large enough for the softmax to be far from uniform.
fn queries(rows: &[Row], config: &Config) -> Vec<f32> {
    numbers(12, rows.len() * config.n_embd).iter().map(|x| x * 4.0).collect()
}

/// Keys and values of every position, on the GPU and here.
fn full_cache(gpu: &Gpu, config: &Config) -> (GpuCache, [LayerCache; 2]) {
    let every_position: Vec<Row> =
        (0..2 * config.n_positions as u32).map(|i| Row { slot: i % 2, position: i / 2 }).collect();
    let vectors = [13, 14].map(|seed| {
        let mut cache = LayerCache::new(config, N_SLOTS, config.n_positions);
        reference::append_cache(&every_position, &numbers(seed, every_position.len() * config.n_embd), &mut cache);
        cache
    });
    let cache = GpuCache::new(gpu, config);
    cache.write(gpu, config, vectors.each_ref());
    (cache, vectors)
}

/// Attention of `rows`, by each of the kernels in its turn.
fn check_attention(shader: &str, rows: impl Fn(&Config) -> Vec<Row>) {
    for_each_case(shader, |gpu, config, kernels| {
        assert!(
            tuning(gpu).lane_positions * attention_lanes(config) < config.n_positions,
            "a history has several splits"
        );
        let rows = rows(config);
        let q = queries(&rows, config);
        let (cache, [keys, values]) = full_cache(gpu, config);
        let want = reference::attention(&rows, &q, &keys, &values);

        let activations = activations(gpu, config, &[], &[], &q);
        let step_tensor = step_tensor(gpu, &rows, 0, CAPACITY);
        let launches = if shader == "flash_attention" {
            vec![kernels.flash_attention(&step_tensor, &activations, cache.layer())]
        } else {
            let n_splits = rows.len() * config.n_head * most_splits(config, config.n_positions);
            let partial_out = f32_tensor(gpu, "partial_out", 1, n_splits * config.head_width(), &[]);
            let partial_max_sum = f32_tensor(gpu, "partial_max_sum", 1, n_splits * 2, &[]);
            vec![
                kernels.attention(&step_tensor, &activations, cache.layer(), &partial_out, &partial_max_sum),
                kernels.merge_attention(&step_tensor, &partial_out, &partial_max_sum, &activations),
            ]
        };
        run(gpu, &plan(launches), step(&rows));
        // Scores of magnitude 40 are exact to 2^-19 or so; their exponentials and the mixture of values below 1
        // are off by as much, relatively.
        let [attended, hidden, q_after] = read_activations(gpu, config, &activations, rows.len());
        assert_close(shader, &attended, &want, 2e-5, 0.0);
        assert_eq!(q_after, q, "q is only read");
        assert!(hidden.iter().all(|&value| value == 0.0), "the hidden layer is not touched");
    });
}

#[test]
fn attention() {
    check_attention("attention", |config| rows(6, config));
}

/// Every row of another slot than its neighbours, and runs of rows as prompts have them, with a border within a tile.
#[test]
fn flash_attention() {
    check_attention("flash_attention", |config| rows(37, config));
    check_attention("flash_attention", |_| {
        let prompt =
            |slot: u32, from: u32, length: u32| (from..from + length).map(move |position| Row { slot, position });
        prompt(0, 0, 33).chain(prompt(1, 40, 5)).chain(prompt(0, 33, 50)).collect()
    });
}

#[test]
fn attention_weights() {
    for_each_case("attention_weights", |gpu, config, kernels| {
        let rows = rows(6, config);
        let q = queries(&rows, config);
        let (cache, [keys, _]) = full_cache(gpu, config);
        let want = reference::attention_weights(&rows, &q, &keys);

        let activations = activations(gpu, config, &[], &[], &q);
        let room = cache.capacity();
        let weights = f32_tensor(gpu, "weights", 1, rows.len() * config.n_head * room, &[]);
        let launch =
            kernels.attention_weights(&step_tensor(gpu, &rows, 0, CAPACITY), &activations, cache.layer(), &weights);
        run(gpu, &plan([launch]), step(&rows));
        for (index, (got, want)) in read(gpu, &weights, 1).chunks_exact(room).zip(&want).enumerate() {
            let (seen, later) = got.split_at(want.len());
            // As precise as attention, and a weight is at most 1.
            assert_close(&format!("attention_weights, row and head {index}"), seen, want, 2e-5, 0.0);
            assert!(later.iter().all(|&weight| weight == 0.0), "later positions are not touched");
        }
    });
}
