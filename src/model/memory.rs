//! Whether a model fits a GPU, and with how long a context: known before anything is allocated or uploaded.

use std::path::Path;

use crate::cache::Cache;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{AdapterInfo, Format, Gpu, padded};
use crate::regime::SPLIT_ROWS;
use crate::weights::Weights;

use super::LoadOptions;
use super::scratch::Scratch;

/// What a model takes of a GPU's memory, in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Budget {
    /// The parameters.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub cache: u64,
    /// Everything between the weights and the logits, and what the host reads these through.
    pub activations: u64,
    /// An estimate of what the driver and the allocator take for themselves.
    pub driver: u64,
}

/// What drivers take for pipelines, commands and staging, and what an allocator rounds up.
const DRIVER_BYTES: u64 = 128 << 20;

/// The shortest context worth having, and the steps in which a fitting one is looked for.
const CONTEXT_STEP: usize = 32;

impl Budget {
    /// For a model of this configuration with a context of its `n_positions`.
    pub fn new(config: &Config, options: &LoadOptions) -> Self {
        let row = padded(config.head_features().max(1)) as u64 * Format::F32.bytes();
        let readbacks = 2 * options.n_slots.min(SPLIT_ROWS) as u64 * row;
        let activations = Scratch::bytes(config, options) + readbacks;
        let cache = Cache::bytes(config, options.n_slots, config.n_positions);
        Self { weights: Weights::bytes(config), cache, activations, driver: DRIVER_BYTES }
    }

    /// What the engine allocates: all but the driver's part.
    pub fn allocated(&self) -> u64 {
        // A cache that no machine could hold is as large as a number can be.
        self.cache.saturating_add(self.weights + self.activations)
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.allocated().saturating_add(self.driver)
    }
}

/// What a GPU has room for.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Its memory in bytes, where its driver tells.
    pub memory: Option<u64>,
    /// The largest tensor that kernels can see in one piece, in bytes.
    pub piece: u64,
}

impl Room {
    /// Room for any model.
    pub const ANYTHING: Self = Self { memory: None, piece: u64::MAX };
}

impl From<&AdapterInfo> for Room {
    fn from(adapter: &AdapterInfo) -> Self {
        Self { memory: adapter.memory, piece: adapter.max_binding.min(adapter.max_buffer) }
    }
}

impl From<&Gpu> for Room {
    fn from(gpu: &Gpu) -> Self {
        Self { memory: gpu.memory(), piece: gpu.max_binding() }
    }
}

/// How a model will lie in a GPU's memory.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    /// The model's configuration with `n_positions` as many as it will have.
    pub config: Config,
    /// What it takes.
    pub budget: Budget,
}

impl MemoryPlan {
    /// The plan for the context that the options ask for, or else for the longest one that fits, up to the model's own.
    ///
    /// # Errors
    /// [`Error::Config`] where the configuration is impossible; [`Error::Option`] where the context asked for is not
    /// one that the model can have; [`Error::OutOfMemory`], with the numbers and what can be done, where it does not
    /// fit.
    pub fn new(room: Room, config: &Config, options: &LoadOptions) -> Result<Self> {
        let config = &config.clone().checked(Path::new("the configuration"))?;
        options.check(config)?;
        let with = |n_positions: usize| Config { n_positions, ..config.clone() };
        let wanted = options.context.unwrap_or(config.n_positions);
        let fits = |n_positions: &usize| fits(room, &with(*n_positions), options);
        let longest = if fits(&wanted) {
            Some(wanted)
        } else {
            let steps: Vec<_> = (1..wanted.div_ceil(CONTEXT_STEP)).map(|step| step * CONTEXT_STEP).collect();
            let fitting = steps.partition_point(fits);
            fitting.checked_sub(1).map(|last| steps[last])
        };
        match longest {
            Some(longest) if longest == wanted || options.context.is_none() => {
                let config = with(longest);
                let budget = Budget::new(&config, options);
                Ok(Self { config, budget })
            }
            _ => Err(refuse(room, &with(wanted), options, longest)),
        }
    }
}

fn fits(room: Room, config: &Config, options: &LoadOptions) -> bool {
    let in_memory = room.memory.is_none_or(|memory| Budget::new(config, options).total() <= memory);
    in_memory && largest_piece(config, options).1 <= room.piece
}

/// The largest tensor that kernels must see in one piece, and its bytes.
fn largest_piece(config: &Config, options: &LoadOptions) -> (&'static str, u64) {
    let cache = Cache::bytes(config, options.n_slots, config.n_positions) / config.n_layer as u64;
    let scratch = Scratch::largest(config, options);
    if cache >= scratch.1 { ("a block's cache", cache) } else { scratch }
}

fn refuse(room: Room, config: &Config, options: &LoadOptions, longest: Option<usize>) -> Error {
    let budget = Budget::new(config, options);
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    let Budget { weights, cache, activations, driver } = budget;
    let parts = [("weights", weights), ("cache", cache), ("activations", activations), ("the driver about", driver)]
        .map(|(name, bytes)| format!("{name} {}", gigabytes(bytes)))
        .join(", ");
    let (name, piece) = largest_piece(config, options);
    let in_memory = room.memory.filter(|memory| budget.total() > *memory);
    let limit = match in_memory {
        Some(memory) => format!("the GPU has {}", gigabytes(memory)),
        None => format!("{name} takes {piece} bytes in one piece, and the GPU binds at most {}", room.piece),
    };
    let advice = match (longest, in_memory) {
        (Some(longest), _) => format!("a context of {longest} fits"),
        (None, Some(_)) => "not even a context of 32 fits; it takes a GPU with more memory".to_owned(),
        (None, None) => "it takes fewer rows of a step (chunk) or fewer slots".to_owned(),
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
        let room = Room { memory: Some(memory), piece: 128 << 20 };
        MemoryPlan::new(room, &Config::default(), &LoadOptions { context, ..LoadOptions::default() })
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
    fn a_context_beyond_the_models_is_an_option_at_fault() {
        assert!(matches!(plan(16 * GIGABYTE, Some(2049)), Err(Error::Option { name: "context", .. })));
        assert!(matches!(plan(16 * GIGABYTE, Some(0)), Err(Error::Option { name: "context", .. })));
    }

    #[test]
    fn the_cache_must_fit_a_binding() {
        let room = Room { memory: None, piece: 128 << 20 };
        let options = LoadOptions { n_slots: 8, ..LoadOptions::default() };
        let plan = MemoryPlan::new(room, &Config::default(), &options).expect("some context fits");
        assert_eq!(plan.config.n_positions, 1024, "eight slots of 128 KiB a position and block");
    }

    /// The largest numbers that a configuration can have: what they make is more than 64 bits hold.
    #[test]
    fn what_no_machine_could_hold_is_refused() {
        let sizes =
            Config { n_embd: 1 << 20, n_head: 1 << 19, n_layer: 4096, n_positions: 1 << 20, ..Config::default() };
        let config = Config { rotary_dim: 2, n_inner: 1 << 20, ..sizes };
        let options = LoadOptions { n_slots: 1024, context: Some(1 << 20), ..LoadOptions::default() };
        let plan = MemoryPlan::new(Room::ANYTHING, &config, &options).expect("room for any model");
        assert_eq!(plan.budget.total(), u64::MAX);
        let room = Room { memory: Some(16 * GIGABYTE), ..Room::ANYTHING };
        assert!(matches!(MemoryPlan::new(room, &config, &options), Err(Error::OutOfMemory { .. })));
    }
}
