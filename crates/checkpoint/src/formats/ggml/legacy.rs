//! The formats before GGUF: GGML, which has no version, and GGJT, its aligned and versioned successor.
//!
//! Both have a GPT-J's sizes; the bytes of each token, but no merges, so that they cannot tokenize text; and tensors by
//! Hugging Face's names, each after its own header.

use std::path::Path;

use super::blocks::{ElementType, LOADABLE};
use super::reader::Reader;
use super::tensors::{Header, TensorInfo, Tensors, byte_size, end_of_text};
use crate::config::{Architecture, Config};
use crate::error::{Error, Result};

/// GGJT's tensors begin at multiples of this.
const ALIGNMENT: u64 = 32;
/// The version of block layouts that GGUF has, too, from May 2023.
const BLOCK_VERSION: u32 = 2;

/// Reads the file after the magic number.
pub(super) fn read(reader: &mut Reader<'_>, is_ggjt: bool) -> Result<Header> {
    let path = reader.path();
    let container_version = if is_ggjt { Some(reader.u32("the version")?) } else { None };
    if let Some(version) = container_version
        && !(1..=3).contains(&version)
    {
        return Err(reader.refuse(format!("a GGJT file of version {version}; versions 1 to 3 can be loaded")));
    }
    let mut numbers = [0; 8];
    for number in &mut numbers {
        *number = reader.u32("the model's sizes")?;
    }
    let [n_vocab, n_ctx, n_embd, n_head, n_layer, n_rot, file_type, n_vocab_again] = numbers;
    if n_vocab != n_vocab_again {
        let reason = format!(
            "not a GPT-J in GGML's format: its sizes are {numbers:?}, and the last must repeat the first, the number \
             of tokens"
        );
        return Err(Error::config(path, reason));
    }
    // GGML adds 1000 times the version of its blocks to the file's type.
    let block_version = container_version.map_or(file_type / 1000, |version| version - 1);

    for id in 0..n_vocab {
        let what = format_args!("token {id}");
        let length = reader.u32(what)?;
        reader.take(u64::from(length), what)?;
        if is_ggjt {
            reader.u32(format_args!("the score of token {id}"))?;
        }
    }

    let mut tensors = Tensors::default();
    while reader.remaining() > 0 {
        read_tensor(reader, is_ggjt, block_version, &mut tensors)?;
    }

    let (n_embd, vocab_size) = (n_embd as usize, n_vocab as usize);
    let config = Config {
        architecture: Architecture::GptJ,
        vocab_size,
        n_positions: n_ctx as usize,
        n_embd,
        n_layer: n_layer as usize,
        n_head: n_head as usize,
        rotary_dim: n_rot as usize,
        n_inner: n_inner(path, &tensors, n_embd)?,
        tie_word_embeddings: false,
        bos_token_id: end_of_text(vocab_size).first().copied(),
        eos_token_ids: end_of_text(vocab_size),
        ..Config::default()
    };
    Ok(Header { config: config.checked(path)?, tensors })
}

fn read_tensor(reader: &mut Reader<'_>, is_ggjt: bool, block_version: u32, tensors: &mut Tensors) -> Result<()> {
    let number = tensors.len() + 1;
    let what = format_args!("the header of tensor {number}");
    let [n_dims, name_length, element_type] = [reader.u32(what)?, reader.u32(what)?, reader.u32(what)?];
    if n_dims > 4 {
        return Err(reader.refuse(format!("tensor {number} has {n_dims} dimensions; the file is damaged before it")));
    }
    // Innermost first, unlike the shapes of this crate.
    let mut dims = Vec::new();
    for _ in 0..n_dims {
        dims.push(u64::from(reader.u32(what)?));
    }
    let name = reader.take(u64::from(name_length), what)?;
    let name = reader.text(name, format_args!("the name of tensor {number}"))?;
    if is_ggjt {
        reader.align(ALIGNMENT, format_args!("the padding before tensor {name}"))?;
    }
    let element_type = ElementType::new(element_type);
    match element_type {
        ElementType::Other(_) => {
            let reason = format!("its numbers are {element_type}; {LOADABLE} can be loaded");
            return Err(Error::tensor(name, reader.path(), reason));
        }
        ElementType::Blocks(_) if block_version != BLOCK_VERSION => {
            let reason = format!(
                "its numbers are {element_type} in blocks of version {block_version}; only version {BLOCK_VERSION}, of \
                 May 2023, can be loaded. Quantize the model again, or use it in F16"
            );
            return Err(Error::tensor(name, reader.path(), reason));
        }
        ElementType::Blocks(_) | ElementType::Dense(_) => {}
    }
    let (shape, bytes) = byte_size(reader.path(), name, &dims, element_type)?;
    let start = reader.position();
    reader.take(bytes.unwrap_or_default(), format_args!("tensor {name}"))?;
    let tensor = TensorInfo { name: name.to_owned(), shape, element_type, range: start..reader.position() };
    tensors.insert(reader.path(), name.to_owned(), tensor)
}

/// The width of the MLP's hidden layer, which the header does not have.
fn n_inner(path: &Path, tensors: &Tensors, n_embd: usize) -> Result<usize> {
    match tensors.get("transformer.h.0.mlp.fc_in.weight") {
        Some(TensorInfo { shape, name, .. }) if shape.len() == 2 && shape[0] == n_embd && shape[1] != n_embd => {
            let reason = "its rows and columns are swapped, as in the first GGML files; convert the model again";
            Err(Error::tensor(name, path, reason))
        }
        Some(TensorInfo { shape, .. }) if shape.len() == 2 => Ok(shape[0]),
        _ => Ok(Config::usual_inner(n_embd)),
    }
}
