//! What is measured: every kernel of the forward pass at the shapes of a block, one function a family.

use gptj::gpu::{Dispatch, Format, Plan, StepSize, Tensor, padded};
use gptj::kernels::{FMA_STEPS, Kernels, Regime, Row, TILE_ROWS, mixture_width};
use gptj::model::FEW_ROWS;
use gptj::reference::{self, LayerCache};
use gptj::weights::{LayerNorm, Linear};
use gptj::{Config, Result};

use super::workbench::{Check, Work, Workbench, copies, matrix_rows, random, sample, wanted};

/// A kernel on one shape.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    /// What of the shape does not change with the step.
    pub(super) shape: String,
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
        Self { kernel, shape, rows, positions: None, make: Box::new(make) }
    }

    /// Tells the case from all others.
    pub(super) fn name(&self) -> String {
        let Self { kernel, shape, rows, positions, .. } = self;
        let positions = positions.map_or_else(String::new, |positions| format!(", positions {positions}"));
        format!("{kernel} {shape}, rows {rows}{positions}")
    }
}

/// Every case, for steps of so many rows or else of those that matter to each kernel.
pub(super) fn all(config: &Config, rows: Option<&[usize]>) -> Vec<Case> {
    let few = rows.unwrap_or(&[1, 32, 512]);
    let [outputs, products] = [rows.unwrap_or(&[1, 8]), rows.unwrap_or(&[1, 2, 4, 8, 16, 32, 128, 512])];
    let attended = rows.unwrap_or(&[1, 256, 512]);
    let mut cases = Vec::new();
    cases.extend(few.iter().map(|&rows| embed(config, rows)));
    cases.extend(few.iter().map(|&rows| layer_norm(config, rows)));
    for product in &PRODUCTS {
        cases.extend(products.iter().map(|&rows| product.case(config, rows)));
    }
    cases.extend(few.iter().map(|&rows| rotary(config, rows)));
    cases.extend(few.iter().filter(|&&rows| rows <= config.n_positions).map(|&rows| append_cache(config, rows)));
    for &rows in attended {
        // One row is decoding, at several depths; several are a prompt's beginning.
        let depths = if rows == 1 { vec![1, 512, 2047] } else { vec![rows] };
        for positions in depths.into_iter().filter(|&positions| positions <= config.n_positions) {
            cases.push(attention(config, "attention", rows, positions));
            cases.push(attention(config, "merge_attention", rows, positions));
        }
    }
    let outputs = || outputs.iter().copied().filter(|&rows| rows <= FEW_ROWS);
    cases.extend(outputs().map(|rows| layer_norm_outputs(config, rows)));
    cases.extend(outputs().map(|rows| LM_HEAD.case(config, rows)));
    cases.extend(outputs().map(|rows| argmax(config, rows)));
    cases
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
        let checks = vec![Check { tensor: found, wanted: vec![(0, 0, 0.0)], tolerance: 0.0 }];
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
        let checks = vec![Check { tensor: sums, wanted, tolerance: 1e-3 }];
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
        let rows = rows(&bench.config, n_rows, 1);
        let row_tensor = bench.integers("rows", &rows)?;
        let x = bench.zeros("x", n_rows, shape[1], Format::F32)?;
        let plans = wte.iter().map(|wte| plan([bench.kernels.embed(&row_tensor, wte, &x)])).collect();
        let sampled = sample(n_rows);
        let tokens: Vec<_> = sampled.iter().map(|&row| rows[row].token as usize).collect();
        let wanted = wanted(&matrix_rows(seed, shape[1], &tokens), &sampled, &sample(shape[1]));
        let bytes = (n_rows * padded(shape[1])) as u64 * 6;
        Ok(Work { plans, bytes, checks: vec![Check { tensor: x, wanted, tolerance: 0.0 }], ..nothing(n_rows) })
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
    let checks = vec![Check { tensor: normed, wanted: wanted(&values, &sampled, &sample(width)), tolerance: 1e-4 }];
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

/// A matrix product of the pass.
struct Product {
    /// For few rows and for many.
    kernels: [&'static str; 2],
    /// Output features and input width.
    shape: fn(&Config) -> [usize; 2],
    has_bias: bool,
    launch: fn(&Kernels, &Tensor, &Linear, &Tensor) -> Vec<Dispatch>,
    /// What becomes of a sum and of what was there before.
    result: fn(sum: f32, before: f32) -> f32,
}

const PRODUCTS: [Product; 4] = [
    Product {
        kernels: ["matvec", "matmul"],
        shape: |config| [config.n_embd, config.n_embd],
        has_bias: false,
        launch: Kernels::linear,
        result: |sum, _| sum,
    },
    Product {
        kernels: ["matvec_residual", "matmul_residual"],
        shape: |config| [config.n_embd, config.n_embd],
        has_bias: false,
        launch: Kernels::linear_residual,
        result: |sum, before| before + sum,
    },
    Product {
        kernels: ["matvec_bias_gelu", "matmul_bias_gelu"],
        shape: |config| [config.n_inner, config.n_embd],
        has_bias: true,
        launch: Kernels::linear_gelu,
        result: |sum, _| reference::gelu(sum),
    },
    Product {
        kernels: ["matvec_bias_residual", "matmul_bias_residual"],
        shape: |config| [config.n_embd, config.n_inner],
        has_bias: true,
        launch: Kernels::linear_residual,
        result: |sum, before| before + sum,
    },
];

const LM_HEAD: Product = Product {
    kernels: ["matvec_bias", "matmul_bias"],
    shape: |config| [config.vocab_size, config.n_embd],
    has_bias: true,
    launch: Kernels::linear_outputs,
    result: |sum, _| sum,
};

impl Product {
    fn case(&'static self, config: &Config, n_rows: usize) -> Case {
        let shape = (self.shape)(config);
        let kernel = self.kernels[usize::from(regime(n_rows) == Regime::Many)];
        Case::new(kernel, shape_name(shape), n_rows, move |bench| self.work(bench, shape, n_rows))
    }

    fn work(&self, bench: &mut Workbench, [out, width]: [usize; 2], n_rows: usize) -> Result<Work> {
        let capacity = n_rows.next_multiple_of(TILE_ROWS);
        let [input, bias, before] =
            [(1, n_rows * width), (2, out), (3, n_rows * out)].map(|(seed, count)| random(seed, count));
        let (weights, seed) = bench.matrices("weight", [out, width])?;
        let input_tensor = bench.floats("input", capacity, width, &input)?;
        let output = bench.floats("output", capacity, out, &before)?;
        let kernels = bench.kernels.for_rows(regime(n_rows));
        let matrix_bytes = weights[0].bytes();
        let mut plans = Vec::new();
        for weight in weights {
            let bias = if self.has_bias { Some(bench.floats("bias", 1, out, &bias)?) } else { None };
            plans.push(plan([(self.launch)(&kernels, &input_tensor, &Linear { weight, bias }, &output)]));
        }

        let (rows, features) = (sample(n_rows), sample(out));
        let input: Vec<f32> = rows.iter().flat_map(|&row| &input[row * width..][..width]).copied().collect();
        let bias: Vec<f32> = features.iter().map(|&feature| bias[feature]).collect();
        let bias = self.has_bias.then_some(bias.as_slice());
        let sums = reference::linear(&input, &matrix_rows(seed, width, &features), bias, width);
        let cells = rows.iter().flat_map(|&row| features.iter().map(move |&feature| (row, feature)));
        let wanted = cells
            .zip(sums)
            .map(|((row, feature), sum)| (row, feature, (self.result)(sum, before[row * out + feature])))
            .collect();
        // Sums of up to 16,384 products that amount to about 1, each addition off by up to 2^-24 of it.
        let checks = vec![Check { tensor: output, wanted, tolerance: 3e-4 }];
        let bytes = matrix_bytes + 4 * (n_rows * (padded(width) + padded(out))) as u64;
        Ok(Work { plans, bytes, flops: 2 * (n_rows * width * out) as u64, checks, ..nothing(n_rows) })
    }
}

fn rotary(config: &Config, n_rows: usize) -> Case {
    Case::new("rotary", shape_name([config.n_head, config.rotary_dim]), n_rows, move |bench| {
        let config = &bench.config;
        let rows = rows(config, n_rows, config.n_positions);
        let angles = config.rotary_angles(config.n_positions);
        let mut vectors = random(1, n_rows * config.n_embd);
        let tensor = bench.floats("vectors", n_rows, config.n_embd, &vectors)?;
        let angle_tensor = bench.floats("angles", 1, 2 * angles.len(), angles.as_flattened())?;
        let plans = vec![plan([bench.kernels.rotary(&bench.integers("rows", &rows)?, &angle_tensor, &tensor)])];
        reference::rotary(&rows, &angles, &mut vectors, config);
        let every_row: Vec<_> = (0..n_rows).collect();
        let wanted = wanted(&vectors, &every_row, &sample(config.n_embd));
        let turned = (n_rows * config.n_head * config.rotary_dim) as u64;
        let checks = vec![Check { tensor, wanted, tolerance: 1e-6 }];
        Ok(Work { plans, bytes: 8 * turned, flops: 3 * turned, checks, ..nothing(n_rows) })
    })
}

fn append_cache(config: &Config, n_rows: usize) -> Case {
    Case::new("append_cache", shape_name([config.n_head, config.head_dim()]), n_rows, move |bench| {
        let config = &bench.config;
        let rows = rows(config, n_rows, n_rows);
        let vectors = random(1, n_rows * config.n_embd);
        let [k, v] = ["k", "v"].map(|name| bench.floats(name, n_rows, config.n_embd, &vectors));
        let [keys, values] = cache(bench)?;
        let row_tensor = bench.integers("rows", &rows)?;
        let plans = vec![plan([bench.kernels.append_cache(&row_tensor, [&k?, &v?], [&keys, &values])])];
        let mut checks = Vec::new();
        for tensor in [keys, values] {
            let vector = |(i, vector): (usize, &[f32])| -> Vec<_> {
                let (row, head) = (i / config.n_head, i % config.n_head);
                let place = head * config.n_positions + rows[row].position as usize;
                vector.iter().enumerate().map(|(i, &value)| (place, i, value)).collect()
            };
            let wanted = vectors.chunks(config.head_dim()).enumerate().flat_map(vector).collect();
            checks.push(Check { tensor, wanted, tolerance: 0.0 });
        }
        let bytes = 2 * 6 * (n_rows * config.n_embd) as u64;
        Ok(Work { plans, bytes, checks, ..nothing(n_rows) })
    })
}

/// One of the two kernels of attention; what they compute together is what is checked.
fn attention(config: &Config, kernel: &'static str, n_rows: usize, positions: usize) -> Case {
    let shape = shape_name([config.n_head, config.head_dim()]);
    let make = move |bench: &mut Workbench| {
        let Config { n_embd, n_head, n_positions, .. } = bench.config;
        let history = (n_head * positions * padded(bench.config.head_dim())) as u64 * 4;
        let rows: Vec<Row> =
            (0..n_rows).map(|row| Row { token: 0, slot: 0, position: (positions - n_rows + row) as u32 }).collect();
        let row_tensor = bench.integers("rows", &rows)?;
        let q = random(1, n_rows * n_embd);
        let q_tensor = bench.floats("q", n_rows, n_embd, &q)?;
        let kernels = bench.kernels.for_rows(regime(n_rows));
        let n_splits = n_rows * n_head * regime(n_rows).n_splits(n_positions);
        let mixtures = bench.zeros("mixtures", 1, n_splits * mixture_width(&bench.config), Format::F32)?;
        let softmaxes = bench.zeros("softmaxes", 1, 2 * n_splits, Format::F32)?;
        let attended = bench.zeros("attended", n_rows, n_embd, Format::F32)?;
        let attend =
            |cache: [&Tensor; 2]| plan([kernels.attention(&row_tensor, &q_tensor, cache, [&mixtures, &softmaxes])]);
        let merge = || plan([kernels.merge_attention(&row_tensor, [&mixtures, &softmaxes], &attended)]);

        let mut reference_cache = [(); 2].map(|()| LayerCache::new(&bench.config, 1, n_positions));
        let first = cache(bench)?;
        for (tensor, reference) in first.iter().zip(&mut reference_cache) {
            let count = tensor.rows() * tensor.width();
            reference.vectors_mut().copy_from_slice(&random(bench.fill(tensor), count));
        }
        let [keys, values] = &first;
        let sampled = sample(n_rows);
        let sampled_q: Vec<f32> = sampled.iter().flat_map(|&row| &q[row * n_embd..][..n_embd]).copied().collect();
        let sampled_rows: Vec<Row> = sampled.iter().map(|&row| rows[row]).collect();
        let attended_rows = reference::attention(&sampled_rows, &sampled_q, &reference_cache[0], &reference_cache[1]);
        let wanted = wanted(&attended_rows, &sampled, &sample(n_embd));

        let step = StepSize { positions: positions as u32, ..nothing(n_rows).step };
        let vectors = (n_rows * padded(n_embd)) as u64 * 4;
        let work = if kernel == "attention" {
            let mut plans = vec![attend([keys, values])];
            for _ in 1..copies(history) {
                let [keys, values] = cache(bench)?;
                bench.fill(&keys);
                bench.fill(&values);
                plans.push(attend([&keys, &values]));
            }
            let seen: u64 = rows.iter().map(|row| u64::from(row.position) + 1).sum();
            let (bytes, flops) = (history + 2 * vectors, 4 * n_embd as u64 * seen);
            Work { plans, finish: merge(), step, bytes, flops, ..nothing(n_rows) }
        } else {
            let bytes = vectors * (1 + regime(n_rows).n_splits(positions.max(1)) as u64);
            Work { prepare: attend([keys, values]), plans: vec![merge()], step, bytes, ..nothing(n_rows) }
        };
        // Scores of magnitude 1 and values below 1: as in the sums of products.
        Ok(Work { checks: vec![Check { tensor: attended, wanted, tolerance: 1e-4 }], ..work })
    };
    Case { positions: Some(positions), ..Case::new(kernel, shape, n_rows, make) }
}

fn argmax(config: &Config, n_rows: usize) -> Case {
    Case::new("argmax", config.vocab_size.to_string(), n_rows, move |bench| {
        let width = bench.config.vocab_size;
        let logits = random(1, n_rows * width);
        let tokens = reference::argmax(&logits, width);
        let tensor = bench.zeros("tokens", 1, n_rows, Format::U32)?;
        let plans = vec![plan([bench.kernels.argmax(&bench.floats("logits", n_rows, width, &logits)?, &tensor)])];
        let wanted = tokens.into_iter().enumerate().map(|(row, token)| (0, row, token as f32)).collect();
        let bytes = (n_rows * width) as u64 * 4;
        Ok(Work { plans, bytes, checks: vec![Check { tensor, wanted, tolerance: 0.0 }], ..nothing(n_rows) })
    })
}

fn shape_name([rows, width]: [usize; 2]) -> String {
    format!("{rows}x{width}")
}

fn regime(n_rows: usize) -> Regime {
    if n_rows <= FEW_ROWS { Regime::Few } else { Regime::Many }
}

fn plan(launches: impl IntoIterator<Item = Vec<Dispatch>>) -> Plan {
    let mut plan = Plan::default();
    launches.into_iter().for_each(|launch| plan.run(launch));
    plan
}

/// Rows of one sequence with tokens from all over the vocabulary and positions from `end` backwards.
fn rows(config: &Config, n_rows: usize, end: usize) -> Vec<Row> {
    let row = |row: usize| Row {
        token: ((row * 7919 + config.vocab_size - 1) % config.vocab_size) as u32,
        slot: 0,
        position: (end - 1 - row % end) as u32,
    };
    (0..n_rows).map(row).collect()
}

/// Keys and values of one slot.
fn cache(bench: &Workbench) -> Result<[Tensor; 2]> {
    let Config { n_head, n_positions, .. } = bench.config;
    let tensor = |name| bench.zeros(name, n_head * n_positions, bench.config.head_dim(), Format::F16);
    Ok([tensor("keys")?, tensor("values")?])
}

/// A step of so many rows, all of whose logits are wanted, with nothing to do yet.
fn nothing(n_rows: usize) -> Work {
    let [prepare, finish] = [(); 2].map(|()| Plan::default());
    let step = StepSize { rows: n_rows as u32, outputs: n_rows as u32, positions: n_rows as u32 };
    Work { prepare, plans: Vec::new(), finish, step, bytes: 0, flops: 0, checks: Vec::new() }
}
