//! One text, shown while it grows.

use std::io::Write;
use std::time::{Duration, Instant};

use gptj::{FinishReason, GenerateOptions, Generation, LoadOptions, MemoryUsage, Selector};
use serde_json::json;

use super::arguments::{Generate, Prompt};
use crate::cli::load::{Opened, first_step, open_gpu};
use crate::cli::signals::Signals;
use crate::cli::{counted, json, note, note_not_kept, out, print_json, short_name};

/// Shows a text while it grows.
pub(super) async fn stream(
    arguments: &Generate,
    opened: &Opened,
    prompt: &Prompt,
    options: &GenerateOptions,
    gpu: &Selector,
    program_start: Instant,
) -> anyhow::Result<()> {
    let tokenizer = opened.tokenizer.as_ref();
    let start = Instant::now();
    let gpu = open_gpu(gpu).await?;
    let load_options = LoadOptions { context: arguments.context.of(&arguments.source.model), ..LoadOptions::default() };
    let mut model = opened.load(&gpu, &load_options).await?;
    let load_time = start.elapsed();
    let context = model.config().n_positions;
    let adapter = gpu.info();

    let signals = Signals::listen()?;
    let mut generation = Generation::new(&mut model, tokenizer, &prompt.tokens, options)?;
    let mut out = out();
    let (mut text, mut scores) = (String::new(), Vec::new());
    let mut first_token_time = Duration::ZERO;
    let mut kept = Ok(());
    let mut next = first_step(generation.next()).await;
    if !arguments.json {
        write!(out, "{}", prompt.text(opened)?)?;
        out.flush()?;
    }
    loop {
        let token = match next {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err(error) => {
                // The message starts a new line.
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
            // Every kernel has run, and the reader has something to read.
            kept = gpu.save_pipelines();
        }
        if signals.received().is_some() {
            break;
        }
        next = generation.next().await;
    }
    if !arguments.json {
        writeln!(out)?;
    }
    note_not_kept(kept);
    let outcome = Outcome {
        prompt: prompt.tokens.len(),
        tokens: generation.generated().to_vec(),
        reason: generation.finish_reason(),
        prompt_time: generation.timings().prompt,
        decode_time: generation.timings().decode,
        first_token_time,
    };
    let seed = (!options.sampling.greedy).then_some(options.sampling.seed);
    if arguments.json {
        let mut result = json!({
            "prompt_tokens": prompt.tokens,
            "tokens": outcome.tokens,
            "text": tokenizer.map(|_| text),
            "finish_reason": outcome.reason,
            "seed": seed.map(json::seed),
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
        print_json(&result)?;
        return Ok(signals.check()?);
    }
    let gigabytes_per_token = MemoryUsage::weights_per_token(opened.config()) as f64 / 1e9;
    let seed = seed.map_or_else(String::new, |seed| format!("; seed {seed}"));
    let decode = match outcome.decode_rate() {
        Some(rate) => format!(", decode {rate:.1} tok/s = {:.2} GB/s of weights", rate * gigabytes_per_token),
        None => String::new(),
    };
    let end = match (outcome.reason, signals.received()) {
        (Some(FinishReason::Stop), _) => "ended by the text".to_owned(),
        (Some(FinishReason::Length), _) => "as many as asked for".to_owned(),
        (Some(FinishReason::Context), _) => format!("ended by the full context of {context} positions"),
        (None, signal) => format!("ended by {}", signal.expect("nothing else ends a text early").cause()),
    };
    note(&format!(
        "[{}, {end}; prompt {} at {:.1} tok/s{decode}; first token after {:.2} s{seed}; {}]",
        counted(outcome.tokens.len(), "token"),
        counted(outcome.prompt, "token"),
        outcome.prompt_rate(),
        outcome.first_token_time.as_secs_f64(),
        short_name(adapter),
    ));
    Ok(signals.check()?)
}

struct Outcome {
    prompt: usize,
    tokens: Vec<u32>,
    /// `None` if a signal ended the text.
    reason: Option<FinishReason>,
    prompt_time: Duration,
    decode_time: Duration,
    /// From the start of the program.
    first_token_time: Duration,
}

impl Outcome {
    fn prompt_rate(&self) -> f64 {
        self.prompt as f64 / self.prompt_time.as_secs_f64()
    }

    /// The first token comes with the prompt; `None` if it is the only one.
    fn decode_rate(&self) -> Option<f64> {
        let decoded = self.tokens.len() - 1;
        (decoded > 0).then(|| decoded as f64 / self.decode_time.as_secs_f64())
    }
}
