//! Every kernel against its twin in `gptj::reference`, over shapes that are odd on purpose.
//!
//! The GPU runs with every check of memory accesses in place, with and without native f16 and subgroups. Inputs are
//! multiples of 1/64, so that f16 holds them exactly and what differs is the kernels' own arithmetic: sums in f32 in
//! another order than the reference's (which sums in f64). A sum of n products of numbers below 1 is off by at most
//! n * 2^-24 * (the sum of their absolute values), and in practice by the square root of that n; the tolerances below are
//! that bound for the largest n here, with the magnitude of the results in view.

mod common;

use std::collections::BTreeSet;

use common::{
    assert_close, assert_padding_is_zero, block_on, f16_tensor, f32_tensor, gpus, numbers, open, read, run, u32_tensor,
};
use gptj::Config;
use gptj::gpu::{Dispatch, Format, Gpu, GpuOptions, Plan, StepSize, Tensor, padded, stitch};
use gptj::kernels::{FEW_SPLIT, FMA_STEPS, IMPORTS, Kernels, NEEDLE, Regime, Row, SHADERS, TILE_ROWS, mixture_width};
use gptj::reference::{self, LayerCache};
use gptj::weights::{LayerNorm, Linear};

/// Sums of up to 320 products below 1 in f32: 320 * 2^-24 * the results' magnitude of up to some ten.
const SUM: f32 = 2e-4;

/// One f16 rounding, of which implementations choose the direction: 2^-10 of the number.
const F16_ROUNDING: f32 = 1.0 / 1024.0;

/// Small models whose sizes have nothing in common with the kernels' groups, tiles and workgroups (70 is an odd number of
/// groups of eight, which leaves the last slice of a tile half empty); the last has the real head shape.
fn configs() -> Vec<Config> {
    [(33, 3, 6, 70, 101), (40, 5, 8, 160, 1000), (512, 2, 64, 64, 160)]
        .map(|(n_embd, n_head, rotary_dim, n_inner, vocab_size)| Config {
            vocab_size,
            n_positions: 600,
            n_embd,
            n_layer: 1,
            n_head,
            rotary_dim,
            n_inner,
            layer_norm_epsilon: 1e-5,
            tie_word_embeddings: false,
            eos_token_ids: Vec::new(),
        })
        .to_vec()
}

/// Rows of two sequences, mixed, at positions that are in the first split, at its border, and beyond.
fn rows(n_rows: usize, config: &Config) -> Vec<Row> {
    let row = |i: u32| Row {
        token: (i * 37 + 5) % config.vocab_size as u32,
        slot: i % 2,
        position: (i * 131 + 17) % config.n_positions as u32,
    };
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
    let (shader, _) = SHADERS.iter().find(|(other, _)| other.name == shader).expect("a shader");
    let mut seen = BTreeSet::new();
    for gpu in gpus() {
        if !seen.insert(stitch(*shader, IMPORTS, gpu.specialisation())) {
            continue;
        }
        for config in configs() {
            let kernels = Kernels::new(&gpu, &config, config.n_positions);
            check(&gpu, &config, &kernels);
            gpu.check().expect("the GPU works");
        }
    }
}

#[test]
fn embed() {
    for_each_case("embed", |gpu, config, kernels| {
        let rows = rows(11, config);
        let wte = numbers(1, config.vocab_size * config.n_embd);
        let want = reference::embed(&rows, &wte, config.n_embd);

        let wte = f16_tensor(gpu, "wte", config.vocab_size, config.n_embd, &wte);
        let x = f32_tensor(gpu, "x", rows.len(), config.n_embd, &[]);
        run(gpu, &plan([kernels.embed(&u32_tensor(gpu, "rows", &rows), &wte, &x)]), step(&rows));
        assert_close("embed", &read(gpu, &x, rows.len()), &want, 0.0, 0.0);
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

/// All five behaviours of `matvec` or `matmul`.
fn check_linear(gpu: &Gpu, config: &Config, kernels: &Kernels, regime: Regime, n_rows: usize) {
    let kernels = kernels.for_rows(regime);
    let (width, features) = (config.n_inner, config.n_embd);
    let capacity = n_rows.next_multiple_of(TILE_ROWS);
    let input = numbers(5, n_rows * width);
    let weight = numbers(6, features * width);
    let bias = numbers(7, features);
    let residual = numbers(8, n_rows * features);

    let input_tensor = f32_tensor(gpu, "input", capacity, width, &input);
    let linear = |bias: Option<&[f32]>| Linear {
        weight: f16_tensor(gpu, "weight", features, width, &weight),
        bias: bias.map(|bias| f32_tensor(gpu, "bias", 1, features, bias)),
    };
    let (plain, biased) = (linear(None), linear(Some(&bias)));
    let output = || f32_tensor(gpu, "output", capacity, features, &residual);
    let outputs = [(); 5].map(|()| output());
    let [linear, linear_bias, linear_gelu, linear_residual, linear_bias_residual] = &outputs;
    let launches = [
        kernels.linear(&input_tensor, &plain, linear),
        kernels.linear(&input_tensor, &biased, linear_bias),
        kernels.linear_gelu(&input_tensor, &biased, linear_gelu),
        kernels.linear_residual(&input_tensor, &plain, linear_residual),
        kernels.linear_residual(&input_tensor, &biased, linear_bias_residual),
    ];
    run(gpu, &plan(launches), StepSize { rows: n_rows as u32, outputs: 0, positions: 1 });

    let want = reference::linear(&input, &weight, None, width);
    let want_bias = reference::linear(&input, &weight, Some(&bias), width);
    let add = |values: &[f32]| values.iter().zip(&residual).map(|(a, b)| a + b).collect::<Vec<_>>();
    let want_gelu: Vec<f32> = want_bias.iter().map(|&x| reference::gelu(x)).collect();
    for (behaviour, output, want) in [
        ("plain", linear, want.clone()),
        ("bias", linear_bias, want_bias.clone()),
        ("bias_gelu", linear_gelu, want_gelu),
        ("residual", linear_residual, add(&want)),
        ("bias_residual", linear_bias_residual, add(&want_bias)),
    ] {
        let what = format!("{regime:?} {behaviour}, {n_rows} rows of {width} to {features}");
        assert_close(&what, &read(gpu, output, n_rows), &want, SUM, 1e-5);
        // Rows past the end of a step are computed in whole tiles, but no row's padding is touched.
        assert_padding_is_zero(gpu, output);
    }
}

#[test]
fn matvec() {
    for_each_case("matvec", |gpu, config, kernels| {
        for n_rows in [1, 3] {
            check_linear(gpu, config, kernels, Regime::Few, n_rows);
        }
    });
}

#[test]
fn matmul() {
    for_each_case("matmul", |gpu, config, kernels| {
        for n_rows in [9, 65] {
            check_linear(gpu, config, kernels, Regime::Many, n_rows);
        }
    });
}

#[test]
fn rotary() {
    for_each_case("rotary", |gpu, config, kernels| {
        let rows = rows(7, config);
        let angles = config.rotary_angles(config.n_positions);
        let vectors = numbers(9, rows.len() * config.n_embd);
        let mut want = vectors.clone();
        reference::rotary(&rows, &angles, &mut want, config);

        let vectors = f32_tensor(gpu, "vectors", rows.len(), config.n_embd, &vectors);
        let angles = f32_tensor(gpu, "angles", 1, 2 * angles.len(), angles.as_flattened());
        run(gpu, &plan([kernels.rotary(&u32_tensor(gpu, "rows", &rows), &angles, &vectors)]), step(&rows));
        // Two products below 1 and their sum, each rounded to 2^-24.
        assert_close("rotary", &read(gpu, &vectors, rows.len()), &want, 3e-7, 0.0);
    });
}

struct GpuCache {
    keys: Tensor,
    values: Tensor,
}

impl GpuCache {
    fn new(gpu: &Gpu, config: &Config) -> Self {
        let rows = 2 * config.n_head * config.n_positions;
        let tensor = |name| block_on(Tensor::whole(gpu, name, rows, config.head_dim(), Format::F16));
        Self { keys: tensor("keys").expect("room"), values: tensor("values").expect("room") }
    }

    fn tensors(&self) -> [&Tensor; 2] {
        [&self.keys, &self.values]
    }
}

#[test]
fn append_cache() {
    for_each_case("append_cache", |gpu, config, kernels| {
        let rows = rows(9, config);
        // Not representable in f16, and two numbers too large for it, one in each half of a group.
        let mut k: Vec<f32> = numbers(10, rows.len() * config.n_embd).iter().map(|x| x * 1.001).collect();
        k[3] = 1e6;
        k[6] = -1e6;
        let v = numbers(11, rows.len() * config.n_embd);
        let [mut want_keys, mut want_values] = [(); 2].map(|()| LayerCache::new(config, 2, config.n_positions));
        reference::append_cache(&rows, &k, &mut want_keys);
        reference::append_cache(&rows, &v, &mut want_values);

        let cache = GpuCache::new(gpu, config);
        let [k, v] = [k, v].map(|vectors| f32_tensor(gpu, "k or v", rows.len(), config.n_embd, &vectors));
        let launch = kernels.append_cache(&u32_tensor(gpu, "rows", &rows), [&k, &v], cache.tensors());
        run(gpu, &plan([launch]), step(&rows));
        for (tensor, want) in cache.tensors().into_iter().zip([&want_keys, &want_values]) {
            let stored: Vec<half::f16> = block_on(tensor.read(gpu, tensor.rows())).expect("the GPU works");
            let stored: Vec<f32> = stored.into_iter().map(half::f16::to_f32).collect();
            assert_close("append_cache", &stored, want.vectors(), 0.0, F16_ROUNDING);
        }
    });
}

#[test]
fn attention() {
    for_each_case("attention", |gpu, config, kernels| {
        assert!(FEW_SPLIT < config.n_positions, "a history has several splits");
        let rows = rows(6, config);
        // Large enough for the softmax to be far from uniform.
        let q: Vec<f32> = numbers(12, rows.len() * config.n_embd).iter().map(|x| x * 4.0).collect();
        let every_position: Vec<Row> =
            (0..2 * config.n_positions as u32).map(|i| Row { token: 0, slot: i % 2, position: i / 2 }).collect();
        let [k, v] = [13, 14].map(|seed| numbers(seed, every_position.len() * config.n_embd));
        let [mut keys, mut values] = [(); 2].map(|()| LayerCache::new(config, 2, config.n_positions));
        reference::append_cache(&every_position, &k, &mut keys);
        reference::append_cache(&every_position, &v, &mut values);
        let want = reference::attention(&rows, &q, &keys, &values);

        let cache = GpuCache::new(gpu, config);
        for (tensor, reference) in cache.tensors().into_iter().zip([&keys, &values]) {
            let halves: Vec<_> = reference.vectors().iter().map(|&x| half::f16::from_f32(x)).collect();
            tensor.write_elements(gpu, &halves);
        }
        let q = f32_tensor(gpu, "q", rows.len(), config.n_embd, &q);
        let row_tensor = u32_tensor(gpu, "rows", &rows);
        for regime in [Regime::Few, Regime::Many] {
            let n_splits = rows.len() * config.n_head * regime.n_splits(config.n_positions);
            let mixtures = f32_tensor(gpu, "mixtures", 1, n_splits * mixture_width(config), &[]);
            let softmaxes = f32_tensor(gpu, "softmaxes", 1, n_splits * 2, &[]);
            let attended = f32_tensor(gpu, "attended", rows.len(), config.n_embd, &[]);
            let kernels = kernels.for_rows(regime);
            let launches = [
                kernels.attention(&row_tensor, &q, cache.tensors(), [&mixtures, &softmaxes]),
                kernels.merge_attention(&row_tensor, [&mixtures, &softmaxes], &attended),
            ];
            run(gpu, &plan(launches), step(&rows));
            // Scores of magnitude 40 are exact to 2^-19 or so; their exponentials and the mixture of values below 1
            // are off by as much, relatively.
            let what = format!("{regime:?} attention");
            assert_close(&what, &read(gpu, &attended, rows.len()), &want, 2e-5, 0.0);
            assert_padding_is_zero(gpu, &attended);
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
    let kernels = Kernels::new(&gpu, config, config.n_positions);
    let rows = rows(5, config);
    let wte = numbers(16, config.vocab_size * config.n_embd);
    let bias = numbers(17, config.vocab_size);
    let want_x = reference::embed(&rows, &wte, config.n_embd);
    let want_logits = reference::linear(&want_x, &wte, Some(&bias), config.n_embd);

    let weight = f16_tensor(&gpu, "wte", config.vocab_size, config.n_embd, &wte);
    let row_tensor = u32_tensor(&gpu, "rows", &rows);
    let x = f32_tensor(&gpu, "x", TILE_ROWS, config.n_embd, &[]);
    let embed = kernels.embed(&row_tensor, &weight, &x);
    assert_eq!(embed.len(), config.vocab_size.div_ceil((16 << 10) / 80), "a launch for each 16 KiB of 80-byte rows");
    let lm_head = Linear { weight, bias: Some(f32_tensor(&gpu, "bias", 1, config.vocab_size, &bias)) };
    let outputs = StepSize { outputs: rows.len() as u32, ..step(&rows) };
    run(&gpu, &plan([embed]), outputs);
    assert_close("embed in parts", &read(&gpu, &x, rows.len()), &want_x, 0.0, 0.0);

    let n_outputs = 3;
    // The logits' rows are as wide as the vocabulary: three of them fit the small binding.
    let logits = f32_tensor(&gpu, "logits", n_outputs, config.vocab_size, &[]);
    run(
        &gpu,
        &plan([kernels.linear_outputs(&x, &lm_head, &logits)]),
        StepSize { outputs: n_outputs as u32, ..outputs },
    );
    let want = &want_logits[..n_outputs * config.vocab_size];
    assert_close("lm_head in parts", &read(&gpu, &logits, n_outputs), want, SUM, 1e-5);
    gpu.check().expect("the GPU works");
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
