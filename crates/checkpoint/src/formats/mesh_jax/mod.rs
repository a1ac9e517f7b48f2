//! Checkpoints of mesh-transformer-jax, which trained GPT-J-6B, in their slim form, without the optimizer's state
//! (<https://github.com/kingoflolz/mesh-transformer-jax>).
//!
//! A directory `step_N` has one directory `shard_I` per core of the model, with files `0.npz`, `1.npz`, … that hold the
//! core's arrays in sequence. The arrays have no names: they are sorted by the names of the model's parameters, in
//! which `layer_10` comes before `layer_2`. A matrix is stored (inputs, outputs), and each core has some of its outputs
//! or some of its inputs. If the cores' results are summed, the bias is the sum of all cores' biases; the embedding has
//! such a bias, too.

mod npz;
mod shards;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::config::{Class, Config};
use crate::elements::{Elements, TensorView};
use crate::error::{Error, Result};
use crate::names::{BlockTensor, TensorName};
use crate::source::Source;
use npz::NpzFile;
use shards::{Biased, Joined, Sum, Transposed};

/// A checkpoint whose arrays are all there, with the right shapes.
struct Mesh {
    path: PathBuf,
    shards: Vec<Shard>,
    /// By Hugging Face's names.
    tensors: HashMap<String, TensorInfo>,
}

/// The arrays of one core.
struct Shard {
    files: Vec<NpzFile>,
    /// The file of each array, and its index there.
    arrays: Vec<(usize, usize)>,
}

/// How a tensor of the model is stored.
struct TensorInfo {
    /// The index of its array in every shard.
    array: usize,
    /// The array of the bias that is added to it.
    bias: Option<usize>,
    split: Split,
    shape: Vec<usize>,
}

/// How a tensor is divided among the shards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    /// Each has some of the rows.
    Rows,
    /// Each has some of the outputs of a transposed matrix.
    Outputs,
    /// Each has some of the inputs of a transposed matrix.
    Inputs,
    /// The tensor is their sum.
    Sum,
    /// Each has all of it; the first is used.
    Same,
}

impl Split {
    /// The shape of each shard's part of a tensor.
    fn shape(self, tensor: &[usize], shards: usize) -> Vec<usize> {
        match (self, tensor) {
            (Self::Rows, [rows, rest @ ..]) => [&[rows / shards], rest].concat(),
            (Self::Outputs, [outputs, inputs]) => vec![*inputs, outputs / shards],
            (Self::Inputs, [outputs, inputs]) => vec![inputs / shards, *outputs],
            _ => tensor.to_vec(),
        }
    }
}

/// A parameter's module and its name in it, by which the checkpoint's arrays are sorted.
type Parameter = (String, &'static str);

/// The bias of the embedding, which is added to each of its rows.
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

/// The tensors of a model of this configuration, and the number of their arrays in each shard.
fn tensors(config: &Config) -> (HashMap<String, TensorInfo>, usize) {
    let config = Config { class: Class::CausalLm, tie_word_embeddings: false, ..config.clone() };
    let names = TensorName::all(&config);
    let mut order: Vec<_> = names.iter().map(|&name| parameter(name).0).chain([embedding_bias()]).collect();
    order.sort();
    let index = |parameter: &Parameter| order.partition_point(|other| other < parameter);
    let tensor = |name: TensorName| {
        let (parameter, split) = parameter(name);
        let bias = (name == TensorName::Wte).then(|| index(&embedding_bias()));
        (name.in_file(PREFIX), TensorInfo { array: index(&parameter), bias, split, shape: name.shape(&config) })
    };
    (names.into_iter().map(tensor).collect(), order.len())
}

const PREFIX: &str = "transformer.";

// ---- files ----

/// The numbers in the names of a directory's entries of the form `start` N `end`, in order.
fn numbered(directory: &Path, start: &str, end: &str) -> Vec<usize> {
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix(start)?.strip_suffix(end)?;
        number.parse().ok().filter(|parsed: &usize| parsed.to_string() == number)
    };
    // An unreadable directory is reported when its files are opened.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<_> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// The checkpoint: the directory itself, or the only one in it.
pub(crate) fn find(directory: &Path) -> Result<Option<PathBuf>> {
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
        let (mut files, mut arrays) = (Vec::new(), Vec::new());
        for file in 0..=last {
            let npz = NpzFile::open(&directory.join(format!("{file}.npz")))?;
            arrays.extend((0..npz.arrays().len()).map(|array| (file, array)));
            files.push(npz);
        }
        Ok(Self { files, arrays })
    }

    /// Fails unless an array has numbers of this shape; `name` is its tensor.
    fn check(&self, array: usize, name: &str, expected: &[usize], shards: usize) -> Result<()> {
        let (file, index) = self.arrays[array];
        let npz = &self.files[file];
        let array = &npz.arrays()[index];
        let reason = if array.shape != expected {
            format!(
                "the shape of its {} is {:?}; the configuration and the number of shards, {shards}, make it \
                 {expected:?}",
                array.name, array.shape
            )
        } else if let Err(kind) = npz.elements(index) {
            format!("the elements of its {} are {kind:?}; V2 (bfloat16), f2 and f4 can be loaded", array.name)
        } else {
            return Ok(());
        };
        Err(Error::tensor(name, npz.path(), reason))
    }

    fn elements(&self, array: usize) -> Box<dyn Elements + '_> {
        let (file, index) = self.arrays[array];
        self.files[file].elements(index).expect("only arrays of numbers pass the check at opening")
    }
}

/// Opens a checkpoint that [`find`] found.
pub(crate) fn open(path: &Path, config: &Config) -> Result<Box<dyn Source>> {
    let refuse = |reason: String| Err(Error::checkpoint(path, reason));
    let numbers = numbered(path, "shard_", "");
    let count = numbers.len();
    if let Some(missing) = (0..count).find(|index| numbers[*index] != *index) {
        return refuse(format!("shard_{missing} is missing; there are {count} others"));
    }
    let Config { n_head, vocab_size, n_embd, n_inner, n_layer, .. } = *config;
    let sizes = [("n_head", n_head), ("vocab_size", vocab_size), ("n_embd", n_embd), ("n_inner", n_inner)];
    if let Some((name, size)) = sizes.into_iter().find(|(_, size)| !size.is_multiple_of(count)) {
        return refuse(format!(
            "{name}, {size}, is not divisible by the number of shards, {count}; a shard may be missing"
        ));
    }
    let shards: Vec<_> =
        (0..count).map(|index| Shard::open(&path.join(format!("shard_{index}")))).collect::<Result<_>>()?;
    let (tensors, arrays) = tensors(config);
    for (index, shard) in shards.iter().enumerate() {
        // Files may have one more: the number of the training step.
        let found = shard.arrays.len();
        if found != arrays && found != arrays + 1 {
            return refuse(format!(
                "shard_{index} has {found} arrays, but {n_layer} blocks make {arrays} and the step; if it has the \
                 optimizer's state, remove that with mesh-transformer-jax's slim_model.py; a model of another size \
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
        let TensorInfo { array, bias, split, shape } = &self.tensors[name];
        let parts = |array: usize| -> Vec<_> { self.shards.iter().map(|shard| shard.elements(array)).collect() };
        let elements: Box<dyn Elements> = match (split, bias) {
            (Split::Rows, None) => Box::new(Joined::new(parts(*array), shape)),
            (Split::Rows, Some(bias)) => {
                Box::new(Biased::new(Joined::new(parts(*array), shape), Sum(parts(*bias)), shape[1]))
            }
            (Split::Outputs, _) => Box::new(Transposed::of_rows(parts(*array), shape[0], shape[1])),
            (Split::Inputs, _) => Box::new(Transposed::of_columns(parts(*array), shape[0], shape[1])),
            (Split::Sum, _) => Box::new(Sum(parts(*array))),
            (Split::Same, _) => self.shards[0].elements(*array),
        };
        Ok(TensorView::boxed(name, &self.path, shape, elements))
    }
}
