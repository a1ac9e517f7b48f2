//! Where cases are put together: tensors with known contents, and the check of what a kernel made of them.

use gptj::internals::cache::Cache;
use gptj::internals::gpu::{Format, Plan, StepSize, Submission, Tensor, padded};
use gptj::internals::kernels::{Kernels, Row, StepHeader};
use gptj::internals::reference::{self, LayerCache};
use gptj::internals::regime::{Geometry, VectorShape};
use gptj::internals::synthetic::{self, Maker};
use gptj::internals::weights::{Linear, Matrix};
use gptj::{Config, Gpu, Result};
use half::f16;
use pollster::block_on;

/// Work that is done over so many bytes comes from memory and not from a cache.
const COLD_BYTES: u64 = 256 << 20;

/// Copies of an operand at most; small operands stay in caches in a model as well.
const MAX_COPIES: u64 = 8;

/// What the copies of a cache may take together.
const CACHE_BYTES: u64 = 1 << 30;

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

/// What a kernel writes to.
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

/// Elements of what was written as they must be after one run.
pub(super) struct Check {
    pub(super) written: Written,
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
        let Self { written, wanted, tolerance } = self;
        let tensor = match written {
            Written::Tensor(tensor) => tensor,
            Written::Layer(layer) => layer.cache().1,
            Written::Matrix(matrix) => matrix.panels(),
        };
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

/// The cache of one block.
pub(super) struct Layer {
    cache: Cache,
    config: Config,
}

impl Layer {
    /// What launchers take.
    pub(super) fn cache(&self) -> (&Cache, &Tensor) {
        (&self.cache, self.cache.layer(0))
    }

    /// The number of a place's vector, of one head, among all keys or values.
    fn vector(&self, slot: u32, head: usize, position: usize) -> usize {
        (slot as usize * self.config.n_head + head) * self.cache.room() + position
    }

    /// The element that begins a key's chunk of eight dimensions.
    fn key_chunk(&self, vector: usize, chunk: usize) -> usize {
        8 * ((vector / 32 * (self.config.head_dim() / 8) + chunk) * 32 + vector % 32)
    }

    /// The same of a value.
    fn value_chunk(&self, vector: usize, chunk: usize) -> usize {
        let n_keys = self.cache.n_slots() * self.config.n_head * self.cache.room();
        (n_keys + vector) * self.config.head_dim() + 8 * chunk
    }

    /// What a [`Check`] wants where dimension `dim` of all heads' keys of a place is `value`.
    pub(super) fn key(&self, place: Row, dim: usize, value: f32) -> (usize, usize, f32) {
        self.element(place, dim, value, Self::key_chunk)
    }

    /// The same for the heads' values.
    pub(super) fn value(&self, place: Row, dim: usize, value: f32) -> (usize, usize, f32) {
        self.element(place, dim, value, Self::value_chunk)
    }

    fn element(
        &self,
        place: Row,
        dim: usize,
        value: f32,
        chunk: fn(&Self, usize, usize) -> usize,
    ) -> (usize, usize, f32) {
        let head_dim = self.config.head_dim();
        let vector = self.vector(place.slot, dim / head_dim, place.position as usize);
        let element = chunk(self, vector, dim % head_dim / 8) + dim % 8;
        (element / head_dim, element % head_dim, value)
    }

    /// The keys and values of a slot's first positions in a layer that was filled from `seed`.
    pub(super) fn histories(&self, seed: u32, slot: u32, positions: usize) -> [LayerCache; 2] {
        let head_dim = self.config.head_dim();
        let mut histories = [(); 2].map(|()| LayerCache::new(&self.config, 1, positions));
        let [keys, values] = histories.each_mut().map(LayerCache::vectors_mut);
        for (i, (key, value)) in keys.chunks_exact_mut(head_dim).zip(values.chunks_exact_mut(head_dim)).enumerate() {
            let vector = self.vector(slot, i / positions, i % positions);
            for (chunk, (key, value)) in key.chunks_exact_mut(8).zip(value.chunks_exact_mut(8)).enumerate() {
                let [from_key, from_value] = [self.key_chunk(vector, chunk), self.value_chunk(vector, chunk)];
                key.copy_from_slice(&reference::fill_random(seed, 1.0, from_key..from_key + 8));
                value.copy_from_slice(&reference::fill_random(seed, 1.0, from_value..from_value + 8));
            }
        }
        histories
    }
}

/// Makes tensors for one set of shapes on one GPU.
pub(super) struct Workbench {
    pub(super) gpu: Gpu,
    pub(super) config: Config,
    pub(super) geometry: Geometry,
    pub(super) kernels: Kernels,
    maker: Maker,
}

impl Workbench {
    pub(super) fn new(gpu: &Gpu, config: &Config, geometry: Geometry) -> Result<Self> {
        let is_dense = [config.n_embd, config.head_dim(), config.n_inner].iter().all(|size| size.is_multiple_of(8));
        assert!(is_dense, "the sizes that are measured need no padding");
        let kernels = Kernels::new(gpu, config, config.n_positions, geometry);
        let maker = block_on(Maker::new(gpu, config, 1))?;
        Ok(Self { gpu: gpu.clone(), config: config.clone(), geometry, kernels, maker })
    }

    /// Gives the products with few rows another shape.
    pub(super) fn reshape(&mut self, vector: VectorShape) {
        self.geometry.vector = vector;
        self.kernels = Kernels::new(&self.gpu, &self.config, self.config.n_positions, self.geometry);
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
    pub(super) fn integers(&self, name: &str, values: &[u32]) -> Result<Tensor> {
        let tensor = self.zeros(name, 1, values.len(), Format::U32)?;
        tensor.write_elements(&self.gpu, values);
        Ok(tensor)
    }

    /// A step of these rows, or of so many outputs.
    pub(super) fn step(&self, rows: &[Row], n_outputs: usize) -> Result<Tensor> {
        let header = StepHeader { n_rows: rows.len() as u32, n_outputs: n_outputs as u32 };
        let words = [bytemuck::cast_slice(&[header]), bytemuck::cast_slice(rows)].concat();
        self.integers("step", &words)
    }

    /// A random f16 table in as many parts as the GPU needs, others like it, and the seed of the first.
    pub(super) fn matrices(&mut self, name: &str, [rows, width]: [usize; 2]) -> Result<(Vec<Tensor>, u32)> {
        let bytes = (rows * padded(width)) as u64 * Format::F16.bytes();
        let new = |_| block_on(Tensor::new(&self.gpu, name, rows, width, Format::F16));
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
            let weight = block_on(Matrix::new(&self.gpu, name, features, inputs))?;
            Ok(Linear { weight, bias: self.floats("bias", 1, bias.len(), bias)? })
        };
        let linears: Vec<_> = (0..copies(Matrix::bytes(features, inputs))).map(new).collect::<Result<_>>()?;
        let fill = |linear: &Linear| self.maker.fill(linear.weight.panels(), synthetic::SCALE);
        let seeds: Vec<u32> = linears.iter().map(fill).collect();
        Ok((linears, seeds[0]))
    }

    /// An empty cache of one block, with room for whole sequences.
    pub(super) fn layer(&self, n_slots: usize) -> Result<Layer> {
        let config = Config { n_layer: 1, ..self.config.clone() };
        let cache = block_on(Cache::new(&self.gpu, &config, n_slots, config.n_positions))?;
        Ok(Layer { cache, config })
    }

    /// The same, filled with what [`random`] makes of the seed that comes with it.
    pub(super) fn filled_layer(&mut self, n_slots: usize) -> Result<(Layer, u32)> {
        let layer = self.layer(n_slots)?;
        let seed = self.maker.fill(layer.cache().1, 1.0);
        Ok((layer, seed))
    }

    fn layer_bytes(&self, n_slots: usize) -> u64 {
        Cache::bytes(&self.config, n_slots, self.config.n_positions) / self.config.n_layer as u64
    }

    /// Whether kernels can see the cache of a block for so many slots.
    pub(super) fn holds_slots(&self, n_slots: usize) -> bool {
        self.layer_bytes(n_slots) <= self.gpu.max_binding()
    }

    /// How many such caches there may be at once.
    pub(super) fn layers_at_once(&self, n_slots: usize) -> u64 {
        CACHE_BYTES / self.layer_bytes(n_slots)
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

/// Rows of a random table, dense.
pub(super) fn matrix_rows(seed: u32, width: usize, rows: &[usize]) -> Vec<f32> {
    let row = |&row: &usize| reference::fill_random(seed, synthetic::SCALE, row * width..(row + 1) * width);
    rows.iter().flat_map(row).collect()
}

/// Rows of a random matrix in panels, dense: its features.
pub(super) fn weight_rows(seed: u32, inputs: usize, features: &[usize]) -> Vec<f32> {
    let chunk = |feature: usize, group: usize| {
        let start = feature / 32 * (32 * inputs) + in_panel(feature, 8 * group);
        reference::fill_random(seed, synthetic::SCALE, start..start + 8)
    };
    features.iter().flat_map(|&feature| (0..inputs / 8).flat_map(move |group| chunk(feature, group))).collect()
}

/// Where a feature's panel has one of its inputs.
pub(super) fn in_panel(feature: usize, input: usize) -> usize {
    8 * (input / 8 * 32 + 8 * (feature % 4) + feature % 32 / 4) + input % 8
}

/// Indices below `size` among which every kind of tile has some: both sides of each power of two, where any tile's
/// border is, the odd thirds, and the last.
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
        let config = Config::preset("tiny").expect("there is one");
        let bench = Workbench::new(&gpu, &config, Geometry::for_adapter(gpu.info())).expect("room");
        let fault = |values: &[f32], wanted: Vec<_>| {
            let tensor = bench.floats("numbers", 2, 3, values).expect("room");
            Check { written: tensor.into(), wanted, tolerance: 0.1 }.fault(&gpu).expect("the GPU works")
        };
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, f32::NAN];
        assert_eq!(fault(&values, vec![(0, 1, 1.05), (1, 1, 3.95)]), None);
        let message = fault(&values, vec![(0, 1, 1.0), (1, 1, 4.2)]).expect("4 is not 4.2");
        assert_eq!(message, "1 of 2 sampled values are wrong; numbers[1, 1] is 4, not 4.2");
        assert!(fault(&values, vec![(1, 2, 5.0)]).is_some(), "NaN is wrong");
    }
}
