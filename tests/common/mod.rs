//! What the tests that need a GPU share: opening one in every specialisation, data, comparison.

#![expect(dead_code, reason = "each test file uses its own part of this")]

use gptj::Model;
use gptj::internals::gpu::{Format, Gpu, GpuOptions, Plan, Specialisation, StepSize, Submission, Tensor, padded};
use gptj::internals::kernels::{Row, StepHeader};
use gptj::internals::weights::Matrix;
use half::f16;
pub use pollster::block_on;

/// The GPU that the tests run on, with every check of memory accesses in place, in each specialisation that it has.
///
/// Empty where there is no GPU, which is said loudly, and a failure where `GPTJ_REQUIRE_GPU` is set.
pub fn gpus() -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = Vec::new();
    for Specialisation { f16, subgroups } in Specialisation::all() {
        let Some(gpu) = open(&GpuOptions { f16, subgroups, checked: true, ..GpuOptions::default() }) else { break };
        if gpus.iter().all(|other| other.specialisation() != gpu.specialisation()) {
            gpus.push(gpu);
        }
    }
    gpus
}

/// The GPU as users have it.
pub fn gpu() -> Option<Gpu> {
    open(&GpuOptions::default())
}

pub fn open(options: &GpuOptions) -> Option<Gpu> {
    match block_on(Gpu::open(options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            let required = std::env::var_os("GPTJ_REQUIRE_GPU").is_some_and(|value| value == "1");
            assert!(!required, "GPTJ_REQUIRE_GPU is set, but: {error}");
            eprintln!("SKIPPED, nothing was tested: {error}");
            None
        }
    }
}

/// `count` numbers between -1 and 1 that f16 holds exactly: multiples of 1/64, from a formula. Different `seed`s give
/// different numbers.
pub fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let number = |i: u32| {
        // Enough to leave no pattern that a wrong index would reproduce.
        let mut bits = i.wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B);
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x2C1B_3C6D);
        bits ^= bits >> 13;
        (bits % 129) as f32 / 64.0 - 1.0
    };
    (0..count as u32).map(number).collect()
}

/// An f32 tensor of dense rows, in one piece.
pub fn f32_tensor(gpu: &Gpu, name: &str, rows: usize, width: usize, values: &[f32]) -> Tensor {
    let tensor = block_on(Tensor::whole(gpu, name, rows, width, Format::F32)).expect("room for a small tensor");
    if !values.is_empty() {
        tensor.write_elements(gpu, values);
    }
    tensor
}

/// The tensor of some 32-bit integers in one row.
pub fn u32_tensor<T: bytemuck::Pod>(gpu: &Gpu, name: &str, values: &[T]) -> Tensor {
    let values: &[u32] = bytemuck::cast_slice(values);
    let tensor = block_on(Tensor::whole(gpu, name, 1, values.len(), Format::U32)).expect("room for a small tensor");
    tensor.write_elements(gpu, values);
    tensor
}

/// An f16 tensor of dense rows, in as many parts as the GPU needs.
pub fn f16_tensor(gpu: &Gpu, name: &str, rows: usize, width: usize, values: &[f32]) -> Tensor {
    let tensor = block_on(Tensor::new(gpu, name, rows, width, Format::F16)).expect("room for a small tensor");
    let values: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    tensor.write_elements(gpu, &values);
    tensor
}

/// A matrix in panels, from a function of feature and input, in as many parts as the GPU needs.
pub fn matrix(gpu: &Gpu, name: &str, features: usize, inputs: usize, number: impl Fn(usize, usize) -> f32) -> Matrix {
    let matrix = block_on(Matrix::new(gpu, name, features, inputs)).expect("room for a small matrix");
    let number = |feature: usize, input: usize| {
        if feature < features && input < inputs { number(feature, input) } else { 0.0 }
    };
    for panel in 0..features.div_ceil(32) {
        let rows = (32 * panel..32 * (panel + 1)).flat_map(|feature| (0..padded(inputs)).map(move |i| (feature, i)));
        let rows: Vec<f16> = rows.map(|(feature, input)| f16::from_f32(number(feature, input))).collect();
        let mut interleaved = vec![f16::ZERO; rows.len()];
        Matrix::interleave(&rows, &mut interleaved);
        matrix.panels().write(gpu, panel, bytemuck::cast_slice(&interleaved));
    }
    matrix
}

/// A step's header and rows, as kernels read them.
pub fn step_tensor(gpu: &Gpu, rows: &[Row], n_outputs: usize) -> Tensor {
    let header = StepHeader { n_rows: rows.len() as u32, n_outputs: n_outputs as u32 };
    let mut words: Vec<u32> = vec![header.n_rows, header.n_outputs];
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

/// The logits at each of some tokens, of a new sequence.
pub fn logits_of_all(model: &mut Model, tokens: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    model.truncate(0, 0);
    let read = model.logits_at_every_token(0, tokens, 0, |logits| all.extend_from_slice(logits));
    block_on(read).expect("the GPU works");
    all
}

/// Fails where a number differs from the wanted one by more than `absolute + relative * |wanted|`, and shows the first
/// ten that do.
pub fn assert_close(what: &str, got: &[f32], want: &[f32], absolute: f32, relative: f32) {
    assert_eq!(got.len(), want.len(), "{what}: as many numbers as wanted");
    let differs = |(_, (got, want)): &(usize, (&f32, &f32))| {
        let error = (*got - *want).abs();
        error.is_nan() || error > absolute + relative * want.abs()
    };
    let wrong: Vec<_> = got.iter().zip(want).enumerate().filter(differs).collect();
    if !wrong.is_empty() {
        let shown: Vec<_> =
            wrong.iter().take(10).map(|(i, (got, want))| format!("  [{i}] {got}, not {want}")).collect();
        panic!("{what}: {} of {} numbers are wrong\n{}", wrong.len(), got.len(), shown.join("\n"));
    }
}
