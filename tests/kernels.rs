//! Every kernel against its twin in `gptj::internals::reference`, over shapes that are odd on purpose.
//!
//! The GPU runs with every check of memory accesses in place, with and without native f16 and subgroups. Inputs are
//! multiples of 1/64, so that f16 holds them exactly and what differs is the kernels' own arithmetic: sums in f32 in
//! another order than the reference's (which sums in f64). A sum of n products of numbers below 1 is off by at most n *
//! 2^-24 * (the sum of their absolute values), and in practice by the square root of that n; the tolerances below are
//! that bound for the largest n here, with the magnitude of the results in view.

#[path = "kernels/attention.rs"]
mod attention;
mod common;
#[path = "kernels/layout.rs"]
mod layout;

use std::collections::BTreeSet;

use common::{
    assert_close, assert_padding_is_zero, block_on, f16_tensor, f32_tensor, gpus, matrix, numbers, open, read, run,
    step_tensor, u32_tensor,
};
use gptj::Config;
use gptj::internals::gpu::{Dispatch, Format, Gpu, GpuOptions, Plan, Product, StepSize, Tensor, padded, stitch};
use gptj::internals::kernels::{FMA_STEPS, IMPORTS, Kernels, NEEDLE, Row, SHADERS};
use gptj::internals::reference::{self, LayerCache};
use gptj::internals::regime::{Geometry, Regime, VectorShape};
use gptj::internals::weights::{LayerNorm, Linear, Matrix};
use layout::{GpuCache, activations, block_in_linear, block_out_linear, block_weights, read_activations};

/// Sums of up to 320 products below 1 in f32: 320 * 2^-24 * the results' magnitude of up to some ten.
const SUM: f32 = 2e-4;

/// One f16 rounding, of which implementations choose the direction: 2^-10 of the number.
const F16_ROUNDING: f32 = 1.0 / 1024.0;

/// Rows and slots that tests have room for.
const N_ROWS: usize = 256;
const N_SLOTS: usize = 2;

/// Small models whose sizes have nothing in common with the kernels' groups, tiles and workgroups (70 is an odd number
/// of groups of eight, which leaves the last slice of a tile half empty); the third has the real head shape, and the
/// last a head whose chunks are no power of two and too many for eight lanes each in a workgroup.
fn configs() -> Vec<Config> {
    [(33, 3, 6, 70, 101), (40, 5, 8, 160, 1000), (512, 2, 64, 64, 160), (320, 1, 10, 16, 40)]
        .map(|(n_embd, n_head, rotary_dim, n_inner, vocab_size)| Config {
            vocab_size,
            n_positions: 600,
            n_embd,
            n_layer: 1,
            n_head,
            rotary_dim,
            n_inner,
            ..Config::default()
        })
        .to_vec()
}

/// Rows of two sequences, mixed, at positions that are in the first split, at its border, and beyond; no two the same.
fn rows(n_rows: usize, config: &Config) -> Vec<Row> {
    let row = |i: u32| Row { slot: i % 2, position: (i * 131 + 17) % config.n_positions as u32 };
    (0..n_rows as u32).map(row).collect()
}

fn step(rows: &[Row]) -> StepSize {
    let positions = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
    StepSize { rows: rows.len() as u32, outputs: 0, positions }
}

fn plan(launches: impl IntoIterator<Item = Vec<Dispatch>>) -> Plan {
    let mut plan = Plan::default();
    launches.into_iter().for_each(|launch| plan.run(launch));
    plan
}

/// Runs a check with every small model on every GPU specialisation that has a version of its own of `shader`.
fn for_each_case(shader: &str, check: impl Fn(&Gpu, &Config, &Kernels)) {
    for_each_product(shader, &[Product::Vector], |gpu, config, kernels, _| check(gpu, config, kernels));
}

/// The same with every version of its product.
fn for_each_product(shader: &str, products: &[Product], check: impl Fn(&Gpu, &Config, &Kernels, Product)) {
    let (shader, _) = SHADERS.iter().find(|(other, _)| other.name == shader).expect("a shader");
    let mut seen = BTreeSet::new();
    for gpu in gpus() {
        for &product in products {
            // The software driver computes more shapes than it offers.
            let can = match gpu.cooperative_products() {
                [] => !product.is_cooperative(),
                products => !product.is_cooperative() || products.contains(&product) || gpu.info().is_software(),
            };
            if !can || !seen.insert(stitch(*shader, IMPORTS, gpu.specialisation(), product)) {
                continue;
            }
            for config in configs() {
                let kernels = Kernels::new(&gpu, &config, config.n_positions, geometry(&gpu));
                check(&gpu, &config, &kernels, product);
                gpu.check().expect("the GPU works");
            }
        }
    }
}

/// Workgroups as GPUs have them, also where the GPU is a program: with slices to add.
fn geometry(gpu: &Gpu) -> Geometry {
    let vector = VectorShape { lanes: 64, rows: 8, depth: 2, limit: 32 };
    Geometry { vector, norm_lanes: 64, lane_positions: 2, ..Geometry::for_adapter(gpu.info()) }
}

/// Regimes of a product, each with numbers of rows to try.
fn regimes(product: Product) -> Vec<(Regime, usize)> {
    let vector = |rows, n_rows| (Regime { product, rows, flash: false }, n_rows);
    let tile = |n_rows| (Regime { product, rows: 1, flash: false }, n_rows);
    match product {
        // Whole passes, a part of one, and several.
        Product::Vector => vec![vector(1, 1), vector(2, 2), vector(4, 3), vector(8, 8), vector(4, 9)],
        // A part of a tile, and several.
        _ => vec![tile(9), tile(200)],
    }
}

#[test]
fn embed() {
    for_each_case("embed", |gpu, config, kernels| {
        let tokens: Vec<u32> = (0..11).map(|i| (i * 37 + 5) % config.vocab_size as u32).collect();
        let wte = numbers(1, config.vocab_size * config.n_embd);
        let want = reference::embed(&tokens, &wte, config.n_embd);

        let wte = f16_tensor(gpu, "wte", config.vocab_size, config.n_embd, &wte);
        let x = f32_tensor(gpu, "x", tokens.len(), config.n_embd, &[]);
        let step = StepSize { rows: tokens.len() as u32, outputs: 0, positions: 1 };
        run(gpu, &plan([kernels.embed(&u32_tensor(gpu, "tokens", &tokens), &wte, &x)]), step);
        assert_close("embed", &read(gpu, &x, tokens.len()), &want, 0.0, 0.0);
        assert_padding_is_zero(gpu, &x);
    });
}

#[test]
fn layer_norm() {
    for_each_case("layer_norm", |gpu, config, kernels| {
        let n_rows = 5;
        // A mean far from zero, where a one-pass variance would lose its digits.
        let x: Vec<f32> = numbers(2, n_rows * config.n_embd).iter().map(|x| x + 100.0).collect();
        let [gain, bias] = [3, 4].map(|seed| numbers(seed, config.n_embd));
        let outputs = [4, 0, 2];
        let want = reference::layer_norm(&x, &gain, &bias, 1e-5);
        let want_outputs = reference::layer_norm_outputs(&x, &gain, &bias, 1e-5, &outputs);

        let x = f32_tensor(gpu, "x", n_rows, config.n_embd, &x);
        let norm = LayerNorm {
            gain: f32_tensor(gpu, "gain", 1, config.n_embd, &gain),
            bias: f32_tensor(gpu, "bias", 1, config.n_embd, &bias),
        };
        let normed = f32_tensor(gpu, "normed", n_rows, config.n_embd, &[]);
        let normed_outputs = f32_tensor(gpu, "normed outputs", outputs.len(), config.n_embd, &[]);
        let launches = [
            kernels.layer_norm(&x, &norm, &normed),
            kernels.layer_norm_outputs(&x, &norm, &normed_outputs, &u32_tensor(gpu, "outputs", &outputs)),
        ];
        run(gpu, &plan(launches), StepSize { rows: n_rows as u32, outputs: outputs.len() as u32, positions: 1 });
        // x - mean is exact to 2^-17 at 100; divided by a deviation of 0.58 and times a gain of up to 1.
        let tolerance = 3e-5;
        assert_close("layer_norm", &read(gpu, &normed, n_rows), &want, tolerance, 1e-6);
        assert_close("layer_norm_outputs", &read(gpu, &normed_outputs, outputs.len()), &want_outputs, tolerance, 1e-6);
        assert_padding_is_zero(gpu, &normed);
    });
}

#[test]
fn block_in() {
    for_each_product("block_in", &Product::ALL, |gpu, config, kernels, product| {
        let mut block = block_weights(config);
        // Keys and values too large for f16, one of each sign, in both halves of a chunk.
        for (row, weight) in [(3, 1e4), (6, -1e4)] {
            block.qkv[1][row * config.n_embd] = weight;
            block.qkv[2][row * config.n_embd] = weight;
        }
        let linear = block_in_linear(gpu, config, &block);
        let angles = config.rotary_angles(config.n_positions);
        let angle_tensor = f32_tensor(gpu, "angles", 1, 2 * angles.len(), angles.as_flattened());
        for (regime, n_rows) in regimes(product) {
            let rows = rows(n_rows, config);
            let mut normed = numbers(5, n_rows * config.n_embd);
            normed[0] = 20.0;
            let [mut keys, mut values] = [(); 2].map(|()| LayerCache::new(config, N_SLOTS, config.n_positions));
            let caches = [&mut keys, &mut values];
            let (want_q, want_hidden) = reference::block_in(&rows, &normed, &block, &angles, config, caches);

            let normed = f32_tensor(gpu, "normed", N_ROWS, config.n_embd, &normed);
            let activations = activations(gpu, config, &[], &[], &[]);
            let cache = GpuCache::new(gpu, config);
            let launch = kernels.in_regime(regime).block_in(
                [&normed, &step_tensor(gpu, &rows, 0)],
                &linear,
                &angle_tensor,
                &activations,
                cache.layer(),
            );
            run(gpu, &plan([launch]), step(&rows));
            let what = format!("{product:?} {} {n_rows} rows of {}", regime.rows, config.n_embd);
            let [attended, hidden, q] = read_activations(gpu, config, &activations, n_rows);
            assert_close(&format!("q, {what}"), &q, &want_q, 2.0 * SUM, 1e-5);
            assert_close(&format!("hidden, {what}"), &hidden, &want_hidden, SUM, 1e-5);
            assert!(attended.iter().all(|&value| value == 0.0), "{what}: attended is not written");
            let beyond = read(gpu, &activations, N_ROWS)[n_rows * config.activation_width()..].to_vec();
            assert!(beyond.iter().all(|&value| value == 0.0), "{what}: rows past the end are not written");
            let [stored_keys, stored_values] = cache.read(gpu, config);
            assert_close(&format!("keys, {what}"), &stored_keys, keys.vectors(), SUM, F16_ROUNDING);
            assert_close(&format!("values, {what}"), &stored_values, values.vectors(), SUM, F16_ROUNDING);
        }
    });
}

#[test]
fn block_out() {
    for_each_product("block_out", &Product::ALL, |gpu, config, kernels, product| {
        let block = block_weights(config);
        let linear = block_out_linear(gpu, config, &block);
        for (regime, n_rows) in regimes(product) {
            let rows = rows(n_rows, config);
            let attended = numbers(30, n_rows * config.n_embd);
            let hidden = numbers(31, n_rows * config.n_inner);
            let x = numbers(32, n_rows * config.n_embd);
            let mut want = x.clone();
            reference::block_out(&mut want, &attended, &hidden, &block, config);

            // q is next to what the kernel reads, and none of its business.
            let q = vec![f32::NAN; n_rows * config.n_embd];
            let activations = activations(gpu, config, &attended, &hidden, &q);
            let x = f32_tensor(gpu, "x", N_ROWS, config.n_embd, &x);
            let step_tensor = step_tensor(gpu, &rows, 0);
            let launch = kernels.in_regime(regime).block_out([&activations, &step_tensor], &linear, &x);
            run(gpu, &plan([launch]), step(&rows));
            let what = format!("{product:?} {} {n_rows} rows of {}", regime.rows, config.block_out_inputs());
            assert_close(&what, &read(gpu, &x, n_rows), &want, SUM, 1e-5);
            let beyond = read(gpu, &x, N_ROWS)[n_rows * config.n_embd..].to_vec();
            assert!(beyond.iter().all(|&value| value == 0.0), "{what}: rows past the end are not written");
            assert_padding_is_zero(gpu, &x);
        }
    });
}

#[test]
fn lm_head() {
    for_each_product("lm_head", &Product::ALL, |gpu, config, kernels, product| {
        let Config { n_embd, vocab_size, .. } = *config;
        let [weight, bias] = [(33, vocab_size * n_embd), (34, vocab_size)].map(|(seed, count)| numbers(seed, count));
        let linear = Linear {
            weight: matrix(gpu, "lm_head", vocab_size, n_embd, |feature, input| weight[feature * n_embd + input]),
            bias: f32_tensor(gpu, "bias", 1, vocab_size, &bias),
        };
        for (regime, n_outputs) in regimes(product) {
            let ln_f = numbers(35, n_outputs * n_embd);
            let want = reference::lm_head(&ln_f, &weight, &bias, n_embd);
            let ln_f = f32_tensor(gpu, "ln_f", N_ROWS, n_embd, &ln_f);
            let logits = f32_tensor(gpu, "logits", N_ROWS, vocab_size, &[]);
            let launch =
                kernels.in_regime(regime).lm_head([&ln_f, &step_tensor(gpu, &[], n_outputs)], &linear, &logits);
            run(gpu, &plan([launch]), StepSize { rows: 0, outputs: n_outputs as u32, positions: 1 });
            let what = format!("{product:?} {} {n_outputs} rows of {n_embd}", regime.rows);
            assert_close(&what, &read(gpu, &logits, n_outputs), &want, SUM, 1e-5);
            assert_padding_is_zero(gpu, &logits);
        }
    });
}

#[test]
fn argmax() {
    for_each_case("argmax", |gpu, config, kernels| {
        let n_outputs = 4;
        let mut logits = numbers(15, n_outputs * config.vocab_size);
        // The first of equals wins, whichever lanes hold them.
        let (first, second) = (config.vocab_size / 3, config.vocab_size - 1);
        logits[config.vocab_size + first] = 7.0;
        logits[config.vocab_size + second] = 7.0;
        logits[2 * config.vocab_size] = 9.0;
        let want = reference::argmax(&logits, config.vocab_size);
        assert_eq!(want[1..3], [first as u32, 0]);

        let logits = f32_tensor(gpu, "logits", n_outputs, config.vocab_size, &logits);
        let tokens = u32_tensor(gpu, "tokens", &[u32::MAX; 4]);
        let step = StepSize { rows: 1, outputs: n_outputs as u32, positions: 1 };
        run(gpu, &plan([kernels.argmax(&logits, &tokens)]), step);
        assert_eq!(block_on(tokens.read::<u32>(gpu, 1)).expect("the GPU works"), want);
    });
}

/// Weights that are larger than one binding come in parts; nobody but the launchers notices.
#[test]
fn weights_in_parts() {
    let config = &configs()[1];
    let Some(gpu) = open(&GpuOptions { max_binding: 16 << 10, checked: true, ..GpuOptions::default() }) else { return };
    let Config { n_embd, vocab_size, .. } = *config;
    let kernels = Kernels::new(&gpu, config, config.n_positions, geometry(&gpu));
    let tokens = [5, 500, 999, 204, 205];
    let wte = numbers(16, vocab_size * n_embd);
    let bias = numbers(17, vocab_size);
    let want_x = reference::embed(&tokens, &wte, n_embd);
    let want_logits = reference::lm_head(&want_x, &wte, &bias, n_embd);

    let weight = f16_tensor(&gpu, "wte", vocab_size, n_embd, &wte);
    let x = f32_tensor(&gpu, "x", 64, n_embd, &[]);
    let embed = kernels.embed(&u32_tensor(&gpu, "tokens", &tokens), &weight, &x);
    assert_eq!(embed.len(), vocab_size.div_ceil((16 << 10) / 80), "a launch for each 16 KiB of 80-byte rows");
    let size = StepSize { rows: 5, outputs: 3, positions: 1 };
    run(&gpu, &plan([embed]), size);
    assert_close("embed in parts", &read(&gpu, &x, tokens.len()), &want_x, 0.0, 0.0);

    let lm_head = Linear {
        weight: matrix(&gpu, "lm_head", vocab_size, n_embd, |feature, input| wte[feature * n_embd + input]),
        bias: f32_tensor(&gpu, "bias", 1, vocab_size, &bias),
    };
    // The logits' rows are as wide as the vocabulary: three of them fit the small binding.
    let n_outputs = 3;
    let logits = f32_tensor(&gpu, "logits", n_outputs, vocab_size, &[]);
    for (regime, _) in [regimes(Product::Vector)[0], regimes(Product::Tile)[0]] {
        let step = step_tensor(&gpu, &[], n_outputs);
        let launches = kernels.in_regime(regime).lm_head([&x, &step], &lm_head, &logits);
        assert_eq!(launches.len(), 3, "32 panels of 2560 bytes, six to a part, and two parts to a launch");
        run(&gpu, &plan([launches]), size);
        let want = &want_logits[..n_outputs * vocab_size];
        assert_close("lm_head in parts", &read(&gpu, &logits, n_outputs), want, SUM, 1e-5);
    }

    // Panels 4 to 19, of which a launch has those that lie in its part.
    let (b, a) = (numbers(18, 16 * 32), numbers(19, n_embd));
    let mut merged = wte;
    reference::merge_lora(&mut merged[4 * 32 * n_embd..][..16 * 32 * n_embd], &b, &a, 1);
    let want_logits = reference::lm_head(&want_x, &merged, &bias, n_embd);
    let factors = [f32_tensor(&gpu, "b", 16 * 32, 1, &b), f32_tensor(&gpu, "a", 1, n_embd, &a)];
    let merge = kernels.merge_lora(factors.each_ref(), 4, &lm_head.weight, &u32_tensor(&gpu, "overflow", &[0]));
    assert_eq!(merge.len(), 4, "panels 4 to 5, 6 to 11, 12 to 17, 18 to 19");
    let step = step_tensor(&gpu, &[], n_outputs);
    run(&gpu, &plan([merge, kernels.lm_head([&x, &step], &lm_head, &logits)]), size);
    // Of 40 products, each factor of which is below 2, one is off by an f16 rounding.
    let want = &want_logits[..n_outputs * vocab_size];
    assert_close("merge_lora in parts", &read(&gpu, &logits, n_outputs), want, 40.0 * 2.0 * F16_ROUNDING, 0.0);
    gpu.check().expect("the GPU works");
}

/// From the second panel on, with a rank that is no multiple of anything.
#[test]
fn merge_lora() {
    for_each_case("merge_lora", |gpu, config, kernels| {
        let (features, inputs, rank) = (config.vocab_size, config.n_embd, 5);
        let b = numbers(31, (features - 32) * rank);
        let a = numbers(32, rank * inputs);
        let mut want = numbers(30, features * inputs);
        let weight = matrix(gpu, "weight", features, inputs, |feature, input| want[feature * inputs + input]);
        reference::merge_lora(&mut want[32 * inputs..], &b, &a, rank);

        let b_tensor = f32_tensor(gpu, "b", (features - 32).next_multiple_of(32), rank, &b);
        let a_tensor = f32_tensor(gpu, "a", rank, inputs, &a);
        let overflow = u32_tensor(gpu, "overflow", &[0]);
        let overflows = || block_on(overflow.read::<u32>(gpu, 1)).expect("the GPU works") == [1];
        run(gpu, &plan([kernels.merge_lora([&b_tensor, &a_tensor], 1, &weight, &overflow)]), step(&[]));
        assert!(!overflows());
        let panels = weight.panels().rows();
        let got: Vec<half::f16> = block_on(weight.panels().read_padded(gpu, panels)).expect("the GPU works");
        // What fills up rows and the last panel stays zero.
        let number = |feature: usize, input: usize| {
            if feature < features && input < inputs { want[feature * inputs + input] } else { 0.0 }
        };
        let mut want_panels = Vec::new();
        for panel in 0..panels {
            let rows = (0..32).flat_map(|i| (0..padded(inputs)).map(move |input| (32 * panel + i, input)));
            let rows: Vec<_> = rows.map(|(feature, input)| half::f16::from_f32(number(feature, input))).collect();
            let mut panel = vec![half::f16::ZERO; rows.len()];
            Matrix::interleave(&rows, &mut panel);
            want_panels.extend(panel);
        }
        let [got, want] =
            [got, want_panels].map(|halves| halves.into_iter().map(half::f16::to_f32).collect::<Vec<_>>());
        // A sum near zero is off by what its terms, each below 6, are rounded by in f32.
        assert_close("merge_lora", &got, &want, 4e-6, F16_ROUNDING);

        // One number, the last of its row, is too large for f16 or none at all.
        for (number, is_too_large) in [(65519.0, false), (65520.0, true), (-65520.0, true), (f32::NAN, true)] {
            let zeros = matrix(gpu, "weight", 32, inputs, |_, _| 0.0);
            let b: Vec<f32> = (0..32).map(|feature| if feature == 31 { 1.0 } else { 0.0 }).collect();
            let a: Vec<f32> = (1..=inputs).map(|i| if i == inputs { number } else { 0.0 }).collect();
            let [b, a] = [f32_tensor(gpu, "b", 32, 1, &b), f32_tensor(gpu, "a", 1, inputs, &a)];
            overflow.write_elements(gpu, &[0u32]);
            run(gpu, &plan([kernels.merge_lora([&b, &a], 0, &zeros, &overflow)]), step(&[]));
            assert_eq!(overflows(), is_too_large, "{number}");
        }
    });
}

#[test]
fn fill_random() {
    for_each_case("fill_random", |gpu, config, kernels| {
        let (rows, width, scale) = (5, config.n_embd, 1.0 / 32.0);
        let values = f16_tensor(gpu, "values", rows, width, &vec![1.0; rows * width]);
        run(gpu, &plan([kernels.fill_random(&u32_tensor(gpu, "seed", &[7]), scale, &values)]), step(&[]));
        let got: Vec<half::f16> = block_on(values.read(gpu, rows)).expect("the GPU works");
        let got: Vec<f32> = got.into_iter().map(half::f16::to_f32).collect();
        let want = reference::fill_random(7, scale, 0..rows * width);
        assert_close("fill_random", &got, &want, 0.0, 0.0);
        assert_ne!(want[..width], want[width..2 * width], "rows differ");
        assert_ne!(want, reference::fill_random(8, scale, 0..rows * width), "seeds differ");
        let padded_rows: Vec<half::f16> = block_on(values.read_padded(gpu, rows)).expect("the GPU works");
        for row in padded_rows.chunks(padded(width)) {
            assert!(row[width..].iter().all(|&value| value == half::f16::ZERO), "the padding is zero");
        }
    });
}

/// A needle is found wherever it is, and nowhere else.
#[test]
fn read_ceiling() {
    for_each_case("read_ceiling", |gpu, config, kernels| {
        if config.n_embd != 33 {
            return;
        }
        // More than all lanes load at once in four steps, and a rest; a row is two loads.
        let lanes = 4096 * 256;
        let n_rows = (4 * lanes + lanes + 78) / 2;
        let data = block_on(Tensor::whole(gpu, "data", n_rows, 8, Format::U32)).expect("room");
        let find = || {
            let found = u32_tensor(gpu, "found", &[0u32]);
            run(gpu, &plan([kernels.read_ceiling(&data, &found)]), step(&[]));
            block_on(found.read::<u32>(gpu, 1)).expect("the GPU works")[0]
        };
        assert_eq!(find(), 0, "there is no needle");
        for load in [0, lanes, 4 * lanes - 1, 2 * n_rows - 1] {
            let mut hay = [0u32; 8];
            hay[4 * (load % 2)..][..4].fill(NEEDLE);
            data.write(gpu, load / 2, bytemuck::bytes_of(&hay));
            assert_eq!(find(), 1, "the needle is load {load}");
            data.write(gpu, load / 2, bytemuck::bytes_of(&[0u32; 8]));
        }
    });
}

#[test]
fn fma_ceiling() {
    for_each_case("fma_ceiling", |gpu, _, kernels| {
        let n_lanes = 128;
        let sums = f32_tensor(gpu, "sums", 1, 4 * n_lanes, &[]);
        let chain = f32_tensor(gpu, "chain", 1, 2, &[0.999, 0.001]);
        let rounds = 3;
        run(gpu, &plan([kernels.fma_ceiling(rounds, &chain, &sums)]), step(&[]));
        let want: Vec<f32> =
            (0..n_lanes).flat_map(|lane| reference::fma_ceiling(lane, rounds * FMA_STEPS, 0.999, 0.001)).collect();
        // Each of the 192 steps rounds a number below 4 to 2^-23, or twice where multiplying and adding are two steps.
        assert_close("fma_ceiling", &read(gpu, &sums, 1), &want, 1e-4, 0.0);
    });
}
