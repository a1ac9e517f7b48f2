//! `gptj convert`: any checkpoint to a Hugging Face directory.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gptj::checkpoint::{WriteFormat, WriteOptions, write};
use gptj::hub::Extent;
use gptj::{Checkpoint, Tokenizer, checkpoint};

use super::signals::Signals;
use super::{LoraArguments, hub, human_bytes, out, progress_bar, say, show};

/// Write a model as a Hugging Face directory (config.json, model.safetensors, tokenizer files); needs no GPU.
///
/// The directory appears once all of it is on disk. After an error or a signal like Ctrl-C, nothing is left.
#[derive(Args)]
#[command(after_long_help = "Examples:
  gptj convert gpt-j-6b gpt-j-6b-f16
  gptj convert gpt-j-6b.gguf gpt-j-6b --max-shard-size 2GB
  gptj convert gpt-j-6b merged --lora my-adapter=0.5")]
pub(crate) struct Convert {
    /// The model.
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// The branch, tag or commit of a model on the Hugging Face Hub. The default is main.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,

    /// The directory to write. It must be new or empty.
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    lora: LoraArguments,

    /// The format of the numbers.
    #[arg(long, help_heading = "Output", value_name = "FORMAT", default_value = "f16")]
    format: Format,

    /// The largest file of tensors: 5GB, 500MB, or bytes. A larger model is written in several.
    #[arg(long, help_heading = "Output", value_name = "SIZE", default_value = "5GB")]
    #[arg(value_parser = parse_size, allow_negative_numbers = true)]
    max_shard_size: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Half precision, as on the GPU.
    F16,
    /// As they are in IN.
    AsIs,
}

/// A number of bytes, with a unit or without.
fn parse_size(text: &str) -> Result<u64, String> {
    let units = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1000),
        ("B", 1),
    ];
    let with_unit = units.into_iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, bytes)));
    let (number, unit) = with_unit.unwrap_or((text, 1));
    let bytes = number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| "must be a size as in 5GB, 500MB or 1000000".to_owned())
}

pub(crate) fn run(arguments: &Convert) -> anyhow::Result<()> {
    let input = hub::locate(&arguments.input, arguments.revision.as_deref(), Extent::Model)?;
    let checkpoint = arguments.lora.add_to(Checkpoint::open(&input)?)?;
    let format = match arguments.format {
        Format::F16 => WriteFormat::F16,
        Format::AsIs => WriteFormat::AsIs,
    };
    // A model in one file may include its tokenizer, which becomes a file of its own.
    let tokenizer = match checkpoint.path().is_file() {
        true => Tokenizer::open(&input, checkpoint.config().vocab_size)?.map(|tokenizer| tokenizer.to_json()),
        false => None,
    };
    let options = WriteOptions { format, max_shard_bytes: arguments.max_shard_size, tokenizer };
    let signals = Signals::listen()?;
    let bar = progress_bar("writing");
    let written = write(&checkpoint, &arguments.output, &options, &mut |progress| {
        show(&bar, progress);
        if signals.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    if let (Err(checkpoint::Error::Stopped), Some(signal)) = (&written, signals.received()) {
        say(&format!("ended by {}: {} is not written", signal.cause(), arguments.output.display()));
        return Err(signal.into());
    }
    let written = written?;
    let files = if written.shards == 1 { "one file".to_owned() } else { format!("{} files", written.shards) };
    let (path, bytes) = (arguments.output.display(), human_bytes(written.bytes));
    writeln!(out(), "{path}: {bytes} of tensors in {files}")?;
    Ok(())
}
