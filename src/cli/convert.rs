//! `gptj convert`: any checkpoint to a Hugging Face directory.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::{Args, ValueEnum};
use gptj::checkpoint::{WriteFormat, WriteOptions, write};
use gptj::{Checkpoint, Tokenizer};

use super::{LoraArguments, gigabytes, on_ctrl_c, progress_bar, show};

/// Write a model as a Hugging Face directory (config.json, model.safetensors, tokenizer files); needs no GPU.
///
/// The directory is there when all of it is on disk. Where something fails, or Ctrl-C stops it, nothing is left.
#[derive(Args)]
pub(crate) struct Convert {
    /// The model.
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// The directory to write. It must not exist yet, or be empty.
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    lora: LoraArguments,

    /// How to write numbers.
    #[arg(long, value_name = "FORMAT", default_value = "f16")]
    format: Format,

    /// The largest file of tensors; a model that is larger is written in several: 5GB, 500MB, or bytes.
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_size, allow_negative_numbers = true)]
    max_shard_size: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Half precision, as the GPU has them.
    F16,
    /// As they are in IN.
    AsIs,
}

/// A number of bytes, with a unit or without.
fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000)];
    let units = units.into_iter().chain([("KB", 1000), ("B", 1)]);
    let (number, unit) =
        units.filter_map(|(name, bytes)| Some((text.strip_suffix(name)?, bytes))).next().unwrap_or((text, 1));
    let bytes = number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| "must be a size as in 5GB, 500MB or 1000000".to_owned())
}

pub(crate) fn run(arguments: &Convert) -> anyhow::Result<()> {
    let checkpoint = arguments.lora.add_to(Checkpoint::open(&arguments.input)?)?;
    let format = match arguments.format {
        Format::F16 => WriteFormat::F16,
        Format::AsIs => WriteFormat::AsIs,
    };
    // Where the model is one file, its tokenizer, which it may bring, becomes a file of its own.
    let is_file = checkpoint.path().is_file();
    let brought = is_file.then(|| Tokenizer::open(&arguments.input, checkpoint.config().vocab_size));
    let tokenizer = brought.transpose()?.flatten().map(|tokenizer| tokenizer.to_json());
    let options = WriteOptions { format, max_shard_bytes: arguments.max_shard_size, tokenizer };
    let interrupted = on_ctrl_c()?;
    let bar = progress_bar("writing");
    let written = write(&checkpoint, &arguments.output, &options, &mut |progress| {
        show(&bar, progress);
        if interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let written = written?;
    let files = if written.shards == 1 { "one file".to_owned() } else { format!("{} files", written.shards) };
    let (out, bytes) = (arguments.output.display(), gigabytes(written.bytes));
    writeln!(std::io::stdout(), "{out}: {bytes} of tensors in {files}")?;
    Ok(())
}
