//! The making of cases: tensors with known contents, and checks of a kernel's results.

use gptj::internals::gpu::{Dtype, Plan, Submission, Tensor, padded};
use gptj::internals::kernels::reference::{self, LayerCache};
use gptj::internals::kernels::{GemvConfig, Kernels, Row, StepHeader, StepSize, Tuning};
use gptj::internals::kv_cache::{KvCache, LayerCache as BlockCache};
use gptj::internals::model::synthetic::{self, Maker};
use gptj::internals::weights::{Linear, Matrix, Storage};
use gptj::{Config, Gpu, Result};
use half::f16;
use pollster::block_on;

/// With this many bytes in all its copies, an operand comes from memory, not from a cache.
const COLD_BYTES: u64 = 256 << 20;

/// The most copies of an operand; in a model, small operands stay in caches too.
const MAX_COPIES: u64 = 8;

/// The most bytes of all copies of a KV cache.
const CACHE_BYTES: u64 = 1 << 30;

/// A case, ready to run.
pub(super) struct Work {
    /// Runs before the kernel, which needs its results.
    pub(super) prepare: Plan,
    /// The kernel, each time over other memory.
    pub(super) plans: Vec<Plan>,
    /// Runs after the kernel, to give results that `reference` computes.
    pub(super) finish: Plan,
    pub(super) step: StepSize,
    /// Bytes that any such kernel must move.
    pub(super) bytes: u64,
    pub(super) flops: u64,
    pub(super) checks: Vec<Check>,
}

/// A kernel's output.
pub(super) enum Written {
    Tensor(Tensor),
    Layer(Layer),
    Matrix(Matrix),
}

impl From<Tensor> for Written {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<Layer> for Written {
    fn from(layer: Layer) -> Self {
        Self::Layer(layer)
    }
}

impl From<Matrix> for Written {
    fn from(matrix: Matrix) -> Self {
        Self::Matrix(matrix)
    }
}

/// Elements of an output as they must be after one run.
pub(super) struct Check {
    pub(super) written: Written,
    /// Row, column, value.
    pub(super) expected: Vec<(usize, usize, f32)>,
    /// The largest error of a value, whatever its size.
    pub(super) tolerance: f32,
}

impl Work {
    /// Runs the work once; the error in its results, if there is one.
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
        let Self { written, expected, tolerance } = self;
        let tensor = match written {
            Written::Tensor(tensor) => tensor,
            Written::Layer(layer) => layer.cache().tensor,
            Written::Matrix(matrix) => matrix.panels(),
        };
        let n_rows = expected.iter().map(|(row, ..)| row + 1).max().unwrap_or(1);
        let got: Vec<f32> = match tensor.format() {
            Dtype::F32 => block_on(tensor.read(gpu, n_rows))?,
            Dtype::F16 => block_on(tensor.read::<f16>(gpu, n_rows))?.into_iter().map(f16::to_f32).collect(),
            Dtype::U32 => block_on(tensor.read::<u32>(gpu, n_rows))?.into_iter().map(|id| id as f32).collect(),
        };
        let (mut n_wrong, mut first) = (0, String::new());
        for &(row, column, value) in expected {
            let got = got[row * tensor.width() + column];
            if (got - value).abs() > *tolerance || got.is_nan() {
                n_wrong += 1;
                if n_wrong == 1 {
                    first = format!("{}[{row}, {column}] is {got}, not {value}", tensor.name());
                }
            }
        }
        let n_sampled = expected.len();
        Ok((n_wrong > 0).then(|| format!("{n_wrong} of {n_sampled} sampled values are wrong; {first}")))
    }
}

/// The KV cache of one block.
pub(super) struct Layer {
    cache: KvCache,
    config: Config,
}

impl Layer {
    /// The cache as launchers take it.
    pub(super) fn cache(&self) -> BlockCache<'_> {
        self.cache.layer(0)
    }

    /// Positions that a slot has memory for.
    pub(super) fn capacity(&self) -> usize {
        self.cache.capacity()
    }

    /// The index of a position's key, of one head, among all vectors of the cache; its value follows as many later as
    /// a slot has keys.
    fn vector(&self, slot: u32, head: usize, position: usize) -> usize {
        (2 * slot as usize * self.config.n_head + head) * self.cache.capacity() + position
    }

    /// The first element of a key's octet of dimensions.
    fn key_octet(&self, vector: usize, octet: usize) -> usize {
        8 * ((vector / 32 * (self.config.head_dim() / 8) + octet) * 32 + vector % 32)
    }

    /// The same of a value.
    fn value_octet(&self, vector: usize, octet: usize) -> usize {
        let keys_of_slot = self.config.n_head * self.cache.capacity();
        (keys_of_slot + vector) * self.config.head_dim() + 8 * octet
    }

    /// The element for a [`Check`] that dimension `dim` of a row's keys, of all heads, is `value`.
    pub(super) fn key(&self, row: Row, dim: usize, value: f32) -> (usize, usize, f32) {
        self.element(row, dim, value, Self::key_octet)
    }

    /// The same for the heads' values.
    pub(super) fn value(&self, row: Row, dim: usize, value: f32) -> (usize, usize, f32) {
        self.element(row, dim, value, Self::value_octet)
    }

    fn element(
        &self,
        row: Row,
        dim: usize,
        value: f32,
        octet: fn(&Self, usize, usize) -> usize,
    ) -> (usize, usize, f32) {
        let head_dim = self.config.head_dim();
        let vector = self.vector(row.slot, dim / head_dim, row.position as usize);
        let element = octet(self, vector, dim % head_dim / 8) + dim % 8;
        (element / head_dim, element % head_dim, value)
    }

    /// The keys and values of a slot's first positions in a layer that was filled from `seed`.
    pub(super) fn histories(&self, seed: u32, slot: u32, positions: usize) -> [LayerCache; 2] {
        let head_dim = self.config.head_dim();
        let mut keys = LayerCache::new(&self.config, 1, positions);
        let mut values = LayerCache::new(&self.config, 1, positions);
        for i in 0..self.config.n_head * positions {
            let vector = self.vector(slot, i / positions, i % positions);
            for octet in 0..head_dim / 8 {
                let (key, value) = (self.key_octet(vector, octet), self.value_octet(vector, octet));
                let to = i * head_dim + 8 * octet..i * head_dim + 8 * octet + 8;
                keys.vectors_mut()[to.clone()].copy_from_slice(&reference::fill_random(seed, 1.0, key..key + 8));
                values.vectors_mut()[to].copy_from_slice(&reference::fill_random(seed, 1.0, value..value + 8));
            }
        }
        [keys, values]
    }
}

/// Makes tensors for one set of shapes on one GPU.
pub(super) struct Workbench {
    pub(super) gpu: Gpu,
    pub(super) config: Config,
    pub(super) tuning: Tuning,
    pub(super) kernels: Kernels,
    maker: Maker,
}

impl Workbench {
    pub(super) fn new(gpu: &Gpu, config: &Config, tuning: Tuning) -> Result<Self> {
        let is_dense = [config.n_embd, config.head_dim(), config.n_inner].iter().all(|size| size.is_multiple_of(8));
        assert!(is_dense, "the sizes that are measured need no padding");
        let kernels = Kernels::new(gpu, config, tuning);
        let maker = block_on(Maker::new(gpu, config, 1))?;
        Ok(Self { gpu: gpu.clone(), config: config.clone(), tuning, kernels, maker })
    }

    /// Configures the matmuls with few rows.
    pub(super) fn set_gemv(&mut self, gemv: GemvConfig) {
        self.tuning.gemv = gemv;
        self.kernels = Kernels::new(&self.gpu, &self.config, self.tuning);
    }

    /// A tensor of zeros in one buffer.
    pub(super) fn zeros(&self, name: &str, rows: usize, width: usize, format: Dtype) -> Result<Tensor> {
        block_on(Tensor::whole(&self.gpu, name, rows, width, format))
    }

    /// An f32 tensor with room for `capacity` rows, the first of which hold `values`.
    pub(super) fn floats(&self, name: &str, capacity: usize, width: usize, values: &[f32]) -> Result<Tensor> {
        let tensor = self.zeros(name, capacity, width, Dtype::F32)?;
        tensor.write_elements(&self.gpu, values);
        Ok(tensor)
    }

    /// Some 32-bit integers in one row.
    pub(super) fn integers(&self, name: &str, values: &[u32]) -> Result<Tensor> {
        let tensor = self.zeros(name, 1, values.len(), Dtype::U32)?;
        tensor.write_elements(&self.gpu, values);
        Ok(tensor)
    }

    /// A step of these rows with `n_outputs` outputs.
    pub(super) fn step(&self, rows: &[Row], n_outputs: usize) -> Result<Tensor> {
        let header = StepHeader {
            n_rows: rows.len() as u32,
            n_outputs: n_outputs as u32,
            n_positions: self.config.n_positions.next_multiple_of(32) as u32,
        };
        let words = [bytemuck::cast_slice(&[header]), bytemuck::cast_slice(rows)].concat();
        self.integers("step", &words)
    }

    /// A random f16 table in as many parts as the GPU needs, others like it, and the seed of the first.
    pub(super) fn matrices(&mut self, name: &str, [rows, width]: [usize; 2]) -> Result<(Vec<Tensor>, u32)> {
        let bytes = (rows * padded(width)) as u64 * Dtype::F16.bytes();
        let new = |_| block_on(Tensor::new(&self.gpu, name, rows, width, Dtype::F16));
        let tensors: Vec<_> = (0..copies(bytes)).map(new).collect::<Result<_>>()?;
        let seeds: Vec<u32> = tensors.iter().map(|tensor| self.maker.fill(tensor, synthetic::SCALE)).collect();
        Ok((tensors, seeds[0]))
    }

    /// A random matrix in panels with a bias, others like it, and the seed of the first.
    pub(super) fn linears(
        &mut self,
        name: &str,
        [features, inputs]: [usize; 2],
        bias: &[f32],
    ) -> Result<(Vec<Linear>, u32)> {
        let new = |_| {
            let weight = block_on(Matrix::new(&self.gpu, name, Storage::F16, features, inputs))?;
            Ok(Linear { weight, bias: self.floats("bias", 1, bias.len(), bias)? })
        };
        let linears: Vec<_> =
            (0..copies(Matrix::bytes(Storage::F16, features, inputs))).map(new).collect::<Result<_>>()?;
        let fill = |linear: &Linear| self.maker.fill(linear.weight.panels(), synthetic::SCALE);
        let seeds: Vec<u32> = linears.iter().map(fill).collect();
        Ok((linears, seeds[0]))
    }

    /// An empty cache of one block, with room for whole sequences.
    pub(super) fn layer(&self, n_slots: usize) -> Result<Layer> {
        let config = Config { n_layer: 1, ..self.config.clone() };
        let cache = block_on(KvCache::new(&self.gpu, &config, n_slots, config.n_positions))?;
        Ok(Layer { cache, config })
    }

    /// The same, filled as [`random`] does from the seed that is returned.
    pub(super) fn filled_layer(&mut self, n_slots: usize) -> Result<(Layer, u32)> {
        let layer = self.layer(n_slots)?;
        let seed = self.maker.fill(layer.cache().tensor, 1.0);
        Ok((layer, seed))
    }

    fn layer_bytes(&self, n_slots: usize) -> u64 {
        KvCache::bytes(&self.config, n_slots, self.config.n_positions) / self.config.n_layer as u64
    }

    /// The most such caches at once.
    pub(super) fn layers_at_once(&self, n_slots: usize) -> u64 {
        CACHE_BYTES / self.layer_bytes(n_slots)
    }
}

/// The number of copies of an operand of this size that are together larger than any cache.
pub(super) fn copies(bytes: u64) -> u64 {
    COLD_BYTES.div_ceil(bytes).clamp(1, MAX_COPIES)
}

/// Random numbers between -1 and 1, multiples of 1/1024.
pub(super) fn random(seed: u32, count: usize) -> Vec<f32> {
    reference::fill_random(seed, 1.0, 0..count)
}

/// Rows of a random table, dense.
pub(super) fn matrix_rows(seed: u32, width: usize, rows: &[usize]) -> Vec<f32> {
    let row = |&row: &usize| reference::fill_random(seed, synthetic::SCALE, row * width..(row + 1) * width);
    rows.iter().flat_map(row).collect()
}

/// Rows of a random matrix in panels, dense: its features.
pub(super) fn weight_rows(seed: u32, inputs: usize, features: &[usize]) -> Vec<f32> {
    let octet = |feature: usize, group: usize| {
        let start = feature / 32 * (32 * padded(inputs)) + in_panel(feature, 8 * group);
        reference::fill_random(seed, synthetic::SCALE, start..start + 8)
    };
    let row = |&feature: &usize| (0..inputs.div_ceil(8)).flat_map(move |group| octet(feature, group)).take(inputs);
    features.iter().flat_map(row).collect()
}

/// The index of one of a feature's inputs in its panel.
pub(super) fn in_panel(feature: usize, input: usize) -> usize {
    8 * (input / 8 * 32 + 8 * (feature % 4) + feature % 32 / 4) + input % 8
}

/// Indices below `size`, some in every kind of tile: both sides of each power of two, as tiles have borders there, the
/// odd thirds, and the last.
pub(super) fn sample(size: usize) -> Vec<usize> {
    let mut indices = vec![0, size / 3, 2 * size / 3, size.saturating_sub(2), size - 1];
    let mut power = 1;
    while power < size {
        indices.extend([power - 1, power]);
        power *= 2;
    }
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// These columns of dense rows, for a [`Check`]: `values[i]` is row `rows[i]`.
pub(super) fn elements(values: &[f32], rows: &[usize], columns: &[usize]) -> Vec<(usize, usize, f32)> {
    let width = values.len() / rows.len();
    let mut elements = Vec::new();
    for (values, &row) in values.chunks(width).zip(rows) {
        elements.extend(columns.iter().map(|&column| (row, column, values[column])));
    }
    elements
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
        let config = Config::preset("tiny").expect("there is one");
        let bench = Workbench::new(&gpu, &config, Tuning::for_adapter(gpu.info())).expect("room");
        let fault = |values: &[f32], expected: Vec<_>| {
            let tensor = bench.floats("numbers", 2, 3, values).expect("room");
            Check { written: tensor.into(), expected, tolerance: 0.1 }.fault(&gpu).expect("the GPU works")
        };
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, f32::NAN];
        assert_eq!(fault(&values, vec![(0, 1, 1.05), (1, 1, 3.95)]), None);
        let message = fault(&values, vec![(0, 1, 1.0), (1, 1, 4.2)]).expect("4 is not 4.2");
        assert_eq!(message, "1 of 2 sampled values are wrong; numbers[1, 1] is 4, not 4.2");
        assert!(fault(&values, vec![(1, 2, 5.0)]).is_some(), "NaN is wrong");
    }
}
