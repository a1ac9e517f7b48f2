//! Whether a GPU's matrix units compute rightly, asked of the very device before they are used.
//!
//! Matrix units are young in drivers and experimental in wgpu. A product by them is compared with the same product by
//! ordinary arithmetic, over random numbers and a shape with all that is special: several tiles of rows and of
//! features, the last of each partly empty, and inputs that end within a slice.

use std::hash::{BuildHasher, RandomState};

use half::f16;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{Format, Gpu, Plan, Product, StepSize, Submission, Tensor};
use crate::kernels::{Kernels, StepHeader};
use crate::regime::{Geometry, Regime, TILE_ROWS, VectorShape};
use crate::weights::{Linear, Matrix};

/// What became of a GPU's matrix units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixUnits {
    /// They multiply the rows of prompts.
    Used,
    /// They are there, but compute wrongly or are refused by the driver, so that prompts are multiplied without them.
    Wrong,
}

/// The geometry for a GPU: products of this shape, or the usual one, and matrix units where they are of use and pass
/// the test.
///
/// # Errors
/// Where the GPU fails otherwise, or cannot hold the test.
pub async fn geometry(gpu: &Gpu, vector: Option<VectorShape>) -> Result<(Geometry, Option<MatrixUnits>)> {
    let mut geometry = Geometry::for_adapter(gpu.info());
    geometry.vector = vector.unwrap_or(geometry.vector);
    let needs_them = geometry.vector.limit < usize::MAX;
    let Some(&product) = gpu.cooperative_products().first().filter(|_| needs_them) else {
        return Ok((geometry, None));
    };
    if multiplies_rightly(gpu, product).await? {
        geometry.many = product;
        Ok((geometry, Some(MatrixUnits::Used)))
    } else {
        Ok((geometry, Some(MatrixUnits::Wrong)))
    }
}

const INPUTS: usize = 88;
const FEATURES: usize = 200;
const ROWS: usize = TILE_ROWS + 9;

/// Sums of 88 products of numbers below 1, all exact in f16: what differs is the order in which f32 adds them, so by
/// less than 88 * 88 * 2^-24.
const TOLERANCE: f32 = 5e-4;

/// Whether `product` gives what [`Product::Tile`] gives, and not where the driver refuses it.
///
/// # Errors
/// Where the GPU fails otherwise, or cannot hold the test.
pub async fn multiplies_rightly(gpu: &Gpu, product: Product) -> Result<bool> {
    let seed = RandomState::new().hash_one(0);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut numbers =
        |count: usize| -> Vec<f16> { (0..count).map(|_| f16::from_f32(random.random_range(-1.0..1.0))).collect() };

    let config = Config { n_embd: INPUTS, vocab_size: FEATURES, ..Config::default() };
    let kernels = Kernels::new(gpu, &config, config.n_positions, Geometry::for_adapter(gpu.info()));
    let capacity = ROWS.next_multiple_of(TILE_ROWS);
    let input = Tensor::whole(gpu, "self-test input", capacity, INPUTS, Format::F32).await?;
    let values: Vec<f32> = numbers(capacity * INPUTS).into_iter().map(f16::to_f32).collect();
    input.write_elements(gpu, &values);
    let weight = Matrix::new(gpu, "self-test weight", FEATURES, INPUTS).await?;
    let panels = weight.panels();
    panels.write_elements(gpu, &numbers(panels.rows() * panels.width()));
    let bias = Tensor::whole(gpu, "self-test bias", 1, FEATURES, Format::F32).await?;
    let linear = Linear { weight, bias };
    let step = Tensor::whole(gpu, "self-test step", 1, 4, Format::U32).await?;
    let header = StepHeader { n_rows: 0, n_outputs: ROWS as u32 };
    step.write_elements::<u32>(gpu, &[header.n_rows, header.n_outputs, 0, 0]);

    let mut results = Vec::new();
    for product in [Product::Tile, product] {
        let logits = Tensor::whole(gpu, "self-test result", capacity, FEATURES, Format::F32).await?;
        let kernels = kernels.in_regime(Regime { product, rows: 1, flash: false });
        let multiply = || {
            let mut plan = Plan::default();
            plan.run(kernels.lm_head([&input, &step], &linear, &logits));
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
    // A NaN is not close to anything.
    Ok(results[0].iter().zip(&results[1]).all(|(want, got)| (want - got).abs() < TOLERANCE))
}
