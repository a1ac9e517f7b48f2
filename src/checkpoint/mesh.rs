//! Checkpoints of mesh-transformer-jax, which trained GPT-J-6B, in their slim form, without the optimizer's state
//! (<https://github.com/kingoflolz/mesh-transformer-jax>).
//!
//! A directory `step_N` has a directory `shard_I` for each core of the model, and that the files `0.npz`, `1.npz`, …
//! with the core's arrays one after another. They have no names: their order is that of the model's parameters by name,
//! in which `layer_10` comes before `layer_2`. A matrix has its inputs outermost, and each core has some of its outputs
//! or some of its inputs. A bias of what all cores add up is the sum of all cores' biases; the embedding has such a
//! one, too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Source;
use super::names::{BlockTensor, TensorName};
use super::npz::NpzFile;
use super::numbers::{Numbers, TensorView};
use super::pieces::{Biased, Joined, Sum, Transposed};
use crate::config::{Class, Config};
use crate::error::{Error, Result};

/// A checkpoint whose arrays are all there and have their shapes.
struct Mesh {
    path: PathBuf,
    shards: Vec<Shard>,
    /// By the names that Hugging Face has for them.
    tensors: HashMap<String, Tensor>,
}

/// What one core had.
struct Shard {
    files: Vec<NpzFile>,
    /// The file of each array, and its place there.
    arrays: Vec<(usize, usize)>,
}

/// A tensor of the model.
struct Tensor {
    /// The index of its array in every shard.
    array: usize,
    /// The array of the bias that is part of it.
    bias: Option<usize>,
    split: Split,
    shape: Vec<usize>,
}

/// How a tensor is divided among the shards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    /// Each has some of the rows.
    Rows,
    /// Each has some of the outputs of a matrix, which is transposed.
    Outputs,
    /// Each has some of the inputs of a matrix, which is transposed.
    Inputs,
    /// Their sum is meant.
    Sum,
    /// Each has all of it, and the first one's is meant.
    Same,
}

impl Split {
    /// The shape of what each of some shards has of a tensor, which they divide.
    fn shape(self, tensor: &[usize], shards: usize) -> Vec<usize> {
        match (self, tensor) {
            (Self::Rows, [rows, rest @ ..]) => [&[rows / shards], rest].concat(),
            (Self::Outputs, [outputs, inputs]) => vec![*inputs, outputs / shards],
            (Self::Inputs, [outputs, inputs]) => vec![inputs / shards, *outputs],
            _ => tensor.to_vec(),
        }
    }
}

/// A parameter's module and its name there, as the checkpoint's arrays are ordered by them.
type Parameter = (String, &'static str);

/// The bias of the embedding, which is part of it.
fn embedding_bias() -> Parameter {
    ("embedding_shard/~/linear".to_owned(), "b")
}

fn parameter(name: TensorName) -> (Parameter, Split) {
    let (module, parameter, split) = match name {
        TensorName::Wte => ("embedding_shard/~/linear".to_owned(), "w", Split::Rows),
        TensorName::Block(layer, tensor) => {
            let (module, parameter, split) = match tensor {
                BlockTensor::Ln1Weight => ("replicated_layer_norm", "scale", Split::Same),
                BlockTensor::Ln1Bias => ("replicated_layer_norm", "offset", Split::Same),
                BlockTensor::QProj => ("linear", "w", Split::Outputs),
                BlockTensor::VProj => ("linear_1", "w", Split::Outputs),
                BlockTensor::KProj => ("linear_2", "w", Split::Outputs),
                BlockTensor::OutProj => ("linear_3", "w", Split::Inputs),
                BlockTensor::FcInWeight => ("linear_4", "w", Split::Outputs),
                BlockTensor::FcInBias => ("linear_4", "b", Split::Rows),
                BlockTensor::FcOutWeight => ("linear_5", "w", Split::Inputs),
                BlockTensor::FcOutBias => ("linear_5", "b", Split::Sum),
            };
            (format!("layer_{layer}/~/{module}"), parameter, split)
        }
        TensorName::LnFWeight => ("projection_shard/~/replicated_layer_norm".to_owned(), "scale", Split::Same),
        TensorName::LnFBias => ("projection_shard/~/replicated_layer_norm".to_owned(), "offset", Split::Same),
        TensorName::LmHeadWeight => ("projection_shard/~/linear".to_owned(), "w", Split::Outputs),
        TensorName::LmHeadBias => ("projection_shard/~/linear".to_owned(), "b", Split::Rows),
        TensorName::Score | TensorName::QaOutputsWeight | TensorName::QaOutputsBias => {
            unreachable!("these checkpoints are language models")
        }
    };
    ((module, parameter), split)
}

/// The tensors of a model of this configuration, and how many arrays a shard has for them.
fn tensors(config: &Config) -> (HashMap<String, Tensor>, usize) {
    let config = Config { class: Class::CausalLm, tie_word_embeddings: false, ..config.clone() };
    let names = TensorName::all(&config);
    let mut order: Vec<_> = names.iter().map(|&name| parameter(name).0).chain([embedding_bias()]).collect();
    order.sort();
    let index = |parameter: &Parameter| order.partition_point(|other| other < parameter);
    let tensor = |name: TensorName| {
        let (parameter, split) = parameter(name);
        let bias = (name == TensorName::Wte).then(|| index(&embedding_bias()));
        (name.in_file(PREFIX), Tensor { array: index(&parameter), bias, split, shape: name.shape(&config) })
    };
    (names.into_iter().map(tensor).collect(), order.len())
}

const PREFIX: &str = "transformer.";

// ---- files ----

/// The numbers in the names of a directory's entries that have this form, in order.
fn numbered(directory: &Path, start: &str, end: &str) -> Vec<usize> {
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix(start)?.strip_suffix(end)?;
        number.parse().ok().filter(|parsed: &usize| parsed.to_string() == number)
    };
    // What cannot be listed is refused when its files are opened.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<_> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// The checkpoint that a directory is, or the only one in it.
pub(super) fn find(directory: &Path) -> Result<Option<PathBuf>> {
    let is_checkpoint = |path: &Path| !numbered(path, "shard_", "").is_empty();
    if is_checkpoint(directory) {
        return Ok(Some(directory.to_owned()));
    }
    let steps = numbered(directory, "step_", "").into_iter().map(|step| directory.join(format!("step_{step}")));
    let mut steps: Vec<_> = steps.filter(|path| is_checkpoint(path)).collect();
    match steps.len() {
        0 | 1 => Ok(steps.pop()),
        count => {
            let last = steps[count - 1].display();
            Err(Error::checkpoint(directory, format!("{count} checkpoints are here; name one of them, such as {last}")))
        }
    }
}

impl Shard {
    fn open(directory: &Path) -> Result<Self> {
        let last = numbered(directory, "", ".npz").pop();
        let last = last.ok_or_else(|| Error::checkpoint(directory, "no 0.npz in this directory"))?;
        let files: Vec<_> =
            (0..=last).map(|index| NpzFile::open(&directory.join(format!("{index}.npz")))).collect::<Result<_>>()?;
        let arrays =
            files.iter().enumerate().flat_map(|(file, npz)| (0..npz.arrays().len()).map(move |array| (file, array)));
        Ok(Self { arrays: arrays.collect(), files })
    }

    /// Whether an array is numbers of this shape; `name` is the tensor of which it is a part.
    fn check(&self, array: usize, name: &str, expected: &[usize], shards: usize) -> Result<()> {
        let (file, index) = self.arrays[array];
        let npz = &self.files[file];
        let array = &npz.arrays()[index];
        let reason = if array.shape != expected {
            format!(
                "the shape of its {} is {:?}; the configuration and the number of shards, {shards}, make it {expected:?}",
                array.name, array.shape
            )
        } else if let Err(kind) = npz.numbers(index) {
            format!("the elements of its {} are {kind:?}; V2 (bfloat16), f2 and f4 can be loaded", array.name)
        } else {
            return Ok(());
        };
        Err(Error::tensor(name, npz.path(), reason))
    }

    fn numbers(&self, array: usize) -> Box<dyn Numbers + '_> {
        let (file, index) = self.arrays[array];
        self.files[file].numbers(index).expect("only arrays of numbers pass the check at opening")
    }
}

/// Opens a checkpoint that [`find`] found.
pub(super) fn open(path: &Path, config: &Config) -> Result<Box<dyn Source>> {
    let refuse = |reason: String| Err(Error::checkpoint(path, reason));
    let numbers = numbered(path, "shard_", "");
    let count = numbers.len();
    if let Some(missing) = (0..count).find(|index| numbers[*index] != *index) {
        return refuse(format!("shard_{missing} is missing; there are {count} others"));
    }
    let Config { n_head, vocab_size, n_embd, n_inner, n_layer, .. } = *config;
    let sizes = [("n_head", n_head), ("vocab_size", vocab_size), ("n_embd", n_embd), ("n_inner", n_inner)];
    if let Some((name, size)) = sizes.into_iter().find(|(_, size)| !size.is_multiple_of(count)) {
        return refuse(format!("{count} shards do not divide {name}, {size}; a shard may be missing"));
    }
    let shards: Vec<_> =
        (0..count).map(|index| Shard::open(&path.join(format!("shard_{index}")))).collect::<Result<_>>()?;
    let (tensors, arrays) = tensors(config);
    for (index, shard) in shards.iter().enumerate() {
        // One more is the number of the training step.
        let found = shard.arrays.len();
        if found != arrays && found != arrays + 1 {
            return refuse(format!(
                "shard_{index} has {found} arrays, and {n_layer} blocks make {arrays} and the step; what is more may be \
                 the optimizer's state, which mesh-transformer-jax's slim_model.py takes away, and a model of another size \
                 needs a config.json in this directory"
            ));
        }
    }
    let mut names: Vec<_> = tensors.keys().collect();
    names.sort();
    for name in names {
        let tensor = &tensors[name];
        for shard in &shards {
            shard.check(tensor.array, name, &tensor.split.shape(&tensor.shape, count), count)?;
            if let Some(bias) = tensor.bias {
                shard.check(bias, name, &tensor.shape[1..], count)?;
            }
        }
    }
    Ok(Box::new(Mesh { path: path.to_owned(), shards, tensors }))
}

impl Source for Mesh {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let Tensor { array, bias, split, shape } = &self.tensors[name];
        let pieces = |array: usize| -> Vec<_> { self.shards.iter().map(|shard| shard.numbers(array)).collect() };
        let numbers: Box<dyn Numbers> = match (split, bias) {
            (Split::Rows, None) => Box::new(Joined::new(pieces(*array), shape)),
            (Split::Rows, Some(bias)) => {
                Box::new(Biased::new(Joined::new(pieces(*array), shape), Sum(pieces(*bias)), shape[1]))
            }
            (Split::Outputs, _) => Box::new(Transposed::of_rows(pieces(*array), shape[0], shape[1])),
            (Split::Inputs, _) => Box::new(Transposed::of_columns(pieces(*array), shape[0], shape[1])),
            (Split::Sum, _) => Box::new(Sum(pieces(*array))),
            (Split::Same, _) => self.shards[0].numbers(*array),
        };
        Ok(TensorView::boxed(name, &self.path, shape, numbers))
    }
}
