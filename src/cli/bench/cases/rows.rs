//! Kernels that take each row by itself: the embedding, the layer norms, the most likely token.

use gptj::internals::gpu::{Dispatch, Dtype, Tensor, padded};
use gptj::internals::kernels::reference;
use gptj::internals::weights::LayerNorm;
use gptj::{Config, Result};

use super::super::workbench::{Check, Work, Workbench, elements, matrix_rows, random, sample};
use super::{Case, nothing, plan, shape_name};

pub(super) fn token_embedding(config: &Config, n_rows: usize) -> Case {
    let shape = [config.vocab_size, config.n_embd];
    Case::new("token_embedding", shape_name(shape), n_rows, move |bench| {
        let (wte, seed) = bench.matrices("wte", shape)?;
        // From all over the vocabulary.
        let tokens: Vec<u32> = (1..=n_rows).map(|row| (row * 7919 % shape[0]) as u32).collect();
        let token_tensor = bench.integers("tokens", &tokens)?;
        let x = bench.zeros("x", n_rows, shape[1], Dtype::F32)?;
        let plans = wte.iter().map(|wte| plan([bench.kernels.token_embedding(&token_tensor, wte, &x)])).collect();
        let sampled = sample(n_rows);
        let tokens: Vec<_> = sampled.iter().map(|&row| tokens[row] as usize).collect();
        let expected = elements(&matrix_rows(seed, shape[1], &tokens), &sampled, &sample(shape[1]));
        let checks = vec![Check { written: x.into(), expected, tolerance: 0.0 }];
        Ok(Work { plans, bytes: (n_rows * padded(shape[1])) as u64 * 6, checks, ..nothing(n_rows) })
    })
}

/// A layer norm of some rows.
fn norm(
    bench: &Workbench,
    n_rows: usize,
    launch: impl Fn(&Tensor, &LayerNorm, &Tensor) -> Vec<Dispatch>,
) -> Result<Work> {
    let width = bench.config.n_embd;
    let [x, gain, bias] = [(1, n_rows * width), (2, width), (3, width)].map(|(seed, count)| random(seed, count));
    let norm = LayerNorm { gain: bench.floats("gain", 1, width, &gain)?, bias: bench.floats("bias", 1, width, &bias)? };
    let normed = bench.zeros("normed", n_rows, width, Dtype::F32)?;
    let plans = vec![plan([launch(&bench.floats("x", n_rows, width, &x)?, &norm, &normed)])];
    let sampled = sample(n_rows);
    let x: Vec<f32> = sampled.iter().flat_map(|&row| &x[row * width..][..width]).copied().collect();
    let values = reference::layer_norm(&x, &gain, &bias, bench.config.layer_norm_epsilon);
    let expected = elements(&values, &sampled, &sample(width));
    let checks = vec![Check { written: normed.into(), expected, tolerance: 1e-4 }];
    let count = (n_rows * padded(width)) as u64;
    Ok(Work { plans, bytes: 8 * count + 8 * width as u64, flops: 8 * count, checks, ..nothing(n_rows) })
}

pub(super) fn layer_norm(config: &Config, n_rows: usize) -> Case {
    Case::new("layer_norm", config.n_embd.to_string(), n_rows, move |bench| {
        norm(bench, n_rows, |x, norm, normed| bench.kernels.layer_norm(x, norm, normed))
    })
}

pub(super) fn layer_norm_outputs(config: &Config, n_rows: usize) -> Case {
    Case::new("layer_norm_outputs", config.n_embd.to_string(), n_rows, move |bench| {
        let every_row: Vec<u32> = (0..n_rows as u32).collect();
        let outputs = bench.integers("outputs", &every_row)?;
        norm(bench, n_rows, |x, norm, normed| bench.kernels.layer_norm_outputs(x, norm, normed, &outputs))
    })
}

pub(super) fn argmax(config: &Config, n_rows: usize) -> Case {
    Case::new("argmax", config.vocab_size.to_string(), n_rows, move |bench| {
        let width = bench.config.vocab_size;
        let logits = random(1, n_rows * width);
        let tokens = reference::argmax(&logits, width);
        let tensor = bench.zeros("tokens", 1, n_rows, Dtype::U32)?;
        let plans = vec![plan([bench.kernels.argmax(&bench.floats("logits", n_rows, width, &logits)?, &tensor)])];
        let expected = tokens.into_iter().enumerate().map(|(row, token)| (0, row, token as f32)).collect();
        let checks = vec![Check { written: tensor.into(), expected, tolerance: 0.0 }];
        Ok(Work { plans, bytes: (n_rows * width) as u64 * 4, checks, ..nothing(n_rows) })
    })
}
