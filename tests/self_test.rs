//! The matrix units of the GPU at hand, where it has some: their test at load, and a model that uses them.

mod common;

use std::path::Path;

use common::{assert_close, block_on, gpu, open};
use gptj::VectorShape;
use gptj::internals::gpu::{Gpu, GpuOptions, Product};
use gptj::internals::self_test::multiplies_rightly;
use gptj::{Checkpoint, LoadOptions, MatrixUnits, Model};

/// The GPU, where it has matrix units. That there are none is said, and a failure with `GPTJ_REQUIRE_MATRIX_UNITS`.
fn gpu_with_units() -> Option<Gpu> {
    let gpu = gpu()?;
    if gpu.cooperative_products().is_empty() {
        let required = std::env::var_os("GPTJ_REQUIRE_MATRIX_UNITS").is_some_and(|value| value == "1");
        assert!(!required, "GPTJ_REQUIRE_MATRIX_UNITS is set, but {} has none", gpu.info());
        eprintln!("SKIPPED, nothing was tested: {} has no matrix units", gpu.info());
        return None;
    }
    Some(gpu)
}

#[test]
fn matrix_units_pass_their_test() {
    let Some(gpu) = gpu_with_units() else { return };
    for &product in gpu.cooperative_products() {
        assert!(block_on(multiplies_rightly(&gpu, product)).expect("the GPU works"), "{product:?}");
    }
}

/// The test compares what it should: other products pass it too.
#[test]
fn every_product_passes_the_test() {
    let Some(gpu) = gpu() else { return };
    for product in [Product::Vector, Product::Tile] {
        assert!(block_on(multiplies_rightly(&gpu, product)).expect("the GPU works"), "{product:?}");
    }
}

/// Matrix units that the driver refuses have failed, and the GPU has not.
#[test]
fn what_is_refused_fails_the_test() {
    let options = GpuOptions { cooperative_matrix: false, ..GpuOptions::default() };
    let Some(gpu) = open(&options) else { return };
    assert!(!block_on(multiplies_rightly(&gpu, Product::Cooperative16)).expect("the GPU works"));
    gpu.check().expect("the GPU works");
    assert!(block_on(multiplies_rightly(&gpu, Product::Vector)).expect("the GPU works"));
}

/// A prompt by matrix units gives what it gives row by row, but for the rounding of activations to f16.
#[test]
fn prompts_by_matrix_units() {
    let Some(gpu) = gpu_with_units() else { return };
    let checkpoint = Checkpoint::open(Path::new("models/shakespeare")).expect("the built-in model");
    let prompt: Vec<u32> = (0..150).map(|i| (i * 31 + 7) % 1000).collect();
    let [by_units, by_rows] = [32, usize::MAX].map(|limit| {
        let vector = Some(VectorShape { lanes: 8, rows: 8, depth: 1, limit });
        let options = LoadOptions { vector, ..LoadOptions::default() };
        let mut model = block_on(Model::load(&gpu, &checkpoint, &options, |_| ())).expect("it fits");
        assert_eq!(model.matrix_units(), (limit == 32).then_some(MatrixUnits::Used));
        block_on(model.logits(0, &prompt)).expect("the GPU works")
    });
    let largest = by_rows.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
    // Each of eight products in a row rounds its inputs to 2^-11; that the roundings of a sum add up would be chance.
    assert_close("logits", &by_units, &by_rows, largest / 512.0, 0.0);
}
