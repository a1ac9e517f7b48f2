//! The kernels that take each row by itself.

use gptj::internals::kernels::{StepSize, reference};
use gptj::internals::weights::LayerNorm;
use pollster::block_on;

use crate::cases::{for_each_case, plan};
use crate::common::numbers::{assert_close, numbers};
use crate::gpu_data::{assert_padding_is_zero, f16_tensor, f32_tensor, read, run, u32_tensor};

#[test]
fn token_embedding() {
    for_each_case("token_embedding", |gpu, config, kernels| {
        let tokens: Vec<u32> = (0..11).map(|i| (i * 37 + 5) % config.vocab_size as u32).collect();
        let wte = numbers(1, config.vocab_size * config.n_embd);
        let want = reference::token_embedding(&tokens, &wte, config.n_embd);

        let wte = f16_tensor(gpu, "wte", config.vocab_size, config.n_embd, &wte);
        let x = f32_tensor(gpu, "x", tokens.len(), config.n_embd, &[]);
        let step = StepSize { rows: tokens.len() as u32, outputs: 0, positions: 1 };
        run(gpu, &plan([kernels.token_embedding(&u32_tensor(gpu, "tokens", &tokens), &wte, &x)]), step);
        assert_close("token_embedding", &read(gpu, &x, tokens.len()), &want, 0.0, 0.0);
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
