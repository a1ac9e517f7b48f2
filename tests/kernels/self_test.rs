//! The matrix units of the GPU at hand, where it has some: their test at load, and a model that uses them.

use gptj::internals::gpu::GpuOptions;
use gptj::internals::kernels::Matmul;
use gptj::internals::kernels::self_test::multiplies_rightly;
use gptj::{Checkpoint, GemvConfig, LoadOptions, MatrixUnits};
use pollster::block_on;

use crate::common::golden;
use crate::common::gpu::{gpu, gpu_with_matrix_units, open};
use crate::common::numbers::assert_close_to_largest;
use crate::common::transformers::load;

#[test]
fn matrix_units_pass_their_test() {
    let Some(gpu) = gpu_with_matrix_units() else { return };
    for &side in gpu.matrix_sides() {
        let matmul = Matmul::on_matrix_units(side);
        assert!(block_on(multiplies_rightly(&gpu, matmul)).expect("the GPU works"), "{matmul:?}");
    }
}

/// The test compares what it should: other matmuls pass it too.
#[test]
fn every_matmul_passes_the_test() {
    let Some(gpu) = gpu() else { return };
    for matmul in [Matmul::Gemv, Matmul::Tiled] {
        assert!(block_on(multiplies_rightly(&gpu, matmul)).expect("the GPU works"), "{matmul:?}");
    }
}

/// Matrix units that the driver refuses have failed, and the GPU has not.
#[test]
fn what_is_refused_fails_the_test() {
    let options = GpuOptions { cooperative_matrix: false, ..GpuOptions::default() };
    let Some(gpu) = open(&options) else { return };
    assert!(!block_on(multiplies_rightly(&gpu, Matmul::CoopMat16)).expect("the GPU works"));
    gpu.check().expect("the GPU works");
    assert!(block_on(multiplies_rightly(&gpu, Matmul::Gemv)).expect("the GPU works"));
}

/// A prompt by matrix units gives what it gives row by row, but for the rounding of activations to f16.
#[test]
fn prompts_by_matrix_units() {
    let Some(gpu) = gpu_with_matrix_units() else { return };
    let checkpoint = Checkpoint::open(&golden::model("shakespeare")).expect("the built-in model");
    let prompt: Vec<u32> = (0..150).map(|i| (i * 31 + 7) % 1000).collect();
    let [by_units, by_rows] = [32, usize::MAX].map(|limit| {
        let gemv = Some(GemvConfig { lanes: 8, rows: 8, depth: 1, limit });
        let options = LoadOptions { gemv, ..LoadOptions::default() };
        let mut model = load(&gpu, &checkpoint, &options);
        assert_eq!(model.matrix_units(), (limit == 32).then_some(MatrixUnits::Used));
        block_on(model.logits(0, &prompt)).expect("the GPU works")
    });
    // Each of eight products in a row rounds its inputs to 2^-11; that the roundings of a sum add up would be chance.
    assert_close_to_largest("logits", &by_units, &by_rows, 1.0 / 512.0);
}
