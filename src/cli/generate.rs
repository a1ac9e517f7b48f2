//! `gptj generate`: continue a prompt, or many.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use gptj::internals::weights::Weights;
use gptj::{Class, Error, FinishReason, GenerateOptions, Generation, LoadOptions, Selector, Sequence};
use serde_json::json;

use super::batch;
use super::input::Input;
use super::load::{Opened, Source, open_gpu};
use super::sampling::SamplingArguments;
use super::{ContextArgument, note, note_not_kept, print_json};

/// Continue a prompt, or many at once.
///
/// The text streams to standard output, the prompt first; one line of statistics follows on standard error. The
/// sampling options and their defaults are those of Hugging Face's generate() with do_sample=True.
#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(super) source: Source,

    #[command(flatten)]
    prompt: Input,

    /// Continue many prompts at once: FILE has one a line, or JSON lines like {"prompt": "…", "temperature": 0.8}, with
    /// a prompt or tokens, num_return_sequences, and options under the names that Hugging Face has for them; stop is a
    /// list of texts, bad_words_ids a list of lists of token ids, logit_bias an object. Prints a JSON line for each, in
    /// their order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "tokens"])]
    pub(super) prompts: Option<PathBuf>,

    /// Continue each prompt N times, with seeds that count up.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(super) num_return_sequences: usize,

    /// Continue at most so many texts at a time. The default is as many as the GPU has room for, up to 32.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) batch: Option<u16>,

    #[command(flatten, next_help_heading = "Sampling")]
    pub(super) sampling: SamplingArguments,

    #[command(flatten)]
    pub(super) context: ContextArgument,

    /// Tell the log-probability of each token among those that it was chosen from, after all options took effect, in
    /// JSON.
    #[arg(long)]
    scores: bool,

    /// Print one JSON object at the end: prompt_tokens, tokens, text, finish_reason, seed, adapter, timings, and scores
    /// where they are asked for. With several texts, a line each: index (of the prompt), sequence (of its texts),
    /// prompt_tokens, tokens, text, finish_reason, seed, scores, and error where there is one.
    #[arg(long)]
    pub(super) json: bool,
}

pub(crate) async fn run(arguments: &Generate, gpu: &Selector, program_start: Instant) -> anyhow::Result<()> {
    // What can be wrong is found out before anything slow begins.
    let opened = arguments.source.open(Class::CausalLm)?;
    let (config, tokenizer) = (opened.config(), opened.tokenizer.as_ref());
    let options = arguments.sampling.options(tokenizer, &arguments.source.model)?;
    let options = GenerateOptions { scores: arguments.scores, ..options };
    options.check(config, tokenizer)?;
    if arguments.scores && !arguments.json && arguments.prompts.is_none() {
        let reason = "they are told in JSON only; add --json".to_owned();
        return Err(Error::Option { name: "scores", reason }.into());
    }
    if arguments.prompts.is_some() || arguments.num_return_sequences != 1 {
        let jobs = match &arguments.prompts {
            Some(path) => batch::read(path, &opened, &arguments.source.model, &options)?,
            None => vec![batch::Job::new(arguments.prompt.tokens(tokenizer, &arguments.source.model)?, options)],
        };
        return batch::run(arguments, &opened, jobs, gpu).await;
    }
    let prompt = arguments.prompt.tokens(tokenizer, &arguments.source.model)?;
    Sequence::new(&arguments.context.applied_to(config), tokenizer, &prompt, &options)?;
    stream(arguments, &opened, &prompt, &options, gpu, program_start).await
}

/// Shows a text while it grows.
async fn stream(
    arguments: &Generate,
    opened: &Opened,
    prompt: &[u32],
    options: &GenerateOptions,
    gpu: &Selector,
    program_start: Instant,
) -> anyhow::Result<()> {
    let tokenizer = opened.tokenizer.as_ref();
    let start = Instant::now();
    let gpu = open_gpu(gpu).await?;
    let load_options = LoadOptions { context: arguments.context.context, ..LoadOptions::default() };
    let mut model = opened.load(&gpu, &load_options).await?;
    let load_time = start.elapsed();
    let context = model.config().n_positions;
    let adapter = gpu.info();

    let mut generation = Generation::new(&mut model, tokenizer, prompt, options)?;
    let mut out = std::io::stdout();
    if !arguments.json
        && let Some(tokenizer) = tokenizer
    {
        write!(out, "{}", tokenizer.decode(prompt)?)?;
        out.flush()?;
    }
    let (mut text, mut scores) = (String::new(), Vec::new());
    let mut first_token_time = Duration::ZERO;
    let mut kept = Ok(());
    loop {
        let token = match generation.next().await {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err(error) => {
                // What is said of it begins a line.
                if !arguments.json {
                    writeln!(out)?;
                }
                return Err(error.into());
            }
        };
        let is_first = generation.generated().len() == 1;
        text.push_str(&token.text);
        scores.extend(token.score);
        if !arguments.json {
            let comma = if is_first || tokenizer.is_some() { "" } else { "," };
            let token = if tokenizer.is_some() { token.text } else { token.id.to_string() };
            write!(out, "{comma}{token}")?;
            out.flush()?;
        }
        if is_first {
            first_token_time = program_start.elapsed();
            // By now every kernel has run, and the reader has something to read.
            kept = gpu.save_pipelines();
        }
    }
    if !arguments.json {
        writeln!(out)?;
    }
    note_not_kept(kept);
    let outcome = Outcome {
        prompt: prompt.len(),
        tokens: generation.generated().to_vec(),
        reason: generation.finish_reason().expect("the text has ended"),
        prompt_time: generation.timings().prompt,
        decode_time: generation.timings().decode,
        first_token_time,
    };
    let seed = (!options.sampling.greedy).then_some(options.sampling.seed);
    if arguments.json {
        let mut result = json!({
            "prompt_tokens": prompt,
            "tokens": outcome.tokens,
            "text": tokenizer.map(|_| text),
            "finish_reason": outcome.reason,
            "seed": seed,
            "adapter": adapter.to_string(),
            "timings": {
                "load_seconds": load_time.as_secs_f64(),
                "prompt_seconds": outcome.prompt_time.as_secs_f64(),
                "decode_seconds": outcome.decode_time.as_secs_f64(),
                "first_token_seconds": outcome.first_token_time.as_secs_f64(),
                "prompt_tokens_per_second": outcome.prompt_rate(),
                "decode_tokens_per_second": outcome.decode_rate(),
            },
        });
        if options.scores {
            result["scores"] = scores.into();
        }
        return print_json(&result);
    }
    let gigabytes = Weights::bytes_per_token(opened.config()) as f64 / 1e9;
    let seed = seed.map_or_else(String::new, |seed| format!("; seed {seed}"));
    let decode = outcome
        .decode_rate()
        .map_or_else(String::new, |rate| format!(", decode {rate:.1} tok/s = {:.2} GB/s of weights", rate * gigabytes));
    note(&format!(
        "[{} tokens, {}; prompt {} tokens at {:.1} tok/s{decode}; first token after {:.2} s{seed}; {adapter}]",
        outcome.tokens.len(),
        match outcome.reason {
            FinishReason::Stop => "ended by the text".to_owned(),
            FinishReason::Length => "as many as asked for".to_owned(),
            FinishReason::Context => format!("ended by the full context of {context} positions"),
        },
        outcome.prompt,
        outcome.prompt_rate(),
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

    /// The first token comes with the prompt; `None` where there is no other.
    fn decode_rate(&self) -> Option<f64> {
        let decoded = self.tokens.len() - 1;
        (decoded > 0).then(|| decoded as f64 / self.decode_time.as_secs_f64())
    }
}
