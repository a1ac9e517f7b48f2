//! What is measured: every kernel of the forward pass at the shapes of a block, one function a family.

use std::collections::BTreeSet;

use gptj::internals::gpu::{Dispatch, Format, Plan, Product, StepSize, Tensor, padded};
use gptj::internals::kernels::{FMA_STEPS, Row};
use gptj::internals::reference;
use gptj::internals::regime::{Regime, SPLIT_ROWS, TILE_ROWS, most_splits};
use gptj::internals::weights::{LayerNorm, Linear};
use gptj::{Config, Result};

use super::workbench::{
    Check, Layer, Work, Workbench, copies, in_panel, matrix_rows, random, sample, wanted, weight_rows,
};

/// A kernel on one shape.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    /// What of the shape does not change with the step.
    pub(super) shape: String,
    /// How it multiplies, where it does.
    pub(super) product: Option<Product>,
    pub(super) rows: usize,
    /// The longest history of the step, where it matters.
    pub(super) positions: Option<usize>,
    pub(super) make: Make,
}

/// Puts the case together; until then it takes no memory.
type Make = Box<dyn Fn(&mut Workbench) -> Result<Work>>;

impl Case {
    fn new(
        kernel: &'static str,
        shape: String,
        rows: usize,
        make: impl Fn(&mut Workbench) -> Result<Work> + 'static,
    ) -> Self {
        Self { kernel, shape, product: None, rows, positions: None, make: Box::new(make) }
    }

    /// The kernel, the shape and the product, which several cases may have in common.
    pub(super) fn series(&self) -> String {
        let product = self.product.map_or_else(String::new, |product| format!(" {}", product_name(product)));
        format!("{} {}{product}", self.kernel, self.shape)
    }

    /// Tells the case from all others.
    pub(super) fn name(&self) -> String {
        let positions = self.positions.map_or_else(String::new, |positions| format!(", positions {positions}"));
        format!("{}, rows {}{positions}", self.series(), self.rows)
    }
}

/// `vector`, `tile`, `cooperative16` or `cooperative8`.
pub(super) fn product_name(product: Product) -> String {
    format!("{product:?}").to_lowercase()
}

/// Every case, for steps of so many rows or else of those that matter to each kernel.
pub(super) fn all(bench: &Workbench, rows: Option<&[usize]>) -> Vec<Case> {
    let config = &bench.config;
    let few = rows.unwrap_or(&[1, 32, 512]);
    let [outputs, products] = [rows.unwrap_or(&[1, 8]), rows.unwrap_or(&[1, 2, 4, 8, 16, 32, 128, 512])];
    let attended = rows.unwrap_or(&[1, 8, 256, 512]);
    let can_be_outputs = |rows: &[usize]| rows.iter().copied().filter(|&rows| rows <= SPLIT_ROWS).collect::<Vec<_>>();
    let mut cases = Vec::new();
    cases.extend(few.iter().map(|&rows| embed(config, rows)));
    cases.extend(few.iter().map(|&rows| layer_norm(config, rows)));
    let regimes = regimes(bench, products);
    cases.extend(regimes.iter().map(|&(regime, rows)| block_in(config, regime, rows)));
    for &rows in attended {
        if rows > SPLIT_ROWS {
            let fits = rows <= config.n_positions && bench.holds_slots(1);
            cases.extend(fits.then(|| attention(config, "flash_attention", rows, rows)));
            continue;
        }
        let depths = [1, 512, 2047].into_iter().filter(|&depth| depth <= config.n_positions && bench.holds_slots(rows));
        for depth in depths {
            cases.push(attention(config, "attention", rows, depth));
            cases.push(attention(config, "merge_attention", rows, depth));
        }
    }
    let looked_at = can_be_outputs(rows.unwrap_or(&[SPLIT_ROWS])).into_iter().filter(|_| bench.holds_slots(1));
    cases.extend(looked_at.map(|rows| attention_weights(config, rows, config.n_positions.min(512))));
    cases.extend(regimes.iter().map(|&(regime, rows)| block_out(config, regime, rows)));
    let head = can_be_outputs(products).into_iter().map(|rows| (bench.geometry.head_regime(rows), rows));
    let outputs = can_be_outputs(outputs);
    cases.extend(outputs.iter().map(|&rows| layer_norm_outputs(config, rows)));
    cases.extend(head.map(|(regime, rows)| lm_head(config, regime, rows)));
    cases.extend(outputs.iter().map(|&rows| argmax(config, rows)));
    cases.push(merge_lora(config));
    cases
}

/// Each of so many rows as the engine multiplies them; then the most rows, by the products that it would not take.
fn regimes(bench: &Workbench, rows: &[usize]) -> Vec<(Regime, usize)> {
    let mut regimes: Vec<_> = rows.iter().map(|&rows| (bench.geometry.regime(rows), rows)).collect();
    let most = rows.iter().copied().max().unwrap_or(1);
    let taken = bench.geometry.regime(most).product;
    let offered = bench.gpu.cooperative_products();
    let others = Product::ALL.into_iter().filter(|product| !product.is_cooperative() || offered.contains(product));
    let regime = |product| (Regime { product, ..bench.geometry.head_regime(most) }, most);
    regimes.extend(others.filter(|&product| product != taken).map(regime));
    // Cases of one product are one series of a plot.
    regimes.sort_by_key(|(regime, _)| regime.product);
    regimes
}

/// What the others are measured against: reading, then arithmetic.
pub(super) fn ceilings(is_software: bool) -> [Case; 2] {
    // More than any cache holds; a software adapter has less, and less time.
    let (data_rows, n_lanes) = if is_software { (1024, 1 << 14) } else { (4096, 1 << 18) };
    let width = 1 << 16;
    let read = move |bench: &mut Workbench| {
        let (data, _) = bench.matrices("data", [data_rows, width])?;
        let found = bench.integers("found", &[0u32])?;
        let plans = data.iter().map(|data| plan([bench.kernels.read_ceiling(data, &found)])).collect();
        let checks = vec![Check { written: found.into(), wanted: vec![(0, 0, 0.0)], tolerance: 0.0 }];
        Ok(Work { plans, bytes: data[0].bytes(), checks, ..nothing(1) })
    };
    let rounds = 64;
    let fma = move |bench: &mut Workbench| {
        let (factor, term) = (0.999, 0.001);
        let chain = bench.floats("chain", 1, 2, &[factor, term])?;
        let sums = bench.zeros("sums", 1, 4 * n_lanes, Format::F32)?;
        let plans = vec![plan([bench.kernels.fma_ceiling(rounds, &chain, &sums)])];
        let lane = |lane| {
            let sums = reference::fma_ceiling(lane, rounds * FMA_STEPS, factor, term);
            (0..4).map(move |i| (0, 4 * lane + i, sums[i]))
        };
        let wanted = sample(n_lanes).into_iter().flat_map(lane).collect();
        // An error of 2^-24 in a step shrinks by the factor in each later one: a thousand of them are left.
        let checks = vec![Check { written: sums.into(), wanted, tolerance: 1e-3 }];
        let flops = n_lanes as u64 * u64::from(rounds * FMA_STEPS) * 16;
        Ok(Work { plans, flops, bytes: n_lanes as u64 * 16, checks, ..nothing(1) })
    };
    [
        Case::new("read_ceiling", format!("{data_rows}x{width}"), 1, read),
        Case::new("fma_ceiling", format!("{n_lanes}x{rounds}"), 1, fma),
    ]
}

fn embed(config: &Config, n_rows: usize) -> Case {
    let shape = [config.vocab_size, config.n_embd];
    Case::new("embed", shape_name(shape), n_rows, move |bench| {
        let (wte, seed) = bench.matrices("wte", shape)?;
        // From all over the vocabulary.
        let tokens: Vec<u32> = (1..=n_rows).map(|row| (row * 7919 % shape[0]) as u32).collect();
        let token_tensor = bench.integers("tokens", &tokens)?;
        let x = bench.zeros("x", n_rows, shape[1], Format::F32)?;
        let plans = wte.iter().map(|wte| plan([bench.kernels.embed(&token_tensor, wte, &x)])).collect();
        let sampled = sample(n_rows);
        let tokens: Vec<_> = sampled.iter().map(|&row| tokens[row] as usize).collect();
        let wanted = wanted(&matrix_rows(seed, shape[1], &tokens), &sampled, &sample(shape[1]));
        let bytes = (n_rows * padded(shape[1])) as u64 * 6;
        Ok(Work { plans, bytes, checks: vec![Check { written: x.into(), wanted, tolerance: 0.0 }], ..nothing(n_rows) })
    })
}

/// A layer norm of some rows, and of the first one for each of `outputs`.
fn norm(
    bench: &Workbench,
    n_rows: usize,
    launch: impl Fn(&Tensor, &LayerNorm, &Tensor) -> Vec<Dispatch>,
) -> Result<Work> {
    let width = bench.config.n_embd;
    let [x, gain, bias] = [(1, n_rows * width), (2, width), (3, width)].map(|(seed, count)| random(seed, count));
    let norm = LayerNorm { gain: bench.floats("gain", 1, width, &gain)?, bias: bench.floats("bias", 1, width, &bias)? };
    let normed = bench.zeros("normed", n_rows, width, Format::F32)?;
    let plans = vec![plan([launch(&bench.floats("x", n_rows, width, &x)?, &norm, &normed)])];
    let sampled = sample(n_rows);
    let x: Vec<f32> = sampled.iter().flat_map(|&row| &x[row * width..][..width]).copied().collect();
    let values = reference::layer_norm(&x, &gain, &bias, bench.config.layer_norm_epsilon);
    let checks =
        vec![Check { written: normed.into(), wanted: wanted(&values, &sampled, &sample(width)), tolerance: 1e-4 }];
    let elements = (n_rows * padded(width)) as u64;
    Ok(Work { plans, bytes: 8 * elements + 8 * width as u64, flops: 8 * elements, checks, ..nothing(n_rows) })
}

fn layer_norm(config: &Config, n_rows: usize) -> Case {
    Case::new("layer_norm", config.n_embd.to_string(), n_rows, move |bench| {
        norm(bench, n_rows, |x, norm, normed| bench.kernels.layer_norm(x, norm, normed))
    })
}

fn layer_norm_outputs(config: &Config, n_rows: usize) -> Case {
    Case::new("layer_norm_outputs", config.n_embd.to_string(), n_rows, move |bench| {
        let every_row: Vec<u32> = (0..n_rows as u32).collect();
        let outputs = bench.integers("outputs", &every_row)?;
        norm(bench, n_rows, |x, norm, normed| bench.kernels.layer_norm_outputs(x, norm, normed, &outputs))
    })
}

/// Sums of up to 20,480 products that amount to about 1, each addition off by up to 2^-24 of it. The products are
/// exact: f16 holds the inputs.
const SUM: f32 = 3e-4;

/// Numbers below 4, rounded to f16 in either direction.
const ROUNDED: f32 = 2e-3 + SUM;

/// A product of some rows with a random matrix of output features by inputs.
fn product(
    kernel: &'static str,
    shape: [usize; 2],
    regime: Regime,
    n_rows: usize,
    make: impl Fn(&mut Workbench) -> Result<Work> + 'static,
) -> Case {
    let flops = 2 * (n_rows * shape[0] * shape[1]) as u64;
    let make = move |bench: &mut Workbench| Ok(Work { flops, ..make(bench)? });
    Case { product: Some(regime.product), ..Case::new(kernel, shape_name(shape), n_rows, make) }
}

/// Some rows of `input`, each `width` wide, times some features of the matrix that was filled from `seed`: row,
/// feature, sum. Rows begin with the inputs.
fn sums(
    (input, width): (&[f32], usize),
    (seed, inputs): (u32, usize),
    [rows, features]: [&[usize]; 2],
) -> Vec<(usize, usize, f32)> {
    let input: Vec<f32> = rows.iter().flat_map(|&row| &input[row * width..][..inputs]).copied().collect();
    let sums = reference::linear(&input, &weight_rows(seed, inputs, features), None, inputs);
    let cells = rows.iter().flat_map(|&row| features.iter().map(move |&feature| (row, feature)));
    cells.zip(sums).map(|((row, feature), sum)| (row, feature, sum)).collect()
}

pub(super) fn block_in(config: &Config, regime: Regime, n_rows: usize) -> Case {
    let shape = [config.block_in_features(), config.n_embd];
    product("block_in", shape, regime, n_rows, move |bench| {
        let config = bench.config.clone();
        let Config { n_embd, n_inner, n_positions, .. } = config;
        // From the end of the context backwards, in as many slots as that takes.
        let place = |row: usize| Row {
            slot: (row / n_positions) as u32,
            position: (n_positions - 1 - row % n_positions) as u32,
        };
        let rows: Vec<Row> = (0..n_rows).map(place).collect();
        let [normed, bias] = [(1, n_rows * n_embd), (2, n_inner)].map(|(seed, count)| random(seed, count));
        let (linears, seed) = bench.linears("block_in", shape, &bias)?;
        let matrix_bytes = linears[0].weight.panels().bytes();
        let normed_tensor = bench.floats("normed", capacity(n_rows), n_embd, &normed)?;
        let step = bench.step(&rows, 0)?;
        let angles = config.rotary_angles(n_positions);
        let angle_tensor = bench.floats("angles", 1, 2 * angles.len(), angles.as_flattened())?;
        let activations = bench.zeros("activations", capacity(n_rows), config.activation_width(), Format::F32)?;
        let layer = bench.layer(n_rows.div_ceil(n_positions))?;
        let kernels = bench.kernels.in_regime(regime);
        let launch =
            |linear| kernels.block_in([&normed_tensor, &step], linear, &angle_tensor, &activations, layer.cache());
        let plans = linears.iter().map(|linear| plan([launch(linear)])).collect();

        let sampled = sample(n_rows);
        // Rotation needs both features of a pair.
        let features: BTreeSet<_> = sample(shape[0]).into_iter().flat_map(|i| [i & !1, i | 1]).collect();
        let features: Vec<usize> = features.into_iter().collect();
        let sums = sums((&normed, n_embd), (seed, n_embd), [&sampled, &features]);
        let [mut in_activations, mut in_keys_and_values] = [(); 2].map(|()| Vec::new());
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
                    1 => in_keys_and_values.push(layer.key(rows[row], dim, value)),
                    2 => in_keys_and_values.push(layer.value(rows[row], dim, value)),
                    _ => {
                        let hidden = feature - 3 * n_embd;
                        in_activations.push((row, n_embd + hidden, reference::gelu(value + bias[hidden])));
                    }
                }
            }
        }
        let checks = vec![
            Check { written: activations.into(), wanted: in_activations, tolerance: SUM },
            Check { written: layer.into(), wanted: in_keys_and_values, tolerance: ROUNDED },
        ];
        // The input, q and the hidden layer in f32, keys and values in f16.
        let bytes = matrix_bytes + 4 * (n_rows * (3 * n_embd + n_inner)) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_rows) })
    })
}

pub(super) fn block_out(config: &Config, regime: Regime, n_rows: usize) -> Case {
    let shape = [config.n_embd, config.block_out_inputs()];
    let width = config.activation_width();
    product("block_out", shape, regime, n_rows, move |bench| {
        let [n_embd, inputs] = shape;
        let [activations, bias, before] =
            [(1, n_rows * width), (2, n_embd), (3, n_rows * n_embd)].map(|(seed, count)| random(seed, count));
        let (linears, seed) = bench.linears("block_out", shape, &bias)?;
        let matrix_bytes = linears[0].weight.panels().bytes();
        let activation_tensor = bench.floats("activations", capacity(n_rows), width, &activations)?;
        let step = bench.step(&vec![Row { slot: 0, position: 0 }; n_rows], 0)?;
        let x = bench.floats("x", capacity(n_rows), n_embd, &before)?;
        let kernels = bench.kernels.in_regime(regime);
        let launch = |linear| kernels.block_out([&activation_tensor, &step], linear, &x);
        let plans = linears.iter().map(|linear| plan([launch(linear)])).collect();

        let sums = sums((&activations, width), (seed, inputs), [&sample(n_rows), &sample(n_embd)]);
        let wanted = sums
            .into_iter()
            .map(|(row, feature, sum)| (row, feature, before[row * n_embd + feature] + sum + bias[feature]));
        let checks = vec![Check { written: x.into(), wanted: wanted.collect(), tolerance: SUM }];
        // x is read and written.
        let bytes = matrix_bytes + 4 * (n_rows * (inputs + 2 * n_embd)) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_rows) })
    })
}

fn lm_head(config: &Config, regime: Regime, n_outputs: usize) -> Case {
    let shape = [config.vocab_size, config.n_embd];
    product("lm_head", shape, regime, n_outputs, move |bench| {
        let [vocab_size, n_embd] = shape;
        let [ln_f, bias] = [(1, n_outputs * n_embd), (2, vocab_size)].map(|(seed, count)| random(seed, count));
        let (linears, seed) = bench.linears("lm_head", shape, &bias)?;
        let matrix_bytes = linears[0].weight.panels().bytes();
        let ln_f_tensor = bench.floats("ln_f", capacity(n_outputs), n_embd, &ln_f)?;
        let step = bench.step(&[], n_outputs)?;
        let logits = bench.zeros("logits", n_outputs, vocab_size, Format::F32)?;
        let kernels = bench.kernels.in_regime(regime);
        let launch = |linear| kernels.lm_head([&ln_f_tensor, &step], linear, &logits);
        let plans = linears.iter().map(|linear| plan([launch(linear)])).collect();

        let sums = sums((&ln_f, n_embd), (seed, n_embd), [&sample(n_outputs), &sample(vocab_size)]);
        let wanted = sums.into_iter().map(|(row, feature, sum)| (row, feature, sum + bias[feature]));
        let checks = vec![Check { written: logits.into(), wanted: wanted.collect(), tolerance: SUM }];
        let bytes = matrix_bytes + 4 * (n_outputs * (n_embd + vocab_size)) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_outputs) })
    })
}

/// One of the kernels of attention. Of the two that few rows take, what they compute together is checked.
fn attention(config: &Config, kernel: &'static str, n_rows: usize, positions: usize) -> Case {
    let shape = shape_name([config.n_head, config.head_dim()]);
    let make = move |bench: &mut Workbench| {
        let config = bench.config.clone();
        let Config { n_embd, n_head, n_positions, .. } = config;
        // Many rows are a prompt; few are the last ones of a sequence each.
        let is_prompt = kernel == "flash_attention";
        let n_slots = if is_prompt { 1 } else { n_rows };
        let place = |row: usize| {
            let [slot, position] = if is_prompt { [0, positions - n_rows + row] } else { [row, positions - 1] };
            Row { slot: slot as u32, position: position as u32 }
        };
        let rows: Vec<Row> = (0..n_rows).map(place).collect();
        let step_tensor = bench.step(&rows, 0)?;
        let width = config.activation_width();
        let before = random(1, n_rows * width);
        let activations = bench.floats("activations", capacity(n_rows), width, &before)?;
        // A prompt's history is not split.
        let most_splits = if is_prompt { 1 } else { n_rows * n_head * most_splits(&config, n_positions) };
        let mixtures = bench.zeros("mixtures", 1, most_splits * config.head_width(), Format::F32)?;
        let splits = [&mixtures, &bench.zeros("softmaxes", 1, 2 * most_splits, Format::F32)?];
        let attend = |bench: &Workbench, layer: &Layer| {
            let (kernels, cache) = (&bench.kernels, layer.cache());
            plan([match is_prompt {
                true => kernels.flash_attention(&step_tensor, &activations, cache),
                false => kernels.attention(&step_tensor, &activations, cache, splits),
            }])
        };
        let merge = |bench: &Workbench| plan([bench.kernels.merge_attention(&step_tensor, splits, &activations)]);

        let (layer, seed) = bench.filled_layer(n_slots)?;
        let sampled = sample(n_rows);
        let mut attended = Vec::new();
        for of_slot in sampled.chunk_by(|&a, &b| rows[a].slot == rows[b].slot) {
            let [keys, values] = layer.histories(seed, rows[of_slot[0]].slot, positions);
            let q = |&row: &usize| &before[row * width + config.block_out_inputs()..][..n_embd];
            let q: Vec<f32> = of_slot.iter().flat_map(q).copied().collect();
            let rows: Vec<Row> = of_slot.iter().map(|&row| Row { slot: 0, ..rows[row] }).collect();
            attended.extend(reference::attention(&rows, &q, &keys, &values));
        }
        let wanted = wanted(&attended, &sampled, &sample(n_embd));

        let step = StepSize { positions: positions as u32, ..nothing(n_rows).step };
        let vectors = (n_rows * n_embd) as u64 * 4;
        let work = if kernel == "merge_attention" {
            let bytes = vectors * (1 + positions.div_ceil(bench.kernels.split()) as u64);
            Work { prepare: attend(bench, &layer), plans: vec![merge(bench)], step, bytes, ..nothing(n_rows) }
        } else {
            let history = (n_slots * positions * n_embd) as u64 * 4;
            let mut plans = vec![attend(bench, &layer)];
            for _ in 1..copies(history).min(bench.layers_at_once(n_slots)) {
                let (layer, _) = bench.filled_layer(n_slots)?;
                plans.push(attend(bench, &layer));
            }
            let finish = if is_prompt { Plan::default() } else { merge(bench) };
            let seen: u64 = rows.iter().map(|row| u64::from(row.position) + 1).sum();
            let (bytes, flops) = (history + 2 * vectors, 4 * n_embd as u64 * seen);
            Work { plans, finish, step, bytes, flops, ..nothing(n_rows) }
        };
        // Scores of magnitude 1 and values below 1: as in the sums of products.
        Ok(Work { checks: vec![Check { written: activations.into(), wanted, tolerance: 1e-4 }], ..work })
    };
    Case { positions: Some(positions), ..Case::new(kernel, shape, n_rows, make) }
}

/// What attention mixes values by, for the last rows of a prompt.
fn attention_weights(config: &Config, n_rows: usize, positions: usize) -> Case {
    let make = move |bench: &mut Workbench| {
        let config = bench.config.clone();
        let Config { n_embd, n_head, .. } = config;
        let rows: Vec<Row> = (positions - n_rows..positions).map(|i| Row { slot: 0, position: i as u32 }).collect();
        let step_tensor = bench.step(&rows, 0)?;
        let width = config.activation_width();
        let before = random(1, n_rows * width);
        let activations = bench.floats("activations", capacity(n_rows), width, &before)?;
        let (layer, seed) = bench.filled_layer(1)?;
        let room = layer.cache().0.room();
        let weights = bench.zeros("weights", 1, n_rows * n_head * room, Format::F32)?;
        let launch = bench.kernels.attention_weights(&step_tensor, &activations, layer.cache(), &weights);

        let [keys, _] = layer.histories(seed, 0, positions);
        let q: Vec<f32> =
            before.chunks_exact(width).flat_map(|row| &row[config.block_out_inputs()..][..n_embd]).copied().collect();
        let of_heads = reference::attention_weights(&rows, &q, &keys);
        let mut wanted = Vec::new();
        for head in sample(of_heads.len()) {
            let of_head = &of_heads[head];
            wanted.extend(
                sample(of_head.len()).into_iter().map(|position| (0, head * room + position, of_head[position])),
            );
        }
        let seen: u64 = rows.iter().map(|row| u64::from(row.position) + 1).sum();
        let bytes = (positions * n_embd) as u64 * 2 + (n_rows * n_embd) as u64 * 4 + seen * n_head as u64 * 4;
        // Weights are at most 1.
        let checks = vec![Check { written: weights.into(), wanted, tolerance: 1e-4 }];
        Ok(Work { plans: vec![plan([launch])], bytes, flops: 2 * n_embd as u64 * seen, checks, ..nothing(n_rows) })
    };
    let shape = shape_name([config.n_head, config.head_dim()]);
    Case { positions: Some(positions), ..Case::new("attention_weights", shape, n_rows, make) }
}

fn argmax(config: &Config, n_rows: usize) -> Case {
    Case::new("argmax", config.vocab_size.to_string(), n_rows, move |bench| {
        let width = bench.config.vocab_size;
        let logits = random(1, n_rows * width);
        let tokens = reference::argmax(&logits, width);
        let tensor = bench.zeros("tokens", 1, n_rows, Format::U32)?;
        let plans = vec![plan([bench.kernels.argmax(&bench.floats("logits", n_rows, width, &logits)?, &tensor)])];
        let wanted = tokens.into_iter().enumerate().map(|(row, token)| (0, row, token as f32)).collect();
        let checks = vec![Check { written: tensor.into(), wanted, tolerance: 0.0 }];
        Ok(Work { plans, bytes: (n_rows * width) as u64 * 4, checks, ..nothing(n_rows) })
    })
}

/// An adapter of rank 16 for one projection.
fn merge_lora(config: &Config) -> Case {
    let (size, rank) = (config.n_embd, 16);
    Case::new("merge_lora", format!("{size}x{size}x{rank}"), 1, move |bench| {
        let [b, a] = [1, 2].map(|seed| random(seed, size * rank));
        let factors = [bench.floats("b", size, rank, &b)?, bench.floats("a", rank, size, &a)?];
        let (linears, seed) = bench.linears("projection", [size, size], &[0.0])?;
        let overflow = bench.zeros("overflow", 1, 1, Format::U32)?;
        let merge =
            |linear: &Linear| plan([bench.kernels.merge_lora(factors.each_ref(), 0, &linear.weight, &overflow)]);
        let plans = linears.iter().map(merge).collect();

        let sampled = sample(size);
        let mut merged = weight_rows(seed, size, &sampled);
        let b: Vec<f32> = sampled.iter().flat_map(|&feature| &b[feature * rank..][..rank]).copied().collect();
        reference::merge_lora(&mut merged, &b, &a, rank);
        let wanted = wanted(&merged, &sampled, &sampled).into_iter();
        let wanted = wanted.map(|(feature, input, value)| (feature / 32, in_panel(feature, input), value)).collect();
        let written = linears.into_iter().next().expect("there is one").weight.into();
        // Sums of 16 products below 1, rounded to f16 in either direction.
        let checks = vec![Check { written, wanted, tolerance: 1.6e-2 }];
        let (bytes, flops) = ((4 * size * size + 8 * size * rank) as u64, 2 * (size * size * rank) as u64);
        Ok(Work { plans, bytes, flops, checks, ..nothing(1) })
    })
}

fn shape_name([rows, width]: [usize; 2]) -> String {
    format!("{rows}x{width}")
}

/// Rows that tensors have room for, so that every tile of a product is whole.
fn capacity(n_rows: usize) -> usize {
    n_rows.next_multiple_of(TILE_ROWS)
}

fn plan(launches: impl IntoIterator<Item = Vec<Dispatch>>) -> Plan {
    let mut plan = Plan::default();
    launches.into_iter().for_each(|launch| plan.run(launch));
    plan
}

/// A step of so many rows, all of whose logits are wanted, with nothing to do yet.
fn nothing(n_rows: usize) -> Work {
    let [prepare, finish] = [(); 2].map(|()| Plan::default());
    let step = StepSize { rows: n_rows as u32, outputs: n_rows as u32, positions: n_rows as u32 };
    Work { prepare, plans: Vec::new(), finish, step, bytes: 0, flops: 0, checks: Vec::new() }
}
