//! A test of a GPU's matrix units on the device itself, before they are used.
//!
//! Matrix units are young in drivers and experimental in wgpu. A matmul on them is compared with the same matmul in
//! ordinary arithmetic, over random numbers and a shape with all special cases: several tiles of rows and of features,
//! the last of each partly empty, and inputs that end within a slice.

use std::hash::{BuildHasher, RandomState};

use half::f16;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::error::{Error, Result};
use crate::gpu::{Dtype, Gpu, Plan, Submission, Tensor};
use crate::kernels::{GemvConfig, KernelVariant, Kernels, Matmul, StepHeader, StepSize, TILE_ROWS, Tuning};
use crate::weights::{Linear, Matrix, Storage};
use gptj_checkpoint::Config;

/// The outcome of the test of a GPU's matrix units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixUnits {
    /// They multiply the rows of prompts.
    Used,
    /// They exist, but compute wrongly or are refused by the driver, so prompts are multiplied without them.
    Wrong,
}

/// The tuning for a GPU: matmuls of few rows in the shape `gemv`, or the usual one, and matrix units if they are of use
/// and pass the test.
///
/// # Errors
/// As [`multiplies_rightly`].
pub async fn tuning(gpu: &Gpu, gemv: Option<GemvConfig>) -> Result<(Tuning, Option<MatrixUnits>)> {
    let mut tuning = Tuning::for_adapter(gpu.info());
    tuning.gemv = gemv.unwrap_or(tuning.gemv);
    let some_steps_exceed_gemv = tuning.gemv.limit < usize::MAX;
    let Some(&side) = gpu.matrix_sides().first().filter(|_| some_steps_exceed_gemv) else {
        return Ok((tuning, None));
    };
    let matmul = Matmul::on_matrix_units(side);
    if multiplies_rightly(gpu, matmul).await? {
        tuning.many = matmul;
        Ok((tuning, Some(MatrixUnits::Used)))
    } else {
        Ok((tuning, Some(MatrixUnits::Wrong)))
    }
}

const INPUTS: usize = 88;
const FEATURES: usize = 200;
const ROWS: usize = TILE_ROWS + 9;

/// Sums of 88 products of numbers below 1, all exact in f16, differ only by the order in which f32 adds them: by less
/// than 88 * 88 * 2^-24.
const TOLERANCE: f32 = 5e-4;

/// Whether `matmul` gives the results of [`Matmul::Tiled`]; `false` if the driver refuses it.
///
/// # Errors
/// If the GPU fails otherwise, or cannot hold the test.
pub async fn multiplies_rightly(gpu: &Gpu, matmul: Matmul) -> Result<bool> {
    let seed = RandomState::new().hash_one(0);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut numbers =
        |count: usize| -> Vec<f16> { (0..count).map(|_| f16::from_f32(random.random_range(-1.0..1.0))).collect() };

    let config = Config { n_embd: INPUTS, vocab_size: FEATURES, ..Config::default() };
    let kernels = Kernels::new(gpu, &config, Tuning::for_adapter(gpu.info()));
    let capacity = ROWS.next_multiple_of(TILE_ROWS);
    let input = Tensor::whole(gpu, "self-test input", capacity, INPUTS, Dtype::F32).await?;
    let values: Vec<f32> = numbers(capacity * INPUTS).into_iter().map(f16::to_f32).collect();
    input.write_elements(gpu, &values);
    let weight = Matrix::new(gpu, "self-test weight", Storage::F16, FEATURES, INPUTS).await?;
    let panels = weight.panels();
    panels.write_elements(gpu, &numbers(panels.rows() * panels.width()));
    let bias = Tensor::whole(gpu, "self-test bias", 1, FEATURES, Dtype::F32).await?;
    let linear = Linear { weight, bias };
    let step = Tensor::whole(gpu, "self-test step", 1, 4, Dtype::U32).await?;
    let header = StepHeader { n_rows: 0, n_outputs: ROWS as u32, n_positions: 0 };
    step.write_elements::<u32>(gpu, &[header.n_rows, header.n_outputs, header.n_positions, 0]);

    let mut results = Vec::new();
    for matmul in [Matmul::Tiled, matmul] {
        let logits = Tensor::whole(gpu, "self-test result", capacity, FEATURES, Dtype::F32).await?;
        let kernels = kernels.with_variant(KernelVariant { matmul, rows: 1, flash: false });
        let multiply = || {
            let mut plan = Plan::default();
            plan.run(kernels.lm_head(&input, &step, &linear, &logits));
            let mut submission = Submission::new(gpu, "self-test");
            submission.run([&plan], StepSize { rows: 0, outputs: ROWS as u32, positions: 1 });
            submission.submit();
        };
        match gpu.attempt(multiply).await {
            Ok(()) => {}
            Err(reason) if results.is_empty() => return Err(Error::Gpu(reason)),
            Err(_) => return Ok(false),
        }
        results.push(logits.read::<f32>(gpu, ROWS).await?);
    }
    // False for a NaN.
    Ok(results[0].iter().zip(&results[1]).all(|(expected, found)| (expected - found).abs() < TOLERANCE))
}
