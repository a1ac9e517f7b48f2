//! Small tensors on the GPU, filled and read back, and what runs on them.

use gptj::internals::gpu::{Dtype, Gpu, Plan, Submission, Tensor, padded};
use gptj::internals::kernels::{Row, StepHeader, StepSize};
use gptj::internals::weights::{Matrix, Storage};
use half::f16;
use pollster::block_on;

/// An f32 tensor of dense rows, in one piece.
pub fn f32_tensor(gpu: &Gpu, name: &str, rows: usize, width: usize, values: &[f32]) -> Tensor {
    let tensor = block_on(Tensor::whole(gpu, name, rows, width, Dtype::F32)).expect("room for a small tensor");
    if !values.is_empty() {
        tensor.write_elements(gpu, values);
    }
    tensor
}

/// The tensor of some 32-bit integers in one row.
pub fn u32_tensor<T: bytemuck::Pod>(gpu: &Gpu, name: &str, values: &[T]) -> Tensor {
    let values: &[u32] = bytemuck::cast_slice(values);
    let tensor = block_on(Tensor::whole(gpu, name, 1, values.len(), Dtype::U32)).expect("room for a small tensor");
    tensor.write_elements(gpu, values);
    tensor
}

/// An f16 tensor of dense rows, in as many parts as the GPU needs.
pub fn f16_tensor(gpu: &Gpu, name: &str, rows: usize, width: usize, values: &[f32]) -> Tensor {
    let tensor = block_on(Tensor::new(gpu, name, rows, width, Dtype::F16)).expect("room for a small tensor");
    let values: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    tensor.write_elements(gpu, &values);
    tensor
}

/// A matrix in panels, from a function of feature and input, in as many parts as the GPU needs.
pub fn matrix(gpu: &Gpu, name: &str, features: usize, inputs: usize, number: impl Fn(usize, usize) -> f32) -> Matrix {
    let matrix = block_on(Matrix::new(gpu, name, Storage::F16, features, inputs)).expect("room for a small matrix");
    let number = |feature: usize, input: usize| {
        if feature < features && input < inputs { number(feature, input) } else { 0.0 }
    };
    for panel in 0..features.div_ceil(32) {
        let rows = (32 * panel..32 * (panel + 1)).flat_map(|feature| (0..padded(inputs)).map(move |i| (feature, i)));
        let rows: Vec<f16> = rows.map(|(feature, input)| f16::from_f32(number(feature, input))).collect();
        let mut bytes = Vec::new();
        matrix.encode_panel(&rows, &mut bytes);
        matrix.panels().write(gpu, panel, &bytes);
    }
    matrix
}

/// A step's header and rows, as kernels read them, for a cache with room for so many positions a slot.
pub fn step_tensor(gpu: &Gpu, rows: &[Row], n_outputs: usize, n_positions: usize) -> Tensor {
    let header = StepHeader { n_rows: rows.len() as u32, n_outputs: n_outputs as u32, n_positions: n_positions as u32 };
    let mut words: Vec<u32> = vec![header.n_rows, header.n_outputs, header.n_positions];
    words.extend_from_slice(bytemuck::cast_slice(rows));
    u32_tensor(gpu, "step", &words)
}

/// Runs a plan once and waits for it.
pub fn run(gpu: &Gpu, plan: &Plan, step: StepSize) {
    let mut submission = Submission::new(gpu, "test");
    submission.run([plan], step);
    submission.submit();
}

/// The first rows of an f32 tensor, dense.
pub fn read(gpu: &Gpu, tensor: &Tensor, rows: usize) -> Vec<f32> {
    block_on(tensor.read(gpu, rows)).expect("the GPU works")
}

/// Like [`read`], padding included: it must have stayed zero.
pub fn assert_padding_is_zero(gpu: &Gpu, tensor: &Tensor) {
    let padded_rows: Vec<f32> = block_on(tensor.read_padded(gpu, tensor.rows())).expect("the GPU works");
    for row in padded_rows.chunks(padded(tensor.width())) {
        assert!(row[tensor.width()..].iter().all(|&value| value == 0.0), "the padding of {} is zero", tensor.name());
    }
}
