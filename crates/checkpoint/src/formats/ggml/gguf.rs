//! GGUF, versions 2 and 3: metadata, a table of tensors, and the tensors.

use std::path::Path;

use super::blocks::ElementType;
use super::metadata::Metadata;
use super::reader::Reader;
use super::tensors::{ABSURD_TENSORS, Header, TensorInfo, Tensors, byte_size, end_of_text};
use crate::config::{Architecture, Config};
use crate::error::{Error, Result};
use crate::vocabulary::{TokenKind, Vocabulary};

/// The tensors' bytes begin at multiples of this, unless the file says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The version of block layouts in all files of these versions.
const BLOCK_VERSION: u64 = 2;

/// Reads the header after the magic number.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Header> {
    let (metadata, tensor_count) = read_metadata(reader)?;
    let path = reader.path();
    let architecture = metadata.text("general.architecture")?.unwrap_or("missing");
    if architecture != "gptj" {
        let reason = format!("not a GPT-J model: general.architecture is {architecture}; it must be gptj");
        return Err(Error::config(path, reason));
    }
    let parts = metadata.unsigned("split.count")?.unwrap_or(1);
    if parts > 1 {
        let reason = format!("one of {parts} parts of a model; join them with llama-gguf-split --merge");
        return Err(Error::checkpoint(path, reason));
    }
    let block_version = metadata.unsigned("general.quantization_version")?.unwrap_or(BLOCK_VERSION);
    if block_version != BLOCK_VERSION {
        let reason = format!("its blocks are of version {block_version}; only version {BLOCK_VERSION} can be loaded");
        return Err(Error::checkpoint(path, reason));
    }
    let alignment = metadata.unsigned("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > u64::from(u32::MAX) {
        return Err(reader.refuse(format!("general.alignment is {alignment}; it must be a power of two")));
    }
    let tensors = read_tensors(reader, tensor_count, alignment)?;
    let config = config(path, &metadata, &tensors)?;
    Ok(Header { config, tensors })
}

/// The metadata, and the number of tensors after it.
fn read_metadata<'a>(reader: &mut Reader<'a>) -> Result<(Metadata<'a>, u64)> {
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        let big_endian = if (1..=3).contains(&version.swap_bytes()) { ", or a big-endian one" } else { "" };
        let reason = format!(
            "a GGUF file of version {version}{big_endian}; little-endian ones of versions 2 and 3 can be loaded"
        );
        return Err(reader.refuse(reason));
    }
    let (tensors, keys) = (reader.u64("the number of tensors")?, reader.u64("the number of keys")?);
    if tensors > ABSURD_TENSORS as u64 {
        return Err(reader.refuse(format!("{tensors} tensors, more than {ABSURD_TENSORS}; the file is damaged")));
    }
    Ok((Metadata::read(reader, keys)?, tensors))
}

fn read_tensors(reader: &mut Reader<'_>, count: u64, alignment: u64) -> Result<Tensors> {
    let path = reader.path();
    // Offsets count from the end of the table.
    let mut table = Vec::new();
    for index in 1..=count {
        let what = format_args!("the table of tensors, at tensor {index}");
        let name = reader.string(what)?;
        let name = reader.text(name, format_args!("the name of tensor {index}"))?;
        let n_dims = reader.u32(what)?;
        if n_dims > 4 {
            return Err(Error::tensor(name, path, format!("it has {n_dims} dimensions; the file is damaged")));
        }
        let mut dims = Vec::new();
        for _ in 0..n_dims {
            dims.push(reader.u64(what)?);
        }
        let element_type = ElementType::new(reader.u32(what)?);
        let offset = reader.u64(what)?;
        let (shape, bytes) = byte_size(path, name, &dims, element_type)?;
        table.push((name, shape, element_type, offset, bytes));
    }
    reader.align(alignment, "the padding before its tensors")?;
    let start = reader.position();
    let end = reader.remaining() as u64;

    let mut ranges = Vec::new();
    let mut tensors = Tensors::default();
    for (name, shape, element_type, offset, bytes) in table {
        if !offset.is_multiple_of(alignment) {
            let reason = format!("it begins at byte {offset}, not a multiple of {alignment}; the file is damaged");
            return Err(Error::tensor(name, path, reason));
        }
        let beyond = || {
            let reason = format!("it ends after the file, which has {end} bytes of tensors; the file was cut off");
            Error::tensor(name, path, reason)
        };
        let last = offset.checked_add(bytes.unwrap_or_default()).filter(|&last| last <= end).ok_or_else(beyond)?;
        // Within the file, so they fit `usize`.
        let (first, last) = (offset as usize, last as usize);
        ranges.push((first, last, name));
        let tensor = TensorInfo { name: name.to_owned(), shape, element_type, range: start + first..start + last };
        tensors.insert(path, hugging_face_name(name).unwrap_or_else(|| name.to_owned()), tensor)?;
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let ((_, end, before), (start, _, name)) = (pair[0], pair[1]);
        if start < end {
            return Err(Error::tensor(name, path, format!("it overlaps {before:?}; the file is damaged")));
        }
    }
    Ok(tensors)
}

/// Hugging Face's name for a tensor.
fn hugging_face_name(name: &str) -> Option<String> {
    let (name, suffix) = name.rsplit_once('.')?;
    let name = match (name, name.strip_prefix("blk.")) {
        (_, Some(rest)) => {
            let (layer, part) = rest.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let part = match part {
                "attn_norm" => "ln_1",
                "attn_q" => "attn.q_proj",
                "attn_k" => "attn.k_proj",
                "attn_v" => "attn.v_proj",
                "attn_output" => "attn.out_proj",
                "ffn_up" => "mlp.fc_in",
                "ffn_down" => "mlp.fc_out",
                _ => return None,
            };
            format!("transformer.h.{layer}.{part}")
        }
        ("token_embd", None) => "transformer.wte".to_owned(),
        ("output_norm", None) => "transformer.ln_f".to_owned(),
        ("output", None) => "lm_head".to_owned(),
        _ => return None,
    };
    Some(format!("{name}.{suffix}"))
}

fn config(path: &Path, metadata: &Metadata<'_>, tensors: &Tensors) -> Result<Config> {
    let Some(&[vocab_size, _]) = tensors.get("transformer.wte.weight").map(|wte| wte.shape.as_slice()) else {
        return Err(Error::checkpoint(path, "token_embd.weight is missing or not a matrix; convert the model again"));
    };
    let n_embd = metadata.size("gptj.embedding_length")?;
    let n_head = metadata.size("gptj.attention.head_count")?;
    // Converters omit keys with the usual value.
    let size_or = |key: &str, default: usize| if metadata.contains(key) { metadata.size(key) } else { Ok(default) };
    let eos_token_ids = match metadata.unsigned("tokenizer.ggml.eos_token_id")? {
        Some(id) => u32::try_from(id).into_iter().collect(),
        None => end_of_text(vocab_size),
    };
    let config = Config {
        architecture: Architecture::GptJ,
        vocab_size,
        n_positions: metadata.size("gptj.context_length")?,
        n_embd,
        n_layer: metadata.size("gptj.block_count")?,
        n_head,
        rotary_dim: size_or("gptj.rope.dimension_count", n_embd.checked_div(n_head).unwrap_or(0))?,
        n_inner: size_or("gptj.feed_forward_length", Config::usual_inner(n_embd))?,
        layer_norm_epsilon: match metadata.number("gptj.attention.layer_norm_epsilon")? {
            Some(epsilon) => epsilon as f32,
            None => Config::default().layer_norm_epsilon,
        },
        tie_word_embeddings: tensors.get("lm_head.weight").is_none(),
        bos_token_id: eos_token_ids.first().copied(),
        eos_token_ids,
        ..Config::default()
    };
    // GPT-J does not have these variants.
    for (key, only) in [
        ("gptj.attention.head_count_kv", n_head as f64),
        ("gptj.rope.freq_base", f64::from(Config::ROTARY_BASE)),
        ("gptj.rope.scale", 1.0),
        ("gptj.rope.scaling.factor", 1.0),
    ] {
        if let Some(number) = metadata.number(key)?
            && number != only
        {
            return Err(Error::config(path, format!("{key} is {number}; in a GPT-J of these sizes it must be {only}")));
        }
    }
    config.checked(path)
}

/// The most bytes of tokens or of merges; GPT-J's take less than two megabytes.
const ABSURD_VOCABULARY: usize = 64 << 20;

/// Reads the vocabulary, of at most `limit` tokens, after the magic number. `None` if the file has none, or one of
/// another kind of tokenizer.
pub(super) fn vocabulary(reader: &mut Reader<'_>, limit: usize) -> Result<Option<Vocabulary>> {
    let path = reader.path();
    let (metadata, _) = read_metadata(reader)?;
    if metadata.text("tokenizer.ggml.model")? != Some("gpt2") {
        return Ok(None);
    }
    let pre_tokenizer = metadata.text("tokenizer.ggml.pre")?.unwrap_or("default");
    if !["default", "gpt-2"].contains(&pre_tokenizer) {
        let reason = format!("tokenizer.ggml.pre is {pre_tokenizer}; GPT-J's is gpt-2");
        return Err(Error::tokenizer(path, reason));
    }
    let Some(tokens) = metadata.strings("tokenizer.ggml.tokens", limit, ABSURD_VOCABULARY)? else { return Ok(None) };
    // Every merge makes a token.
    let Some(merges) = metadata.strings("tokenizer.ggml.merges", tokens.len(), ABSURD_VOCABULARY)? else {
        return Ok(None);
    };
    let kinds = metadata.integers("tokenizer.ggml.token_type", tokens.len())?;
    let kind = |kind| match kind {
        3 => TokenKind::Special,
        4 => TokenKind::Added,
        _ => TokenKind::Bytes,
    };
    let owned = |strings: Vec<&[u8]>| strings.into_iter().map(<[u8]>::to_vec).collect();
    Ok(Some(Vocabulary {
        path: path.to_owned(),
        tokens: owned(tokens),
        kinds: kinds.map(|kinds| kinds.into_iter().map(kind).collect()),
        merges: owned(merges),
    }))
}
