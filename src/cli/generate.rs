//! `gptj generate`: continue a prompt.

use std::hash::{BuildHasher, RandomState};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use gptj::weights::Weights;
use gptj::{
    Checkpoint, Config, Error, FinishReason, GenerateOptions, Generation, Gpu, GpuOptions, LoadOptions, Model,
    SamplingOptions, Selector, Tokenizer,
};
use serde_json::json;

use super::tuned::tuned;
use super::{
    ContextArgument, LoraArguments, ModelArguments, NO_TOKENIZER, TokenizerArguments, cache_dir, keep_pipelines, note,
    note_wrong_matrix_units, print_json, progress_bar, show,
};

/// Continue a prompt.
///
/// The text streams to standard output, the prompt first; one line of statistics follows on standard error. The
/// sampling options and their defaults are those of Hugging Face's generate() with do_sample=True.
#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    tokenizer: TokenizerArguments,

    #[command(flatten)]
    lora: LoraArguments,

    #[command(flatten)]
    prompt: Prompt,

    /// Generate at most this many tokens.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 128, allow_negative_numbers = true)]
    max_new_tokens: usize,

    /// Below 1: more predictable; above 1: more surprising.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f32,

    /// Choose among the K most likely tokens only; 0 means all.
    #[arg(long, value_name = "K", default_value_t = 50, allow_negative_numbers = true)]
    top_k: usize,

    /// Choose among the fewest most likely tokens whose probabilities add up to P only.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,

    /// Make tokens that have appeared less likely; 1 means no change.
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,

    /// The same seed on the same GPU gives the same text. The default is a new one each time.
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Always take the most likely token.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "seed"])]
    greedy: bool,

    /// End the text before this string; may be given more than once.
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    stop: Vec<String>,

    #[command(flatten)]
    context: ContextArgument,

    /// Print one JSON object at the end: prompt_tokens, tokens, text, finish_reason, seed, adapter, timings.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(multiple = false)]
struct Prompt {
    /// The text to continue. Without any of the prompt options, standard input.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,

    /// A file with the text to continue; a line break at its very end is not part of it.
    #[arg(long, short = 'f', value_name = "FILE")]
    prompt_file: Option<PathBuf>,

    /// The prompt as token ids; needs no tokenizer.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    prompt_tokens: Option<Vec<u32>>,
}

impl Prompt {
    /// The prompt's tokens.
    fn tokens(&self, tokenizer: Option<&Tokenizer>, model: &ModelArguments) -> anyhow::Result<Vec<u32>> {
        let text = match self {
            Self { prompt_tokens: Some(tokens), .. } => return Ok(tokens.clone()),
            Self { prompt: Some(text), .. } => text.clone(),
            Self { prompt_file: Some(path), .. } => {
                let text = std::fs::read_to_string(path);
                without_last_line_break(
                    text.with_context(|| format!("cannot read the prompt from {}", path.display()))?,
                )
            }
            _ => standard_input("give a prompt: --prompt, --prompt-file, --prompt-tokens, or standard input")?,
        };
        let Some(tokenizer) = tokenizer else {
            bail!("{} {NO_TOKENIZER}; give --tokenizer, or the prompt as --prompt-tokens", model.name());
        };
        Ok(tokenizer.encode(&text)?)
    }
}

/// Standard input; a person at a terminal, who may wait for something to happen, gets an `advice` instead.
pub(super) fn standard_input(advice: &'static str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        bail!(advice);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(without_last_line_break(text))
}

fn without_last_line_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

pub(crate) async fn run(arguments: &Generate, gpu: &Selector, program_start: Instant) -> anyhow::Result<()> {
    let options = GenerateOptions {
        max_new_tokens: arguments.max_new_tokens,
        sampling: SamplingOptions {
            greedy: arguments.greedy,
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            repetition_penalty: arguments.repetition_penalty,
            seed: arguments.seed.unwrap_or_else(new_seed),
        },
        stop: arguments.stop.clone(),
    };
    // What can be wrong is found out before anything slow begins.
    let checkpoint = arguments.lora.add_to(arguments.model.checkpoint()?)?;
    let tokenizer = arguments.tokenizer.open(&arguments.model, checkpoint.config().vocab_size)?;
    options.check(tokenizer.as_ref())?;
    let prompt = arguments.prompt.tokens(tokenizer.as_ref(), &arguments.model)?;
    let config = checkpoint.config();
    let n_positions = arguments.context.context.map_or(config.n_positions, |context| context.min(config.n_positions));
    Config { n_positions, ..config.clone() }.check_prompt(&prompt)?;

    let start = Instant::now();
    let mut model = load(&checkpoint, gpu, arguments.context.context).await?;
    let load_time = start.elapsed();
    note_wrong_matrix_units(&model);
    let context = model.config().n_positions;
    if context < checkpoint.config().n_positions && arguments.context.context.is_none() {
        let positions = checkpoint.config().n_positions;
        note(&format!("note: the GPU has room for a context of {context} positions, of the model's {positions}"));
    }
    let gpu = model.gpu().clone();
    let adapter = gpu.info();

    let mut out = std::io::stdout();
    if !arguments.json
        && let Some(tokenizer) = &tokenizer
    {
        write!(out, "{}", tokenizer.decode(&prompt)?)?;
        out.flush()?;
    }
    let mut generation = Generation::new(&mut model, tokenizer.as_ref(), &prompt, &options)?;
    let mut text = String::new();
    let mut first_token_time = Duration::ZERO;
    while let Some(token) = generation.next().await? {
        let is_first = generation.tokens().len() == 1;
        text.push_str(&token.text);
        if !arguments.json {
            let comma = if is_first || tokenizer.is_some() { "" } else { "," };
            let token = if tokenizer.is_some() { token.text } else { token.id.to_string() };
            write!(out, "{comma}{token}")?;
            out.flush()?;
        }
        if is_first {
            first_token_time = program_start.elapsed();
            // By now every kernel has run, and the reader has something to read.
            keep_pipelines(&gpu);
        }
    }
    let outcome = Outcome {
        prompt: prompt.len(),
        tokens: generation.tokens().to_vec(),
        reason: generation.finish_reason().expect("the text has ended"),
        prompt_time: generation.timings().prompt,
        decode_time: generation.timings().decode,
        first_token_time,
    };
    if arguments.json {
        return print_json(&json!({
            "prompt_tokens": prompt,
            "tokens": outcome.tokens,
            "text": tokenizer.map(|_| text),
            "finish_reason": outcome.reason,
            "seed": (!arguments.greedy).then_some(options.sampling.seed),
            "adapter": adapter.to_string(),
            "timings": {
                "load_seconds": load_time.as_secs_f64(),
                "prompt_seconds": outcome.prompt_time.as_secs_f64(),
                "decode_seconds": outcome.decode_time.as_secs_f64(),
                "first_token_seconds": outcome.first_token_time.as_secs_f64(),
                "prompt_tokens_per_second": outcome.prompt_rate(),
                "decode_tokens_per_second": outcome.decode_rate(),
            },
        }));
    }
    writeln!(out)?;
    let gigabytes = Weights::bytes_per_token(checkpoint.config()) as f64 / 1e9;
    let seed = if arguments.greedy { String::new() } else { format!("; seed {}", options.sampling.seed) };
    note(&format!(
        "[{} tokens, {}; prompt {} tokens at {:.1} tok/s, decode {:.1} tok/s = {:.2} GB/s of weights; first token after \
         {:.2} s{seed}; {adapter}]",
        outcome.tokens.len(),
        match outcome.reason {
            FinishReason::Stop => "ended by the text".to_owned(),
            FinishReason::Length => "as many as asked for".to_owned(),
            FinishReason::Context => format!("ended by the full context of {context} positions"),
        },
        outcome.prompt,
        outcome.prompt_rate(),
        outcome.decode_rate(),
        outcome.decode_rate() * gigabytes,
        outcome.first_token_time.as_secs_f64(),
    ));
    Ok(())
}

struct Outcome {
    prompt: usize,
    tokens: Vec<u32>,
    reason: FinishReason,
    prompt_time: Duration,
    decode_time: Duration,
    /// From the start of the program.
    first_token_time: Duration,
}

impl Outcome {
    fn prompt_rate(&self) -> f64 {
        self.prompt as f64 / self.prompt_time.as_secs_f64()
    }

    /// The first token comes with the prompt; 0 where there is no other.
    fn decode_rate(&self) -> f64 {
        let decoded = self.tokens.len() - 1;
        if decoded == 0 { 0.0 } else { decoded as f64 / self.decode_time.as_secs_f64() }
    }
}

/// Opens the GPU and loads the model, with a progress bar where standard error is a terminal.
async fn load(checkpoint: &Checkpoint, selector: &Selector, context: Option<usize>) -> Result<Model, Error> {
    let options = GpuOptions { selector: selector.clone(), cache_dir: cache_dir(), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).await?;
    if gpu.info().is_software() {
        note(&format!("note: {} is a software adapter: it computes on the CPU, slowly", gpu.info()));
    }
    let bar = progress_bar("loading");
    let options = LoadOptions { context, vector: tuned(&gpu), ..LoadOptions::default() };
    let model = Model::load(&gpu, checkpoint, &options, |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    model
}

/// A seed that differs from run to run and is short enough to type.
fn new_seed() -> u64 {
    RandomState::new().hash_one(0) >> 32
}
