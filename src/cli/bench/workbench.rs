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

#[cfg(test)]
mod tests {
    use gptj::GpuOptions;

    use super::*;

    #[test]
    fn samples_touch_every_kind_of_tile() {
        for size in [1, 2, 7, 64, 70, 512, 50_400] {
            let sampled = sample(size);
            assert!(sampled.is_sorted_by(|a, b| a < b) && sampled.iter().all(|&index| index < size), "{sampled:?}");
            for tile in [4, 32, 64, 128] {
                let last_tile = (size - 1) / tile * tile;
                assert!(sampled.contains(&0) && sampled.contains(&(size - 1)));
                assert!(size <= tile || [tile - 1, tile].iter().all(|border| sampled.contains(border)));
                assert!(sampled.iter().any(|&index| index >= last_tile), "the last tile has a sample");
            }
        }
        assert!(sample(50_400).len() < 50);
    }

    #[test]
    fn wrong_values_are_named() {
        let gpu = match block_on(Gpu::open(&GpuOptions::default())) {
            Ok(gpu) => gpu,
            Err(gptj::Error::Adapter(reason)) => {
                let required = std::env::var_os("GPTJ_REQUIRE_GPU").is_some_and(|value| value == "1");
                assert!(!required, "GPTJ_REQUIRE_GPU is set, but: {reason}");
                return eprintln!("SKIPPED, nothing was tested: {reason}");
            }
            Err(error) => panic!("{error}"),
        };
        let bench = Workbench::new(&gpu, &Config::preset("tiny").expect("there is one")).expect("room");
        let fault = |values: &[f32], wanted: Vec<_>| {
            let tensor = bench.floats("numbers", 2, 3, values).expect("room");
            Check { tensor, wanted, tolerance: 0.1 }.fault(&gpu).expect("the GPU works")
        };
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, f32::NAN];
        assert_eq!(fault(&values, vec![(0, 1, 1.05), (1, 1, 3.95)]), None);
        let message = fault(&values, vec![(0, 1, 1.0), (1, 1, 4.2)]).expect("4 is not 4.2");
        assert_eq!(message, "1 of 2 sampled values are wrong; numbers[1, 1] is 4, not 4.2");
        assert!(fault(&values, vec![(1, 2, 5.0)]).is_some(), "NaN is wrong");
    }
}
