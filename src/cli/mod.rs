//! The commands and their arguments, and the parts that several commands share.

pub(crate) mod answer;
pub(crate) mod bench;
pub(crate) mod classify;
mod console;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod embed;
pub(crate) mod generate;
pub(crate) mod hidden_states;
mod hub;
pub(crate) mod info;
mod input;
mod json;
mod lines;
mod load;
pub(crate) mod perplexity;
pub(crate) mod pull;
pub(crate) mod repl;
mod sampling;
pub(crate) mod score;
pub(crate) mod signals;
mod texts;
pub(crate) mod tokenize;
pub(crate) mod verify;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use etcetera::BaseStrategy;
use gptj::hub::Extent;
use gptj::{Checkpoint, Class, Config, Gpu, MatrixUnits, Model, Result, Selector, Tokenizer, checkpoint};

use self::console::{bar, progress_bar, say, short_name, show, spinner};
pub(crate) use self::console::{be_quiet, counted, human_bytes, named, note, out};
pub(crate) use self::json::print_json;
use self::json::print_json_line;

/// GPT-J on any GPU: text generation through Vulkan, Metal or DX12.
///
/// A model is a Hugging Face directory of a GPT-J or CodeGen (config.json, model.safetensors or pytorch_model.bin,
/// tokenizer.json), a GGUF or GGML file, or a slim checkpoint of mesh-transformer-jax (step_383500). The default is a
/// small built-in model trained on Shakespeare.
///
/// Compiled kernels, the result of `gptj bench kernels --tune` and the lines typed into `gptj repl` are kept in the
/// user's cache directory, or in GPTJ_CACHE_DIR; if that is empty, nothing is kept.
///
/// Exit codes: 0; 2 for an unknown option or an invalid value; 128 plus the signal's number after a signal, so 130
/// after Ctrl-C; 1 for any other error.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Arguments {
    /// The GPU: its index in `gptj devices`, or part of its name. The default is the best one; WGPU_BACKEND and
    /// WGPU_ADAPTER_NAME narrow the choice.
    #[arg(
        long,
        global = true,
        help_heading = "Model",
        value_name = "INDEX|NAME",
        default_value = "",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_selector, allow_negative_numbers = true)]
    pub(crate) gpu: Selector,

    /// Print results and errors only: no notes, no progress, no summary.
    #[arg(long, short, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,

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
    Pull(pull::Pull),
    Bench(bench::Bench),
    /// Print a completion script for a shell.
    Completions {
        /// The shell to complete in.
        shell: clap_complete::Shell,
    },
}

/// The context to load the model with.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ContextArgument {
    /// The longest text, in tokens. The default is the model's context, or as much of it as fits the GPU; 256 for the
    /// built-in model, which was trained on texts of that length.
    #[arg(long, short, value_name = "N", allow_negative_numbers = true)]
    pub(crate) context: Option<usize>,
}

impl ContextArgument {
    /// The context to ask for: the argument, or else the context of the model's training, if known.
    fn of(&self, model: &ModelArguments) -> Option<usize> {
        self.context.or(model.trained_context())
    }

    /// A model's configuration with this context, if it is possible; if not, loading gives the error.
    fn applied_to(&self, config: &Config, model: &ModelArguments) -> Config {
        let possible = self.of(model).filter(|context| (1..=config.n_positions).contains(context));
        Config { n_positions: possible.unwrap_or(config.n_positions), ..config.clone() }
    }
}

/// The model to use.
#[derive(Args, Default)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArguments {
    /// A Hugging Face model directory, a GGUF or GGML file, or a name on the Hugging Face Hub, like
    /// EleutherAI/gpt-j-6b. The default is the built-in Shakespeare model.
    #[arg(long, short, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,

    /// The branch, tag or commit of a model on the Hub. The default is main.
    #[arg(long, value_name = "REVISION", requires = "model")]
    revision: Option<String>,

    /// The paths of the model's files, with and without its weights, once known.
    #[arg(skip)]
    path: OnceCell<PathBuf>,
    #[arg(skip)]
    settings_path: OnceCell<PathBuf>,
}

impl ModelArguments {
    fn new(model: Option<PathBuf>, revision: Option<String>) -> Self {
        Self { model, revision, ..Self::default() }
    }

    /// Where the model's files are; fetches those that the cache lacks. `None` for the built-in model.
    pub(crate) fn path(&self) -> checkpoint::Result<Option<&Path>> {
        self.located(&self.path, Extent::Model)
    }

    /// Where the model's configuration and tokenizer are. Weights are not fetched for them.
    pub(crate) fn settings_path(&self) -> checkpoint::Result<Option<&Path>> {
        match self.path.get() {
            Some(path) => Ok(Some(path)),
            None => self.located(&self.settings_path, Extent::Settings),
        }
    }

    fn located<'a>(&'a self, known: &'a OnceCell<PathBuf>, extent: Extent) -> checkpoint::Result<Option<&'a Path>> {
        if let (Some(model), None) = (&self.model, known.get()) {
            let path = hub::locate(model, self.revision.as_deref(), extent)?;
            return Ok(Some(known.get_or_init(|| path)));
        }
        Ok(known.get().map(PathBuf::as_path))
    }

    /// The model as one of its own class.
    pub(crate) fn checkpoint(&self) -> checkpoint::Result<Checkpoint> {
        self.path()?.map_or_else(built_in, Checkpoint::open)
    }

    /// The model as one of this class.
    fn checkpoint_as(&self, class: Class) -> checkpoint::Result<Checkpoint> {
        match self.path()? {
            Some(path) => Checkpoint::open_as(path, class),
            None => built_in()?.into_class(class),
        }
    }

    /// The model's tokenizer, if it has one.
    fn tokenizer(&self, vocab_size: usize) -> Result<Option<Tokenizer>> {
        match self.settings_path()? {
            Some(path) => Tokenizer::open(path, vocab_size),
            None => {
                let json = include_bytes!("../../models/shakespeare/tokenizer.json");
                Tokenizer::from_bytes("the built-in tokenizer", json, vocab_size).map(Some)
            }
        }
    }

    /// The model's configuration, even if its weights are missing.
    pub(crate) fn config(&self) -> checkpoint::Result<Config> {
        match self.settings_path()? {
            Some(path) => Checkpoint::read_config(path),
            None => Ok(built_in()?.config().clone()),
        }
    }

    /// The longest text of its training, if that is known to be shorter than its context.
    fn trained_context(&self) -> Option<usize> {
        self.model.is_none().then_some(BUILT_IN_CONTEXT)
    }

    /// The model's name in messages.
    pub(crate) fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| "the built-in model".to_owned(), |path| path.display().to_string())
    }
}

/// Tokens of the texts that the built-in model was trained on; beyond them it rambles.
const BUILT_IN_CONTEXT: usize = 256;

fn built_in() -> checkpoint::Result<Checkpoint> {
    Checkpoint::from_static(
        "the built-in model",
        include_str!("../../models/shakespeare/config.json"),
        include_bytes!("../../models/shakespeare/model.safetensors"),
    )
}

/// The tokenizer to use.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct TokenizerArguments {
    /// A directory with a tokenizer, to use instead of the model's own.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
}

impl TokenizerArguments {
    /// The tokenizer asked for, or else the model's, if it has one.
    pub(crate) fn open(&self, model: &ModelArguments, vocab_size: usize) -> anyhow::Result<Option<Tokenizer>> {
        let Some(directory) = &self.tokenizer else { return Ok(model.tokenizer(vocab_size)?) };
        let tokenizer = Tokenizer::open(directory, vocab_size)?;
        let missing = || format!("{} {NO_TOKENIZER}", directory.display());
        tokenizer.with_context(missing).map(Some)
    }
}

/// The predicate of a model without a tokenizer.
pub(crate) const NO_TOKENIZER: &str = "has no tokenizer.json and no vocab.json, and is not a GGUF file with merges";

/// Adapters to merge into the model.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct LoraArguments {
    /// Merge a LoRA adapter in PEFT's format, multiplied by SCALE; may be given more than once.
    #[arg(long = "lora", value_name = "DIR[=SCALE]", value_parser = parse_lora)]
    adapters: Vec<(PathBuf, f32)>,
}

impl LoraArguments {
    fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }

    /// The checkpoint with the adapters.
    pub(crate) fn add_to(&self, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
        for (directory, scale) in &self.adapters {
            checkpoint.add_adapter(directory, *scale)?;
        }
        Ok(checkpoint)
    }
}

/// The text after the last `=` is the scale if it is a number, and else part of the name.
fn parse_lora(text: &str) -> Result<(PathBuf, f32), std::convert::Infallible> {
    let scaled = text.rsplit_once('=').and_then(|(directory, scale)| Some((directory, scale.parse().ok()?)));
    let (directory, scale) = scaled.unwrap_or((text, 1.0));
    Ok((directory.into(), scale))
}

/// The directory for compiled kernels, tuning and history: `GPTJ_CACHE_DIR`, none if that is empty; or else the
/// platform's cache directory.
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

/// Notes that compiled kernels could not be kept.
pub(crate) fn note_not_kept(kept: Result<()>) {
    if let Err(error) = kept {
        note(&format!("note: the next start will be no faster: {error}"));
    }
}

/// Notes that the matrix units of a model's GPU failed their self-test.
pub(crate) fn note_wrong_matrix_units(model: &Model) {
    if model.matrix_units() == Some(MatrixUnits::Wrong) {
        let adapter = short_name(model.gpu().info());
        note(&format!(
            "note: the matrix units of {adapter} failed their self-test, so prompts are multiplied without them"
        ));
    }
}
