//! The commands and their arguments, and what several commands share.

pub(crate) mod answer;
mod batch;
pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod embed;
pub(crate) mod generate;
pub(crate) mod hidden_states;
pub(crate) mod info;
mod input;
mod load;
pub(crate) mod perplexity;
pub(crate) mod repl;
mod sampling;
pub(crate) mod score;
pub(crate) mod tokenize;
mod tuned;
pub(crate) mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use etcetera::BaseStrategy;
use gptj::checkpoint::Progress;
use gptj::{Checkpoint, Class, Config, Gpu, MatrixUnits, Model, Result, Selector, Tokenizer};
use indicatif::{ProgressBar, ProgressStyle};

/// GPT-J on any GPU: text generation through Vulkan, Metal or DX12.
///
/// Models are Hugging Face directories of a GPT-J or a CodeGen (config.json, model.safetensors or pytorch_model.bin,
/// tokenizer.json), GGUF or GGML files, or slim checkpoints of mesh-transformer-jax (step_383500). Without
/// --model, a small model trained on Shakespeare, which is part of this program, is used.
///
/// What makes the next start faster, what `gptj bench kernels --tune` found, and the lines typed into `gptj repl` are
/// kept in the user's cache directory, or where GPTJ_CACHE_DIR says; nowhere if that is empty.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Arguments {
    /// The GPU to use: its index in `gptj devices`, or a part of its name. The default is the best one; WGPU_BACKEND
    /// and WGPU_ADAPTER_NAME narrow the choice.
    #[arg(long, global = true, value_name = "INDEX|NAME", default_value = "", hide_default_value = true)]
    #[arg(value_parser = parse_selector, allow_negative_numbers = true)]
    pub(crate) gpu: Selector,

    #[command(subcommand)]
    pub(crate) command: Command,
}

fn parse_selector(text: &str) -> Result<Selector, std::convert::Infallible> {
    if text.is_empty() { Ok(Selector::Best) } else { text.parse() }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    // On the heap: it has more options than the others.
    Generate(Box<generate::Generate>),
    Repl(Box<repl::Repl>),
    Score(score::ScoreArguments),
    Perplexity(perplexity::PerplexityArguments),
    Classify(classify::Classify),
    Answer(answer::AnswerArguments),
    Embed(embed::Embed),
    HiddenStates(hidden_states::HiddenStates),
    Tokenize(tokenize::Tokenize),
    Devices(devices::Devices),
    Info(info::Info),
    Verify(verify::Verify),
    Convert(convert::Convert),
    Bench(bench::Bench),
    /// Print a completion script for a shell.
    Completions {
        /// The shell to complete in.
        shell: clap_complete::Shell,
    },
}

/// How much context the model is to have.
#[derive(Args)]
pub(crate) struct ContextArgument {
    /// Positions to have room for. The default is as many as the model can use and the GPU's memory can hold.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) context: Option<usize>,
}

impl ContextArgument {
    /// A model's configuration with this context, where it can have it; loading says where it cannot.
    fn applied_to(&self, config: &Config) -> Config {
        let possible = self.context.filter(|context| (1..=config.n_positions).contains(context));
        Config { n_positions: possible.unwrap_or(config.n_positions), ..config.clone() }
    }
}

/// The model to use.
#[derive(Args, Default)]
pub(crate) struct ModelArguments {
    /// A Hugging Face model directory, or a GGUF or GGML file. Without it, the built-in Shakespeare model.
    #[arg(long, short, value_name = "DIR|FILE")]
    model: Option<PathBuf>,
}

impl ModelArguments {
    /// The model as its configuration has it.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        self.model.as_ref().map_or_else(built_in, |path| Checkpoint::open(path))
    }

    /// The model as one of this class.
    fn checkpoint_as(&self, class: Class) -> Result<Checkpoint> {
        match &self.model {
            Some(path) => Checkpoint::open_as(path, class),
            None => built_in()?.into_class(class),
        }
    }

    /// The model's tokenizer, where it has one.
    fn tokenizer(&self, vocab_size: usize) -> Result<Option<Tokenizer>> {
        match &self.model {
            Some(path) => Tokenizer::open(path, vocab_size),
            None => {
                let json = include_bytes!("../../models/shakespeare/tokenizer.json");
                Tokenizer::from_bytes("the built-in tokenizer", json, vocab_size).map(Some)
            }
        }
    }

    /// What messages call the model.
    pub(crate) fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| "the built-in model".to_owned(), |path| path.display().to_string())
    }
}

fn built_in() -> Result<Checkpoint> {
    Checkpoint::from_static(
        "the built-in model",
        include_str!("../../models/shakespeare/config.json"),
        include_bytes!("../../models/shakespeare/model.safetensors"),
    )
}

/// The tokenizer to use.
#[derive(Args)]
pub(crate) struct TokenizerArguments {
    /// A directory with the files of a tokenizer, to use instead of the model's own.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
}

impl TokenizerArguments {
    /// The tokenizer asked for, or else the model's, where it has one.
    pub(crate) fn open(&self, model: &ModelArguments, vocab_size: usize) -> anyhow::Result<Option<Tokenizer>> {
        let Some(directory) = &self.tokenizer else { return Ok(model.tokenizer(vocab_size)?) };
        let tokenizer = Tokenizer::open(directory, vocab_size)?;
        let missing = || format!("{} {NO_TOKENIZER}", directory.display());
        tokenizer.with_context(missing).map(Some)
    }
}

/// What is said of a model without a tokenizer.
pub(crate) const NO_TOKENIZER: &str = "has no tokenizer.json and no vocab.json, and is no GGUF file with merges";

/// Adapters to merge into the model.
#[derive(Args)]
pub(crate) struct LoraArguments {
    /// Merge a LoRA adapter, as PEFT saves it, into the model, its effect multiplied by SCALE; may be given more than
    /// once.
    #[arg(long = "lora", value_name = "DIR[=SCALE]", value_parser = parse_lora)]
    adapters: Vec<(PathBuf, f32)>,
}

impl LoraArguments {
    /// The checkpoint with the adapters.
    pub(crate) fn add_to(&self, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
        for (directory, scale) in &self.adapters {
            checkpoint.add_adapter(directory, *scale)?;
        }
        Ok(checkpoint)
    }
}

/// What follows the last `=` is a scale where it is a number, and else belongs to the name.
fn parse_lora(text: &str) -> Result<(PathBuf, f32), std::convert::Infallible> {
    let scaled = text.rsplit_once('=').and_then(|(directory, scale)| Some((directory, scale.parse().ok()?)));
    let (directory, scale) = scaled.unwrap_or((text, 1.0));
    Ok((directory.into(), scale))
}

/// Where to keep what makes the next start faster: `GPTJ_CACHE_DIR`, nowhere where that is empty, or else the
/// platform's directory for such things.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    match std::env::var_os("GPTJ_CACHE_DIR") {
        Some(path) => (!path.is_empty()).then(|| path.into()),
        None => Some(etcetera::base_strategy::choose_native_strategy().ok()?.cache_dir().join("gptj")),
    }
}

/// Keeps compiled kernels for the next start.
pub(crate) fn keep_pipelines(gpu: &Gpu) {
    note_not_kept(gpu.save_pipelines());
}

/// Says so where compiled kernels could not be kept.
pub(crate) fn note_not_kept(kept: Result<()>) {
    if let Err(error) = kept {
        note(&format!("note: the next start will be no faster: {error}"));
    }
}

/// Says so where the matrix units of a model's GPU failed their test.
pub(crate) fn note_wrong_matrix_units(model: &Model) {
    if model.matrix_units() == Some(MatrixUnits::Wrong) {
        let adapter = model.gpu().info();
        note(&format!(
            "note: the matrix units of {adapter} failed their self-test, so prompts are multiplied without them"
        ));
    }
}

/// A progress bar in bytes of a checkpoint, where standard error is a terminal; `doing` is what it says before.
pub(crate) fn progress_bar(doing: &'static str) -> ProgressBar {
    let style = "{prefix} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}";
    let style = ProgressStyle::with_template(style).expect("the template is valid");
    ProgressBar::new(0).with_style(style).with_prefix(doing)
}

/// Shows how far something is.
pub(crate) fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}

/// Whether somebody has typed Ctrl-C, which from here on does not end the program.
pub(crate) fn on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("cannot listen to Ctrl-C")?;
    Ok(interrupted)
}

/// Prints one JSON object or list, for machines.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{value:#}")?)
}

/// Says something on standard error; no harm is done where nobody reads it.
pub(crate) fn note(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}

/// Bytes for people: `12.1 GB`.
pub(crate) fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
