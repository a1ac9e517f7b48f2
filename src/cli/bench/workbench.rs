//! Where cases are put together: tensors with known contents, and the check of what a kernel made of them.

use gptj::gpu::{Format, Plan, StepSize, Submission, Tensor};
use gptj::kernels::Kernels;
use gptj::synthetic::{self, Maker};
use gptj::{Config, Gpu, Result, reference};
use half::f16;
use pollster::block_on;

/// Work that is done over so many bytes comes from memory and not from a cache.
const COLD_BYTES: u64 = 256 << 20;

/// Copies of an operand at most; small operands stay in caches in a model as well.
const MAX_COPIES: u64 = 8;

/// A case, ready to run.
pub(super) struct Work {
    /// What the kernel needs to have run before it.
    pub(super) prepare: Plan,
    /// The work itself, each time over other memory.
    pub(super) plans: Vec<Plan>,
    /// What makes the result one that `reference` knows.
    pub(super) finish: Plan,
    pub(super) step: StepSize,
    /// Bytes that must move, however clever the kernel is.
    pub(super) bytes: u64,
    pub(super) flops: u64,
    pub(super) checks: Vec<Check>,
}

/// Elements of a tensor as they must be after one run.
pub(super) struct Check {
    pub(super) tensor: Tensor,
    /// Row, place in the row, value.
    pub(super) wanted: Vec<(usize, usize, f32)>,
    /// How far off a value may be, whatever its size.
    pub(super) tolerance: f32,
}

impl Work {
    /// Runs the work once and says what is wrong with the result, if anything is.
    pub(super) fn check(&self, gpu: &Gpu) -> Result<Option<String>> {
        let mut submission = Submission::new(gpu, "check");
        submission.run([&self.prepare, &self.plans[0], &self.finish], self.step);
        submission.submit();
        for check in &self.checks {
            let fault = check.fault(gpu)?;
            if fault.is_some() {
                return Ok(fault);
            }
        }
        Ok(None)
    }
}

impl Check {
    fn fault(&self, gpu: &Gpu) -> Result<Option<String>> {
        let Self { tensor, wanted, tolerance } = self;
        let n_rows = wanted.iter().map(|(row, ..)| row + 1).max().unwrap_or(1);
        let got: Vec<f32> = match tensor.format() {
            Format::F32 => block_on(tensor.read(gpu, n_rows))?,
            Format::F16 => block_on(tensor.read::<f16>(gpu, n_rows))?.into_iter().map(f16::to_f32).collect(),
            Format::U32 => block_on(tensor.read::<u32>(gpu, n_rows))?.into_iter().map(|id| id as f32).collect(),
        };
        let wrong: Vec<_> = wanted
            .iter()
            .map(|&(row, i, want)| (row, i, got[row * tensor.width() + i], want))
            .filter(|(.., got, want)| (got - want).abs() > *tolerance || got.is_nan())
            .collect();
        Ok(wrong.first().map(|(row, i, got, want)| {
            let (name, n_wrong, n_wanted) = (tensor.name(), wrong.len(), wanted.len());
            format!("{n_wrong} of {n_wanted} sampled values are wrong; {name}[{row}, {i}] is {got}, not {want}")
        }))
    }
}

/// Makes tensors for one set of shapes on one GPU.
pub(super) struct Workbench {
    pub(super) gpu: Gpu,
    pub(super) config: Config,
    pub(super) kernels: Kernels,
    maker: Maker,
}

impl Workbench {
    pub(super) fn new(gpu: &Gpu, config: &Config) -> Result<Self> {
        let kernels = Kernels::new(gpu, config, config.n_positions);
        let maker = block_on(Maker::new(gpu, config, 1))?;
        Ok(Self { gpu: gpu.clone(), config: config.clone(), kernels, maker })
    }

    /// A tensor of zeros in one piece.
    pub(super) fn zeros(&self, name: &str, rows: usize, width: usize, format: Format) -> Result<Tensor> {
        block_on(Tensor::whole(&self.gpu, name, rows, width, format))
    }

    /// An f32 tensor with room for `capacity` rows, the first of which hold `values`.
    pub(super) fn floats(&self, name: &str, capacity: usize, width: usize, values: &[f32]) -> Result<Tensor> {
        let tensor = self.zeros(name, capacity, width, Format::F32)?;
        tensor.write_elements(&self.gpu, values);
        Ok(tensor)
    }

    /// Some 32-bit integers in one row.
    pub(super) fn integers<T: bytemuck::Pod>(&self, name: &str, values: &[T]) -> Result<Tensor> {
        let values: &[u32] = bytemuck::cast_slice(values);
        let tensor = self.zeros(name, 1, values.len(), Format::U32)?;
        tensor.write_elements(&self.gpu, values);
        Ok(tensor)
    }

    /// A random f16 matrix in as many parts as the GPU needs, others like it, and the seed of the first.
    pub(super) fn matrices(&mut self, name: &str, [rows, width]: [usize; 2]) -> Result<(Vec<Tensor>, u32)> {
        let mut tensors = vec![block_on(Tensor::new(&self.gpu, name, rows, width, Format::F16))?];
        for _ in 1..copies(tensors[0].bytes()) {
            tensors.push(block_on(Tensor::new(&self.gpu, name, rows, width, Format::F16))?);
        }
        let seed = self.maker.fill(&tensors[0], synthetic::SCALE);
        for tensor in &tensors[1..] {
            self.maker.fill(tensor, synthetic::SCALE);
        }
        Ok((tensors, seed))
    }

    /// Fills an f16 tensor with the numbers that [`random`] makes of the seed which this returns.
    pub(super) fn fill(&mut self, tensor: &Tensor) -> u32 {
        self.maker.fill(tensor, 1.0)
    }
}

/// How many copies of an operand of so many bytes are together larger than any cache.
pub(super) fn copies(bytes: u64) -> u64 {
    COLD_BYTES.div_ceil(bytes).clamp(1, MAX_COPIES)
}

/// Random numbers between -1 and 1, multiples of 1/1024.
pub(super) fn random(seed: u32, count: usize) -> Vec<f32> {
    reference::fill_random(seed, 1.0, 0..count)
}

/// A random matrix's rows, dense.
pub(super) fn matrix_rows(seed: u32, width: usize, rows: &[usize]) -> Vec<f32> {
    let row = |&row: &usize| reference::fill_random(seed, synthetic::SCALE, row * width..(row + 1) * width);
    rows.iter().flat_map(row).collect()
}

/// Indices below `size` among which every kind of tile has some: both sides of each power of two, where any tile's border
/// is, the odd thirds, and the last.
pub(super) fn sample(size: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|bit| 1usize << bit).take_while(|&power| power < size);
    let mut indices: Vec<_> = powers.flat_map(|power| [power - 1, power]).collect();
    indices.extend([0, size / 3, 2 * size / 3, size.saturating_sub(2), size - 1]);
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// The sampled elements of dense rows: `values[i]` is row `rows[i]`, of which all of `columns` are wanted.
pub(super) fn wanted(values: &[f32], rows: &[usize], columns: &[usize]) -> Vec<(usize, usize, f32)> {
    let width = values.len() / rows.len();
    let row = |(values, &row): (&[f32], &usize)| -> Vec<_> {
        columns.iter().map(|&column| (row, column, values[column])).collect()
    };
    values.chunks(width).zip(rows).flat_map(row).collect()
}
