//! The matmuls of a block and of the head, in every variant, and what adapters add to their weights.

use std::rc::Rc;

use gptj::Config;
use gptj::internals::gpu::{GpuOptions, padded};
use gptj::internals::kernels::reference::{self, LayerCache};
use gptj::internals::kernels::{Kernels, Matmul, StepSize, rotary_angles};
use gptj::internals::weights::{BlockWidths, Linear};
use pollster::block_on;

use crate::cases::{
    CAPACITY, CONFIGS, F16_ROUNDING, N_ROWS, N_SLOTS, SUM, for_each_case, for_each_matmul, once_for_each, plan, rows,
    step, tuning, variants,
};
use crate::common::gpu::open;
use crate::common::numbers::{assert_close, numbers};
use crate::gpu_data::{assert_padding_is_zero, f16_tensor, f32_tensor, matrix, read, run, step_tensor, u32_tensor};
use crate::layout::{GpuCache, activations, block_in_linear, block_out_linear, block_weights, read_activations};

#[test]
fn block_in() {
    for_each_matmul("block_in", &Matmul::ALL, |config| {
        let mut block = block_weights(config);
        // Keys and values too large for f16, one of each sign, in both halves of an octet.
        for (row, weight) in [(3, 1e4), (6, -1e4)] {
            block.qkv[1][row * config.n_embd] = weight;
            block.qkv[2][row * config.n_embd] = weight;
        }
        let block = Rc::new(block);
        let angles = rotary_angles(config, config.n_positions);
        let normed = |n_rows: usize| {
            let mut normed = numbers(5, n_rows * config.n_embd);
            normed[0] = 20.0;
            normed
        };
        let want = once_for_each({
            let (block, angles) = (Rc::clone(&block), angles.clone());
            move |n_rows| {
                let mut caches = [(); 2].map(|()| LayerCache::new(config, N_SLOTS, config.n_positions));
                let rows = rows(n_rows, config);
                let both = reference::block_in(&rows, &normed(n_rows), &block, &angles, config, caches.each_mut());
                (both, caches)
            }
        });
        move |gpu, kernels, matmul| {
            let linear = block_in_linear(gpu, config, &block);
            let angles = f32_tensor(gpu, "angles", 1, 2 * angles.len(), angles.as_flattened());
            for (variant, n_rows) in variants(matmul) {
                let want = want(n_rows);
                let ((want_q, want_hidden), [keys, values]) = &*want;
                let rows = rows(n_rows, config);
                let normed = f32_tensor(gpu, "normed", N_ROWS, config.n_embd, &normed(n_rows));
                let activations = activations(gpu, config, &[], &[], &[]);
                let cache = GpuCache::new(gpu, config);
                let launch = kernels.with_variant(variant).block_in(
                    &normed,
                    &step_tensor(gpu, &rows, 0, CAPACITY),
                    &linear,
                    &angles,
                    &activations,
                    cache.layer(),
                );
                run(gpu, &plan([launch]), step(&rows));
                let what = format!("{matmul:?} {} {n_rows} rows of {}", variant.rows, config.n_embd);
                let [attended, hidden, q] = read_activations(gpu, config, &activations, n_rows);
                assert_close(&format!("q, {what}"), &q, want_q, 2.0 * SUM, 1e-5);
                assert_close(&format!("hidden, {what}"), &hidden, want_hidden, SUM, 1e-5);
                assert!(attended.iter().all(|&value| value == 0.0), "{what}: attended is not written");
                let beyond = read(gpu, &activations, N_ROWS)[n_rows * config.activation_width()..].to_vec();
                assert!(beyond.iter().all(|&value| value == 0.0), "{what}: rows past the end are not written");
                let [stored_keys, stored_values] = cache.read(gpu, config);
                assert_close(&format!("keys, {what}"), &stored_keys, keys.vectors(), SUM, F16_ROUNDING);
                assert_close(&format!("values, {what}"), &stored_values, values.vectors(), SUM, F16_ROUNDING);
            }
        }
    });
}

#[test]
fn block_out() {
    for_each_matmul("block_out", &Matmul::ALL, |config| {
        let block = Rc::new(block_weights(config));
        let inputs = |n_rows: usize| {
            [(30, config.n_embd), (31, config.n_inner), (32, config.n_embd)]
                .map(|(seed, width)| numbers(seed, n_rows * width))
        };
        let want = once_for_each({
            let block = Rc::clone(&block);
            move |n_rows| {
                let [attended, hidden, mut x] = inputs(n_rows);
                reference::block_out(&mut x, &attended, &hidden, &block, config);
                x
            }
        });
        move |gpu, kernels, matmul| {
            let linear = block_out_linear(gpu, config, &block);
            for (variant, n_rows) in variants(matmul) {
                let rows = rows(n_rows, config);
                let [attended, hidden, x] = inputs(n_rows);
                // q is next to what the kernel reads, and none of its business.
                let q = vec![f32::NAN; n_rows * config.n_embd];
                let activations = activations(gpu, config, &attended, &hidden, &q);
                let x = f32_tensor(gpu, "x", N_ROWS, config.n_embd, &x);
                let step_tensor = step_tensor(gpu, &rows, 0, CAPACITY);
                let launch = kernels.with_variant(variant).block_out(&activations, &step_tensor, &linear, &x);
                run(gpu, &plan([launch]), step(&rows));
                let what = format!("{matmul:?} {} {n_rows} rows of {}", variant.rows, config.block_out_inputs());
                assert_close(&what, &read(gpu, &x, n_rows), &want(n_rows), SUM, 1e-5);
                let beyond = read(gpu, &x, N_ROWS)[n_rows * config.n_embd..].to_vec();
                assert!(beyond.iter().all(|&value| value == 0.0), "{what}: rows past the end are not written");
                assert_padding_is_zero(gpu, &x);
            }
        }
    });
}

#[test]
fn lm_head() {
    for_each_matmul("lm_head", &Matmul::ALL, |config| {
        let Config { n_embd, vocab_size, .. } = *config;
        let [weight, bias] = [(33, vocab_size * n_embd), (34, vocab_size)].map(|(seed, count)| numbers(seed, count));
        let [weight, bias] = [weight, bias].map(Rc::new);
        let ln_f = move |n_outputs: usize| numbers(35, n_outputs * n_embd);
        let want = once_for_each({
            let [weight, bias] = [&weight, &bias].map(Rc::clone);
            move |n_outputs| reference::lm_head(&ln_f(n_outputs), &weight, &bias, n_embd)
        });
        move |gpu, kernels, matmul| {
            let linear = Linear {
                weight: matrix(gpu, "lm_head", vocab_size, n_embd, |feature, input| weight[feature * n_embd + input]),
                bias: f32_tensor(gpu, "bias", 1, vocab_size, &bias),
            };
            for (variant, n_outputs) in variants(matmul) {
                let ln_f = f32_tensor(gpu, "ln_f", N_ROWS, n_embd, &ln_f(n_outputs));
                let logits = f32_tensor(gpu, "logits", N_ROWS, vocab_size, &[]);
                let launch = kernels.with_variant(variant).lm_head(
                    &ln_f,
                    &step_tensor(gpu, &[], n_outputs, CAPACITY),
                    &linear,
                    &logits,
                );
                run(gpu, &plan([launch]), StepSize { rows: 0, outputs: n_outputs as u32, positions: 1 });
                let what = format!("{matmul:?} {} {n_outputs} rows of {n_embd}", variant.rows);
                assert_close(&what, &read(gpu, &logits, n_outputs), &want(n_outputs), SUM, 1e-5);
                assert_padding_is_zero(gpu, &logits);
            }
        }
    });
}

/// Weights that are larger than one binding come in parts; nobody but the launchers notices.
#[test]
fn weights_in_parts() {
    let config = &CONFIGS[1];
    let Some(gpu) = open(&GpuOptions { max_binding: 16 << 10, checked: true, ..GpuOptions::default() }) else { return };
    let Config { n_embd, vocab_size, .. } = *config;
    let kernels = Kernels::new(&gpu, config, tuning(&gpu));
    let tokens = [5, 500, 999, 204, 205];
    let wte = numbers(16, vocab_size * n_embd);
    let bias = numbers(17, vocab_size);
    let want_x = reference::token_embedding(&tokens, &wte, n_embd);
    let want_logits = reference::lm_head(&want_x, &wte, &bias, n_embd);

    let weight = f16_tensor(&gpu, "wte", vocab_size, n_embd, &wte);
    let x = f32_tensor(&gpu, "x", 64, n_embd, &[]);
    let embed = kernels.token_embedding(&u32_tensor(&gpu, "tokens", &tokens), &weight, &x);
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
    for (variant, _) in [variants(Matmul::Gemv)[0], variants(Matmul::Tiled)[0]] {
        let step = step_tensor(&gpu, &[], n_outputs, CAPACITY);
        let launches = kernels.with_variant(variant).lm_head(&x, &step, &lm_head, &logits);
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
    let [b, a] = [f32_tensor(&gpu, "b", 16 * 32, 1, &b), f32_tensor(&gpu, "a", 1, n_embd, &a)];
    let merge = kernels.merge_lora(&b, &a, 4, &lm_head.weight, &u32_tensor(&gpu, "overflow", &[0]));
    assert_eq!(merge.len(), 4, "panels 4 to 5, 6 to 11, 12 to 17, 18 to 19");
    let step = step_tensor(&gpu, &[], n_outputs, CAPACITY);
    run(&gpu, &plan([merge, kernels.lm_head(&x, &step, &lm_head, &logits)]), size);
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
        run(gpu, &plan([kernels.merge_lora(&b_tensor, &a_tensor, 1, &weight, &overflow)]), step(&[]));
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
            let mut panel = Vec::new();
            weight.encode_panel(&rows, &mut panel);
            want_panels.extend(bytemuck::pod_collect_to_vec::<u8, half::f16>(&panel));
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
            run(gpu, &plan([kernels.merge_lora(&b, &a, 0, &zeros, &overflow)]), step(&[]));
            assert_eq!(overflows(), is_too_large, "{number}");
        }
    });
}
