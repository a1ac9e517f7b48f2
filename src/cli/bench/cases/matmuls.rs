//! Matmuls with matrices in panels, and the merging of an adapter into such a matrix.

use std::collections::BTreeSet;

use gptj::internals::gpu::Dtype;
use gptj::internals::kernels::{KernelVariant, Row, reference, rotary_angles};
use gptj::internals::weights::{BlockWidths, Linear};
use gptj::{Config, Result};

use super::super::workbench::{Check, Work, Workbench, elements, in_panel, random, sample, weight_rows};
use super::{Case, capacity, nothing, plan, shape_name};

/// Inputs of the widest matmul of GPT-J-6B.
const WIDEST: usize = 20_480;

/// Sums of up to [`WIDEST`] products that amount to about 1, each addition off by up to 2^-24 of it. The products are
/// exact: f16 holds the inputs.
const SUM: f32 = 3e-4;

/// Numbers below 4, rounded to f16 in either direction.
const ROUNDED: f32 = 2e-3 + SUM;

/// A matmul of some rows with a random matrix of output features by inputs.
fn matmul(
    kernel: &'static str,
    shape: [usize; 2],
    variant: KernelVariant,
    n_rows: usize,
    make: impl Fn(&mut Workbench) -> Result<Work> + 'static,
) -> Case {
    let flops = 2 * (n_rows * shape[0] * shape[1]) as u64;
    let make = move |bench: &mut Workbench| Ok(Work { flops, ..make(bench)? });
    Case { matmul: Some(variant.matmul), ..Case::new(kernel, shape_name(shape), n_rows, make) }
}

/// Some rows of `input`, each `width` wide, times some features of the matrix filled from `seed`: row, feature, sum.
/// Rows begin with the inputs.
fn sums(
    (input, width): (&[f32], usize),
    (seed, inputs): (u32, usize),
    [rows, features]: [&[usize]; 2],
) -> Vec<(usize, usize, f32)> {
    let input: Vec<f32> = rows.iter().flat_map(|&row| &input[row * width..][..inputs]).copied().collect();
    let sums = reference::linear(&input, &weight_rows(seed, inputs, features), None, inputs);
    let mut elements = Vec::new();
    for (&row, sums) in rows.iter().zip(sums.chunks_exact(features.len())) {
        elements.extend(features.iter().zip(sums).map(|(&feature, &sum)| (row, feature, sum)));
    }
    elements
}

pub(in super::super) fn block_in(config: &Config, variant: KernelVariant, n_rows: usize) -> Case {
    let shape = [config.block_in_features(), config.n_embd];
    matmul("block_in", shape, variant, n_rows, move |bench| {
        let config = bench.config.clone();
        let Config { n_embd, n_inner, n_positions, .. } = config;
        // From the end of the context backwards, in as many slots as that takes.
        let row =
            |i: usize| Row { slot: (i / n_positions) as u32, position: (n_positions - 1 - i % n_positions) as u32 };
        let rows: Vec<Row> = (0..n_rows).map(row).collect();
        let (normed, bias) = (random(1, n_rows * n_embd), random(2, n_inner));
        let (linears, seed) = bench.linears("block_in", shape, &bias)?;
        let matrix_bytes = linears[0].weight.panels().bytes();
        let normed_tensor = bench.floats("normed", capacity(n_rows), n_embd, &normed)?;
        let step = bench.step(&rows, 0)?;
        let angles = rotary_angles(&config, n_positions);
        let angle_tensor = bench.floats("angles", 1, 2 * angles.len(), angles.as_flattened())?;
        let activations = bench.zeros("activations", capacity(n_rows), config.activation_width(), Dtype::F32)?;
        let layer = bench.layer(n_rows.div_ceil(n_positions))?;
        let kernels = bench.kernels.with_variant(variant);
        let launch =
            |linear| kernels.block_in(&normed_tensor, &step, linear, &angle_tensor, &activations, layer.cache());
        let plans = linears.iter().map(|linear| plan([launch(linear)])).collect();

        let sampled = sample(n_rows);
        // Rotation needs both features of a pair.
        let features: BTreeSet<_> = sample(shape[0]).into_iter().flat_map(|i| [i & !1, i | 1]).collect();
        let features: Vec<usize> = features.into_iter().collect();
        let sums = sums((&normed, n_embd), (seed, n_embd), [&sampled, &features]);
        let (mut in_activations, mut in_cache) = (Vec::new(), Vec::new());
        for sums in sums.chunk_by(|a, b| a.0 == b.0) {
            let row = sums[0].0;
            let mut dense = vec![0.0; shape[0]];
            sums.iter().for_each(|&(_, feature, sum)| dense[feature] = sum);
            for qk in dense[..2 * n_embd].chunks_exact_mut(n_embd) {
                reference::rotary(&rows[row..=row], &angles, qk, &config);
            }
            for &feature in &features {
                let (value, dim) = (dense[feature], feature % n_embd);
                match feature / n_embd {
                    0 => in_activations.push((row, config.block_out_inputs() + dim, value)),
                    1 => in_cache.push(layer.key(rows[row], dim, value)),
                    2 => in_cache.push(layer.value(rows[row], dim, value)),
                    _ => {
                        let hidden = feature - 3 * n_embd;
                        in_activations.push((row, n_embd + hidden, reference::gelu(value + bias[hidden])));
                    }
                }
            }
        }
        let checks = vec![
            Check { written: activations.into(), expected: in_activations, tolerance: SUM },
            Check { written: layer.into(), expected: in_cache, tolerance: ROUNDED },
        ];
        // The input, q and the hidden layer in f32, keys and values in f16.
        let bytes = matrix_bytes + 4 * (n_rows * (3 * n_embd + n_inner)) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_rows) })
    })
}

pub(in super::super) fn block_out(config: &Config, variant: KernelVariant, n_rows: usize) -> Case {
    let shape = [config.n_embd, config.block_out_inputs()];
    let width = config.activation_width();
    matmul("block_out", shape, variant, n_rows, move |bench| {
        let [n_embd, inputs] = shape;
        let (activations, bias, before) = (random(1, n_rows * width), random(2, n_embd), random(3, n_rows * n_embd));
        let (linears, seed) = bench.linears("block_out", shape, &bias)?;
        let matrix_bytes = linears[0].weight.panels().bytes();
        let activation_tensor = bench.floats("activations", capacity(n_rows), width, &activations)?;
        let step = bench.step(&vec![Row { slot: 0, position: 0 }; n_rows], 0)?;
        let x = bench.floats("x", capacity(n_rows), n_embd, &before)?;
        let kernels = bench.kernels.with_variant(variant);
        let launch = |linear| kernels.block_out(&activation_tensor, &step, linear, &x);
        let plans = linears.iter().map(|linear| plan([launch(linear)])).collect();

        let sums = sums((&activations, width), (seed, inputs), [&sample(n_rows), &sample(n_embd)]);
        let add = |(row, feature, sum)| (row, feature, before[row * n_embd + feature] + sum + bias[feature]);
        let expected = sums.into_iter().map(add).collect();
        let checks = vec![Check { written: x.into(), expected, tolerance: SUM }];
        // x is read and written.
        let bytes = matrix_bytes + 4 * (n_rows * (inputs + 2 * n_embd)) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_rows) })
    })
}

/// A plain matmul with a bias, of any shape.
pub(super) fn lm_head([features, inputs]: [usize; 2], variant: KernelVariant, n_outputs: usize) -> Case {
    let shape = [features, inputs];
    matmul("lm_head", shape, variant, n_outputs, move |bench| {
        let (ln_f, bias) = (random(1, n_outputs * inputs), random(2, features));
        let (linears, seed) = bench.linears("lm_head", shape, &bias)?;
        let matrix_bytes = linears[0].weight.panels().bytes();
        let ln_f_tensor = bench.floats("ln_f", capacity(n_outputs), inputs, &ln_f)?;
        let step = bench.step(&[], n_outputs)?;
        let logits = bench.zeros("logits", n_outputs, features, Dtype::F32)?;
        let kernels = bench.kernels.with_variant(variant);
        let launch = |linear| kernels.lm_head(&ln_f_tensor, &step, linear, &logits);
        let plans = linears.iter().map(|linear| plan([launch(linear)])).collect();

        let sums = sums((&ln_f, inputs), (seed, inputs), [&sample(n_outputs), &sample(features)]);
        let expected = sums.into_iter().map(|(row, feature, sum)| (row, feature, sum + bias[feature])).collect();
        let tolerance = SUM * (inputs as f32 / WIDEST as f32).max(1.0);
        let checks = vec![Check { written: logits.into(), expected, tolerance }];
        let bytes = matrix_bytes + 4 * (n_outputs * (inputs + features)) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_outputs) })
    })
}

/// An adapter of rank 16 for one projection.
pub(super) fn merge_lora(config: &Config) -> Case {
    let (size, rank) = (config.n_embd, 16);
    Case::new("merge_lora", format!("{size}x{size}x{rank}"), 1, move |bench| {
        let (b, a) = (random(1, size * rank), random(2, size * rank));
        let (b_tensor, a_tensor) = (bench.floats("b", size, rank, &b)?, bench.floats("a", rank, size, &a)?);
        let (linears, seed) = bench.linears("projection", [size, size], &[0.0])?;
        let overflow = bench.zeros("overflow", 1, 1, Dtype::U32)?;
        let merge =
            |linear: &Linear| plan([bench.kernels.merge_lora(&b_tensor, &a_tensor, 0, &linear.weight, &overflow)]);
        let plans = linears.iter().map(merge).collect();

        let sampled = sample(size);
        let mut merged = weight_rows(seed, size, &sampled);
        let b: Vec<f32> = sampled.iter().flat_map(|&feature| &b[feature * rank..][..rank]).copied().collect();
        reference::merge_lora(&mut merged, &b, &a, rank);
        let expected = elements(&merged, &sampled, &sampled).into_iter();
        let expected =
            expected.map(|(feature, input, value)| (feature / 32, in_panel(feature, input), value)).collect();
        let written = linears.into_iter().next().expect("there is one").weight.into();
        // Sums of 16 products below 1, rounded to f16 in either direction.
        let checks = vec![Check { written, expected, tolerance: 1.6e-2 }];
        let (bytes, flops) = ((4 * size * size + 8 * size * rank) as u64, 2 * (size * size * rank) as u64);
        Ok(Work { plans, bytes, flops, checks, ..nothing(1) })
    })
}
