//! Whether a model fits a GPU, and the longest context that does, before anything is allocated or uploaded.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{AdapterInfo, Dtype, Gpu, padded};
use crate::kernels::SPLIT_ROWS;
use crate::kv_cache::KvCache;
use crate::weights::Weights;
use gptj_checkpoint::Config;

use super::LoadOptions;
use super::scratch::Scratch;

/// The GPU memory that a model takes, in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct MemoryUsage {
    /// The parameters.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub cache: u64,
    /// Everything between the weights and the logits, and the buffers through which the host reads logits.
    pub activations: u64,
    /// An estimate of the driver's and the allocator's own memory.
    pub driver: u64,
}

/// Pipelines, commands and staging of drivers, and the rounding of an allocator.
const DRIVER_BYTES: u64 = 128 << 20;

/// The shortest context worth having, and the granularity of the search for one that fits.
const CONTEXT_STEP: usize = 32;

impl MemoryUsage {
    /// That of a model of this configuration with a context of `n_positions`.
    pub fn new(config: &Config, options: &LoadOptions) -> Self {
        let row = padded(config.head_features().max(1)) as u64 * Dtype::F32.bytes();
        let readbacks = 2 * options.n_slots.min(SPLIT_ROWS) as u64 * row;
        let activations = Scratch::bytes(config, options) + readbacks;
        let cache = KvCache::bytes(config, options.n_slots, config.n_positions);
        Self { weights: Weights::bytes(config), cache, activations, driver: DRIVER_BYTES }
    }

    /// Bytes of weights that one decoded token reads: all but the embedding, of which it reads one row.
    pub fn weights_per_token(config: &Config) -> u64 {
        Weights::bytes_per_token(config)
    }

    /// The engine's own allocations: all but the driver's.
    pub fn allocated(&self) -> u64 {
        // The sizes of an impossible cache saturate.
        self.cache.saturating_add(self.weights + self.activations)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.allocated().saturating_add(self.driver)
    }
}

/// The memory of a GPU.
#[derive(Debug, Clone, Copy)]
pub struct DeviceCapacity {
    /// All of it in bytes, if the driver reports it.
    pub memory: Option<u64>,
    /// The largest tensor that a kernel can bind, in bytes.
    pub piece: u64,
}

impl DeviceCapacity {
    /// Enough for any model.
    pub const ANYTHING: Self = Self { memory: None, piece: u64::MAX };
}

impl From<&AdapterInfo> for DeviceCapacity {
    fn from(adapter: &AdapterInfo) -> Self {
        Self { memory: adapter.memory, piece: adapter.max_binding.min(adapter.max_buffer) }
    }
}

impl From<&Gpu> for DeviceCapacity {
    fn from(gpu: &Gpu) -> Self {
        Self { memory: gpu.memory(), piece: gpu.max_binding() }
    }
}

/// A model's configuration and memory on a GPU.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    /// The model's configuration; `n_positions` is the planned context.
    pub config: Config,
    /// The memory that it takes.
    pub budget: MemoryUsage,
}

impl MemoryPlan {
    /// The plan for the context that the options ask for, or else for the longest one that fits, up to the model's own.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the configuration is impossible; [`Error::Option`] if an option is out of range;
    /// [`Error::OutOfMemory`], with the numbers and what can be done, if it does not fit.
    pub fn new(capacity: DeviceCapacity, config: &Config, options: &LoadOptions) -> Result<Self> {
        let config = &config.clone().checked(Path::new("the configuration"))?;
        options.check(config)?;
        let with = |n_positions: usize| Config { n_positions, ..config.clone() };
        let context = options.context.unwrap_or(config.n_positions);
        let fits = |n_positions: &usize| fits(capacity, &with(*n_positions), options);
        let longest = if fits(&context) {
            Some(context)
        } else {
            let steps: Vec<_> = (1..context.div_ceil(CONTEXT_STEP)).map(|step| step * CONTEXT_STEP).collect();
            let fitting = steps.partition_point(fits);
            fitting.checked_sub(1).map(|last| steps[last])
        };
        match longest {
            Some(longest) if longest == context || options.context.is_none() => {
                let config = with(longest);
                let budget = MemoryUsage::new(&config, options);
                Ok(Self { config, budget })
            }
            _ => Err(refuse(capacity, &with(context), options, longest)),
        }
    }
}

fn fits(capacity: DeviceCapacity, config: &Config, options: &LoadOptions) -> bool {
    let in_memory = capacity.memory.is_none_or(|memory| MemoryUsage::new(config, options).total() <= memory);
    in_memory && largest_binding(config, options).1 <= capacity.piece
}

/// The largest tensor that a kernel must bind whole, and its bytes.
fn largest_binding(config: &Config, options: &LoadOptions) -> (&'static str, u64) {
    let cache = KvCache::bytes(config, options.n_slots, config.n_positions) / config.n_layer as u64;
    let scratch = Scratch::largest(config, options);
    if cache >= scratch.1 { ("a block's cache", cache) } else { scratch }
}

fn refuse(capacity: DeviceCapacity, config: &Config, options: &LoadOptions, longest: Option<usize>) -> Error {
    let budget = MemoryUsage::new(config, options);
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    let MemoryUsage { weights, cache, activations, driver } = budget;
    let parts = [("weights", weights), ("cache", cache), ("activations", activations), ("the driver about", driver)]
        .map(|(name, bytes)| format!("{name} {}", gigabytes(bytes)))
        .join(", ");
    let (name, bytes) = largest_binding(config, options);
    let too_little = capacity.memory.filter(|memory| budget.total() > *memory);
    let limit = match too_little {
        Some(memory) => format!("the GPU has {}", gigabytes(memory)),
        None => format!("{name} takes {bytes} bytes, and the GPU binds at most {} at once", capacity.piece),
    };
    let advice = match (longest, too_little) {
        (Some(longest), _) => format!("a context of {longest} fits"),
        (None, Some(_)) => "not even a context of 32 fits; use a GPU with more memory".to_owned(),
        (None, None) => "set fewer rows of a step (chunk) or fewer slots".to_owned(),
    };
    Error::OutOfMemory {
        what: format!("a context of {}", config.n_positions),
        bytes: budget.total(),
        reason: format!("{parts}; {limit}; {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIGABYTE: u64 = 1_000_000_000;

    fn plan(memory: u64, context: Option<usize>) -> Result<MemoryPlan> {
        let capacity = DeviceCapacity { memory: Some(memory), piece: 128 << 20 };
        MemoryPlan::new(capacity, &Config::default(), &LoadOptions { context, ..LoadOptions::default() })
    }

    #[test]
    fn gpt_j_6b_fits_16_gigabytes_with_its_context_full() {
        let plan = plan(16 * GIGABYTE, None).expect("it fits");
        assert_eq!(plan.config.n_positions, 2048);
        assert!(plan.budget.total() < 13_500_000_000, "{:?}", plan.budget);
    }

    #[test]
    fn a_context_is_made_as_long_as_fits_unless_it_is_asked_for() {
        let memory = 12_800_000_000;
        let fitting = plan(memory, None).expect("some context fits").config.n_positions;
        assert!((32..2048).contains(&fitting), "{fitting}");
        assert!(plan(memory, Some(fitting)).is_ok());
        let error = plan(memory, Some(fitting + 32)).expect_err("it is too long").to_string();
        for words in [format!("a context of {} (", fitting + 32), format!("a context of {fitting} fits")] {
            assert!(error.contains(&words), "{error}");
        }
        for words in ["weights 12.10 GB", "the GPU has 12.80 GB"] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let error = plan(8 * GIGABYTE, None).expect_err("they do not fit").to_string();
        assert!(error.contains("not even a context of 32 fits"), "{error}");
    }

    #[test]
    fn a_context_beyond_the_models_is_an_option_error() {
        assert!(matches!(plan(16 * GIGABYTE, Some(2049)), Err(Error::Option { name: "context", .. })));
        assert!(matches!(plan(16 * GIGABYTE, Some(0)), Err(Error::Option { name: "context", .. })));
    }

    #[test]
    fn the_cache_must_fit_a_binding() {
        let capacity = DeviceCapacity { memory: None, piece: 128 << 20 };
        let options = LoadOptions { n_slots: 8, ..LoadOptions::default() };
        let plan = MemoryPlan::new(capacity, &Config::default(), &options).expect("some context fits");
        assert_eq!(plan.config.n_positions, 1024, "eight slots of 128 KiB per position and block");
    }

    /// The largest sizes that a configuration can have: their product overflows 64 bits.
    #[test]
    fn an_impossibly_large_model_is_refused() {
        let sizes =
            Config { n_embd: 1 << 20, n_head: 1 << 19, n_layer: 4096, n_positions: 1 << 20, ..Config::default() };
        let config = Config { rotary_dim: 2, n_inner: 1 << 20, ..sizes };
        let options = LoadOptions { n_slots: 1024, context: Some(1 << 20), ..LoadOptions::default() };
        let plan = MemoryPlan::new(DeviceCapacity::ANYTHING, &config, &options).expect("any model fits");
        assert_eq!(plan.budget.total(), u64::MAX);
        let capacity = DeviceCapacity { memory: Some(16 * GIGABYTE), ..DeviceCapacity::ANYTHING };
        assert!(matches!(MemoryPlan::new(capacity, &config, &options), Err(Error::OutOfMemory { .. })));
    }
}
