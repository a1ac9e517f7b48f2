//! LoRA adapters as PEFT saves them: each adds the product of two small matrices to some matrices of the blocks.
//!
//! An adapter is checked against the model when it is added; its numbers are read with the matrix they change. Several
//! adapters of one matrix are concatenated into one product, so that the sum is rounded once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
#[cfg(feature = "pytorch")]
use crate::formats::pytorch::PytorchFile;
use crate::formats::safetensors::SafetensorsFile;
use crate::message::list;
use crate::names::{BlockTensor, TensorName};
use crate::source::Source;

/// The matrices that an adapter may change.
const TARGETS: [BlockTensor; 6] = [
    BlockTensor::QProj,
    BlockTensor::KProj,
    BlockTensor::VProj,
    BlockTensor::OutProj,
    BlockTensor::FcInWeight,
    BlockTensor::FcOutWeight,
];

/// An adapter that fits the model.
pub struct Adapter {
    path: PathBuf,
    scale: f32,
    source: Box<dyn Source>,
    pairs: BTreeMap<Target, Pair>,
}

/// A matrix: its block and its index in [`TARGETS`].
type Target = (usize, usize);

/// The names of a matrix's `lora_A` and `lora_B`; `lora_B` is multiplied by `factor`.
struct Pair {
    a: String,
    b: String,
    rank: usize,
    factor: f32,
}

/// The product `b · a` that adapters add to a matrix.
pub struct LowRank {
    /// The columns of `b` and rows of `a`.
    pub rank: usize,
    /// (outputs, rank), multiplied by all factors.
    pub b: Vec<f32>,
    /// (rank, inputs)
    pub a: Vec<f32>,
}

impl Adapter {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The caller's factor, on top of its own.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The number of matrices that it changes.
    pub fn matrices(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn open(directory: &Path, scale: f32, config: &Config) -> Result<Self> {
        if !scale.is_finite() {
            return Err(Error::option("lora", format!("the scale {scale} is not a finite number")));
        }
        let settings = Settings::read(&directory.join("adapter_config.json"))?;
        let safetensors = directory.join("adapter_model.safetensors");
        let pickled = directory.join("adapter_model.bin");
        let source: Box<dyn Source> = if safetensors.exists() {
            Box::new(SafetensorsFile::new(FileBytes::open(&safetensors)?)?)
        } else if pickled.exists() {
            open_pickled(&pickled)?
        } else {
            let reason = "no adapter_model.safetensors and no adapter_model.bin in this directory";
            return Err(Error::checkpoint(directory, reason));
        };
        let pairs = pairs(source.as_ref(), &settings, scale, config)?;
        Ok(Self { path: directory.to_owned(), scale, source, pairs })
    }
}

#[cfg(feature = "pytorch")]
fn open_pickled(path: &Path) -> Result<Box<dyn Source>> {
    Ok(Box::new(PytorchFile::new(FileBytes::open(path)?)?))
}

#[cfg(not(feature = "pytorch"))]
fn open_pickled(path: &Path) -> Result<Box<dyn Source>> {
    Err(Error::checkpoint(path, "this program was built without the feature pytorch, which reads such files"))
}

impl LowRank {
    /// The sum of the adapters' products for a tensor of a block; `None` if none of them changes it.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a number of an adapter is not finite.
    pub(crate) fn of(adapters: &[Adapter], layer: usize, tensor: BlockTensor, config: &Config) -> Result<Option<Self>> {
        let Some(index) = TARGETS.iter().position(|target| *target == tensor) else { return Ok(None) };
        let of_adapter = |adapter: &Adapter| adapter.pairs.contains_key(&(layer, index));
        if !adapters.iter().any(of_adapter) {
            return Ok(None);
        }
        let (mut rank, mut a, mut columns) = (0, Vec::new(), Vec::new());
        for adapter in adapters {
            let Some(pair) = adapter.pairs.get(&(layer, index)) else { continue };
            rank += pair.rank;
            a.extend(adapter.source.view(&pair.a)?.to_f32()?);
            let view = adapter.source.view(&pair.b)?;
            let mut b = view.to_f32()?;
            for number in &mut b {
                *number *= pair.factor;
            }
            if let Some(element) = b.iter().position(|number| !number.is_finite()) {
                let reason = format!("element {element} is too large to be multiplied by {}", pair.factor);
                return Err(Error::tensor(&pair.b, view.path(), reason));
            }
            columns.push((pair.rank, b));
        }
        let outputs = TensorName::Block(layer, tensor).shape(config)[0];
        let row = |row: usize| columns.iter().flat_map(move |(rank, b)| &b[row * rank..(row + 1) * rank]).copied();
        Ok(Some(Self { rank, b: (0..outputs).flat_map(row).collect(), a }))
    }

    /// Adds the product's elements from `start` on to `numbers`.
    pub fn add_to(&self, start: usize, numbers: &mut [f32]) {
        let inputs = self.a.len() / self.rank;
        let mut done = 0;
        while done < numbers.len() {
            let (row, column) = ((start + done) / inputs, (start + done) % inputs);
            let count = (inputs - column).min(numbers.len() - done);
            let numbers = &mut numbers[done..done + count];
            for (&b, a) in self.b[row * self.rank..][..self.rank].iter().zip(self.a.chunks_exact(inputs)) {
                for (number, &a) in numbers.iter_mut().zip(&a[column..]) {
                    *number += b * a;
                }
            }
            done += count;
        }
    }
}

/// The keys of an `adapter_config.json` that matter. `target_modules` does not: the tensors' names say the same; nor
/// does `fan_in_fan_out`, which has no effect on linear layers like GPT-J's.
#[derive(Deserialize)]
struct Settings {
    #[serde(skip)]
    path: PathBuf,
    peft_type: Option<String>,
    #[serde(default = "default_rank")]
    r: usize,
    #[serde(default = "default_alpha")]
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, usize>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn default_rank() -> usize {
    8
}

fn default_alpha() -> f64 {
    8.0
}

/// Keys that, unless empty, mean more than two matrices per target, or changes to the model itself.
const MORE_THAN_LORA: [&str; 15] = [
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "lora_ga_config",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];

/// Values of `init_lora_weights` that leave the model itself unchanged; others change it.
const PLAIN_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl Settings {
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::read(path, error))?;
        let mut settings: Self = serde_json::from_str(&text).map_err(|error| Error::config(path, error.to_string()))?;
        settings.path = path.to_owned();
        settings.check().map_err(|reason| Error::config(path, reason))?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        let kind = self.peft_type.as_deref().unwrap_or("missing");
        if kind != "LORA" {
            return Err(format!("peft_type is {kind}; only LORA can be merged"));
        }
        let is_empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            _ => false,
        };
        let is_set = |key: &&str| self.others.get(*key).is_some_and(|value| !is_empty(value));
        if let Some(key) = MORE_THAN_LORA.iter().find(|key| is_set(key)) {
            return Err(format!("{key} is {}; only adapters without it can be merged", self.others[*key]));
        }
        match self.others.get("bias") {
            None | Some(Value::Null) => {}
            Some(bias) if bias == "none" => {}
            Some(bias) => return Err(format!("bias is {bias}; only adapters whose bias is none can be merged")),
        }
        match self.others.get("init_lora_weights") {
            Some(Value::String(name)) if !PLAIN_INITS.contains(&name.as_str()) => {
                let advice = "save the adapter as plain LORA, as PEFT's path_initial_model_for_weight_conversion does";
                return Err(format!("init_lora_weights is {name}, which changes the model itself; {advice}"));
            }
            _ => {}
        }
        let ranks = self.rank_pattern.iter().flatten().map(|(key, rank)| (key.as_str(), *rank));
        for (key, rank) in [("r", self.r)].into_iter().chain(ranks) {
            if rank == 0 {
                return Err(format!("the rank {key} is 0; it must be at least 1"));
            }
        }
        let patterns = self.rank_pattern.iter().flatten().map(|(key, _)| key);
        for pattern in patterns.chain(self.alpha_pattern.iter().flatten().map(|(key, _)| key)) {
            // PEFT treats them as regular expressions.
            if !pattern.chars().all(|letter| letter.is_ascii_alphanumeric() || "._".contains(letter)) {
                return Err(format!("the pattern {pattern:?} is not a module's name; list each module by name"));
            }
        }
        Ok(())
    }

    /// The value of the pattern that ends a module's name; `default` if there is none.
    fn of_module<T: Copy + PartialEq>(
        &self,
        patterns: Option<&BTreeMap<String, T>>,
        module: &str,
        default: T,
    ) -> Result<T> {
        let matches = |pattern: &str| {
            module.strip_suffix(pattern).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let mut found = patterns.into_iter().flatten().filter(|(pattern, _)| matches(pattern));
        let Some((first, value)) = found.next() else { return Ok(default) };
        match found.find(|(_, other)| *other != value) {
            None => Ok(*value),
            Some((other, _)) => {
                Err(Error::config(&self.path, format!("the patterns {first} and {other} are both for {module}")))
            }
        }
    }

    /// The rank of a module's matrices, and the factor of their product.
    fn rank_and_factor(&self, module: &str, scale: f32) -> Result<(usize, f32)> {
        let rank = self.of_module(self.rank_pattern.as_ref(), module, self.r)?;
        let alpha = self.of_module(self.alpha_pattern.as_ref(), module, self.lora_alpha)?;
        let divisor = if self.use_rslora == Some(true) { (rank as f64).sqrt() } else { rank as f64 };
        let factor = (f64::from(scale) * alpha / divisor) as f32;
        if !factor.is_finite() {
            let reason = format!("lora_alpha is {alpha}, too large with the scale {scale}");
            return Err(Error::config(&self.path, reason));
        }
        Ok((rank, factor))
    }
}

/// The two tensors of each changed matrix, after checking that both are there and have the right shape.
fn pairs(source: &dyn Source, settings: &Settings, scale: f32, config: &Config) -> Result<BTreeMap<Target, Pair>> {
    let mut names = source.names();
    names.sort();
    // For each matrix its module's name, its lora_A and its lora_B.
    let mut found: BTreeMap<Target, (String, [Option<String>; 2])> = BTreeMap::new();
    let mut others = Vec::new();
    for name in names {
        let Some((target, module, side)) = parse(&name) else {
            others.push(name);
            continue;
        };
        if target.0 >= config.n_layer {
            let reason = format!("it is for block {}, but the model has {} blocks", target.0, config.n_layer);
            return Err(Error::tensor(&name, source.path(), reason));
        }
        let (_, sides) = found.entry(target).or_insert((module.to_owned(), [None, None]));
        if let Some(other) = sides[side].replace(name) {
            return Err(Error::tensor(&other, source.path(), "the same tensor is here under another name"));
        }
    }
    if !others.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.module()).collect();
        let reason =
            format!("only LoRA of the blocks' {} can be merged, and it has {}", names.join(", "), list(&others));
        return Err(Error::checkpoint(source.path(), reason));
    }
    if found.is_empty() {
        return Err(Error::checkpoint(source.path(), "it has no tensors"));
    }
    let pair = |(target, (module, sides)): (Target, (String, [Option<String>; 2]))| {
        let (layer, index) = target;
        let (a, b) = match sides {
            [Some(a), Some(b)] => (a, b),
            [Some(one), None] => return Err(Error::tensor(&one, source.path(), "its lora_B is missing")),
            [None, Some(one)] => return Err(Error::tensor(&one, source.path(), "its lora_A is missing")),
            [None, None] => unreachable!("an entry has at least one tensor"),
        };
        let (rank, factor) = settings.rank_and_factor(&module, scale)?;
        let shape = TensorName::Block(layer, TARGETS[index]).shape(config);
        for (name, expected) in [(&a, [rank, shape[1]]), (&b, [shape[0], rank])] {
            let view = source.view(name)?;
            if view.shape() != expected {
                let reason = format!("its shape is {:?}; the model and the rank make it {expected:?}", view.shape());
                return Err(Error::tensor(name, source.path(), reason));
            }
        }
        Ok((target, Pair { a, b, rank, factor }))
    };
    found.into_iter().map(pair).collect()
}

/// A tensor's matrix, its module's name in PEFT, and whether it is lora_A (0) or lora_B (1).
fn parse(name: &str) -> Option<(Target, &str, usize)> {
    let rest = name.strip_prefix("base_model.model.").unwrap_or(name);
    let rest = rest.strip_suffix(".weight")?;
    let rest = rest.strip_suffix(".default").unwrap_or(rest);
    let (module, side) = match rest.strip_suffix(".lora_A") {
        Some(module) => (module, 0),
        None => (rest.strip_suffix(".lora_B")?, 1),
    };
    let block = module.strip_prefix("transformer.").unwrap_or(module).strip_prefix("h.")?;
    let (layer, inner) = block.split_once('.')?;
    let index = TARGETS.iter().position(|target| target.module() == inner)?;
    Some(((layer.parse().ok()?, index), module, side))
}
