//! Many prompts at once: read from a file, continued together, printed in their order.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use gptj::internals::weights::Weights;
use gptj::{
    Config, Error, FinishReason, GenerateOptions, Gpu, LoadOptions, MemoryPlan, SamplingOptions, Selector, Sequence,
    Session, Token,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::generate::Generate;
use super::input::{Line, encode, read_lines};
use super::load::{Opened, open_gpu};
use super::sampling::{set, take};
use super::{ModelArguments, keep_pipelines, note};

/// A prompt and how to continue it.
pub(super) struct Job {
    prompt: Vec<u32>,
    options: GenerateOptions,
    /// How often, where it is not as often as the others.
    returns: Option<usize>,
    /// Whether its seed is its own.
    has_seed: bool,
    /// Where it was read, for messages.
    place: String,
}

impl Job {
    pub(super) fn new(prompt: Vec<u32>, options: GenerateOptions) -> Self {
        Self { prompt, options, returns: None, has_seed: true, place: "the prompt".to_owned() }
    }
}

/// Texts that are continued at a time, where nothing else is said: as many as a step takes without splitting up.
const BATCH: usize = 32;

/// Texts of a run at most; all of them are in memory.
const MOST_TEXTS: usize = 100_000;

/// Reads a file of prompts: JSON lines, or a prompt a line.
pub(super) fn read(
    path: &Path,
    opened: &Opened,
    model: &ModelArguments,
    options: &GenerateOptions,
) -> anyhow::Result<Vec<Job>> {
    let (lines, are_json) = read_lines(path)?;
    let mut jobs = Vec::new();
    for Line { text, place } in lines {
        let job = if are_json {
            parse(&text, opened, model, options)
        } else {
            encode(&text, opened.tokenizer.as_ref(), model).map(|prompt| Job::new(prompt, options.clone()))
        };
        let job = job.with_context(|| place.clone())?;
        jobs.push(Job { has_seed: job.has_seed && are_json, place, ..job });
    }
    Ok(jobs)
}

/// A line like `{"prompt": "…", "temperature": 0.8}`; what it does not say is as in `options`.
fn parse(line: &str, opened: &Opened, model: &ModelArguments, options: &GenerateOptions) -> anyhow::Result<Job> {
    let mut line: Map<String, Value> = serde_json::from_str(line)?;
    let prompt = match (line.remove("prompt"), line.remove("tokens")) {
        (Some(prompt), None) => encode(&take::<String>("prompt", prompt)?, opened.tokenizer.as_ref(), model)?,
        (None, Some(tokens)) => take("tokens", tokens)?,
        _ => return Err(Error::Prompt("it must have either a prompt or tokens".to_owned()).into()),
    };
    let returns = line.remove("num_return_sequences").map(|value| take("num_return_sequences", value)).transpose()?;
    let has_seed = line.contains_key("seed");
    let mut options = options.clone();
    if line.contains_key("max_length") {
        // The line's own limit counts, and not the one on the command line.
        options.max_new_tokens = None;
    }
    for (name, value) in line {
        set(&mut options, &name, value)?;
    }
    Ok(Job { returns, has_seed, ..Job::new(prompt, options) })
}

/// A text of a job.
struct Text {
    job: usize,
    /// Which of the job's texts.
    index: usize,
    seed: u64,
    tokens: Vec<u32>,
    text: String,
    scores: Vec<f64>,
    finish_reason: Option<FinishReason>,
    error: Option<String>,
}

impl Text {
    fn add(&mut self, token: gptj::Result<Token>) {
        match token {
            Ok(token) => {
                self.tokens.push(token.id);
                self.text.push_str(&token.text);
                self.scores.extend(token.score);
                self.finish_reason = token.finish_reason;
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    fn has_ended(&self) -> bool {
        self.finish_reason.is_some() || self.error.is_some()
    }
}

/// Every text that the jobs ask for, for a model of this configuration.
fn texts(
    arguments: &Generate,
    opened: &Opened,
    jobs: &[Job],
    config: &Config,
) -> anyhow::Result<(Vec<Text>, Vec<Sequence>)> {
    let (mut texts, mut sequences) = (Vec::new(), Vec::new());
    for (index_of_job, job) in jobs.iter().enumerate() {
        let returns = job.returns.unwrap_or(arguments.num_return_sequences);
        if returns == 0 || returns.saturating_add(texts.len()) > MOST_TEXTS {
            let reason = format!("{returns} texts were asked for; there can be from 1 to {MOST_TEXTS} in all");
            let error = Error::Option { name: "num_return_sequences", reason };
            return Err(error).with_context(|| job.place.clone());
        }
        if returns > 1 && job.options.sampling.greedy {
            let reason = format!("{returns} greedy texts of one prompt would all be the same; leave out greedy");
            let error = Error::Option { name: "num_return_sequences", reason };
            return Err(error).with_context(|| job.place.clone());
        }
        for index in 0..returns {
            // Random texts of one prompt differ, and so do those of different prompts.
            let offset = if job.has_seed { index } else { sequences.len() };
            let seed = job.options.sampling.seed.wrapping_add(offset as u64);
            let sampling = SamplingOptions { seed, ..job.options.sampling.clone() };
            let options = GenerateOptions { sampling, ..job.options.clone() };
            let sequence = Sequence::new(config, opened.tokenizer.as_ref(), &job.prompt, &options);
            sequences.push(sequence.with_context(|| job.place.clone())?);
            let (tokens, scores) = (Vec::new(), Vec::new());
            let (text, finish_reason, error) = (String::new(), None, None);
            texts.push(Text { job: index_of_job, index, seed, tokens, text, scores, finish_reason, error });
        }
    }
    Ok((texts, sequences))
}

pub(super) async fn run(
    arguments: &Generate,
    opened: &Opened,
    jobs: Vec<Job>,
    selector: &Selector,
) -> anyhow::Result<()> {
    let (mut texts, sequences) = texts(arguments, opened, &jobs, &arguments.context.applied_to(opened.config()))?;
    let gpu = open_gpu(selector).await?;
    let mut model = opened.load(&gpu, &load_options(arguments, opened.config(), &gpu, &sequences)).await?;
    let start = Instant::now();
    let mut session = Session::new(&mut model)?;
    for (sequence, text) in sequences.into_iter().zip(&texts) {
        session.add(sequence).with_context(|| jobs[text.job].place.clone())?;
    }
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} texts, {msg}")?;
    let bar = ProgressBar::new(texts.len() as u64).with_style(style).with_prefix("generating");
    let (mut steps, mut n_tokens, mut printed) = (0usize, 0usize, 0);
    while !session.is_empty() {
        for (index, token) in session.step().await? {
            n_tokens += usize::from(token.is_ok());
            texts[index].add(token);
            bar.inc(u64::from(texts[index].has_ended()));
        }
        steps += 1;
        bar.set_message(format!("{:.1} tok/s", n_tokens as f64 / start.elapsed().as_secs_f64()));
        while let Some(text) = texts.get(printed).filter(|text| text.has_ended()) {
            bar.suspend(|| print(arguments, opened, &jobs[text.job], text))?;
            printed += 1;
        }
    }
    bar.finish_and_clear();
    keep_pipelines(&gpu);
    let seconds = start.elapsed().as_secs_f64();
    let per_token = Weights::bytes_per_token(opened.config()) * steps as u64 / n_tokens.max(1) as u64;
    note(&format!(
        "[{} texts, {n_tokens} tokens in {seconds:.2} s: {:.1} tok/s; {steps} steps; {} of weights read a token; {}]",
        texts.len(),
        n_tokens as f64 / seconds,
        super::gigabytes(per_token),
        gpu.info()
    ));
    let failed: Vec<_> = texts.iter().filter_map(|text| Some((text, text.error.as_ref()?))).collect();
    match failed.first() {
        None => Ok(()),
        Some((text, error)) => {
            bail!("{} of {} texts failed; {}: {error}", failed.len(), texts.len(), jobs[text.job].place)
        }
    }
}

/// How the model is laid out for these texts: each slot as long as the longest of them can become, and as many slots as
/// there is room for.
fn load_options(arguments: &Generate, config: &Config, gpu: &Gpu, sequences: &[Sequence]) -> LoadOptions {
    let longest = sequences.iter().map(Sequence::max_length).max().unwrap_or(1).min(config.n_positions);
    let context = arguments.context.context.or(Some(longest));
    let options = |n_slots| LoadOptions { n_slots, context, ..LoadOptions::default() };
    if let Some(n_slots) = arguments.batch {
        return options(n_slots.into());
    }
    let fits = |n_slots: &usize| MemoryPlan::new(gpu.into(), config, &options(*n_slots)).is_ok();
    match (1..=sequences.len().min(BATCH)).rev().find(fits) {
        Some(n_slots) => options(n_slots),
        // One at a time, with as long a context as fits or as was asked for.
        None => LoadOptions { context: arguments.context.context, ..LoadOptions::default() },
    }
}

fn print(arguments: &Generate, opened: &Opened, job: &Job, text: &Text) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    if arguments.prompts.is_none() && !arguments.json {
        let (whole, separator) = match &opened.tokenizer {
            Some(tokenizer) => (tokenizer.decode(&job.prompt)? + &text.text, if text.index > 0 { "---\n" } else { "" }),
            None => (text.tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(","), ""),
        };
        return Ok(writeln!(out, "{separator}{whole}")?);
    }
    let mut line = BTreeMap::from([
        ("index", json!(text.job)),
        ("sequence", json!(text.index)),
        ("prompt_tokens", json!(job.prompt)),
        ("tokens", json!(text.tokens)),
        ("text", json!(opened.tokenizer.as_ref().map(|_| &text.text))),
        ("finish_reason", json!(text.finish_reason)),
        ("seed", json!((!job.options.sampling.greedy).then_some(text.seed))),
    ]);
    if job.options.scores {
        line.insert("scores", json!(text.scores));
    }
    if let Some(error) = &text.error {
        line.insert("error", json!(error));
    }
    Ok(writeln!(out, "{}", json!(line))?)
}
