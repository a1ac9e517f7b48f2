//! Many prompts at once: read from a file, continued together, printed in their order.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use gptj::internals::weights::Weights;
use gptj::{
    Config, Error, FinishReason, GenerateOptions, Gpu, LoadOptions, MemoryPlan, SamplingOptions, Selector, Sequence,
    Session,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::generate::Generate;
use super::input::{encode, read_file};
use super::load::{Opened, open_gpu};
use super::{ModelArguments, keep_pipelines, note};

/// A prompt and how to continue it.
pub(super) struct Job {
    prompt: Vec<u32>,
    options: GenerateOptions,
    /// How often, where it is not as often as the others.
    returns: Option<usize>,
    /// Whether its seed is its own.
    has_seed: bool,
}

impl Job {
    pub(super) fn new(prompt: Vec<u32>, options: GenerateOptions) -> Self {
        Self { prompt, options, returns: None, has_seed: true }
    }
}

/// Texts that are continued at a time, where nothing else is said: as many as a step takes without splitting up.
const BATCH: usize = 32;

/// Reads a file of prompts: JSON lines if it begins like one, and else a prompt a line. Empty lines are passed over.
pub(super) fn read(
    path: &Path,
    opened: &Opened,
    model: &ModelArguments,
    options: &GenerateOptions,
) -> anyhow::Result<Vec<Job>> {
    let text = read_file(path)?;
    let is_json = text.trim_start().starts_with('{');
    let mut jobs = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let job = if is_json {
            parse(line, opened, model, options)
        } else {
            encode(line, opened.tokenizer.as_ref(), model).map(|prompt| Job::new(prompt, options.clone()))
        };
        let check = |mut job: Job| {
            job.has_seed &= is_json;
            Sequence::new(opened.config(), opened.tokenizer.as_ref(), &job.prompt, &job.options)?;
            Ok::<_, anyhow::Error>(job)
        };
        jobs.push(job.and_then(check).with_context(|| format!("line {} of {}", index + 1, path.display()))?);
    }
    if jobs.is_empty() {
        return Err(Error::Prompt(format!("{} has no prompts", path.display())).into());
    }
    Ok(jobs)
}

/// A line like `{"prompt": "…", "temperature": 0.8}`; what it does not say is as in `options`.
fn parse(line: &str, opened: &Opened, model: &ModelArguments, options: &GenerateOptions) -> anyhow::Result<Job> {
    let mut line: Map<String, Value> = serde_json::from_str(line)?;
    let mut options = options.clone();
    let prompt = match (line.remove("prompt"), line.remove("tokens")) {
        (Some(prompt), None) => encode(&take::<String>("prompt", prompt)?, opened.tokenizer.as_ref(), model)?,
        (None, Some(tokens)) => take("tokens", tokens)?,
        _ => return Err(Error::Prompt("it must have either a prompt or tokens".to_owned()).into()),
    };
    let returns = line.remove("num_return_sequences").map(|value| take("num_return_sequences", value)).transpose()?;
    if let Some(length) = line.remove("max_length") {
        // The line's own limit counts, and not the one on the command line.
        options.max_new_tokens = None;
        options.max_length = take("max_length", length)?;
    }
    if let Some(new) = line.remove("max_new_tokens") {
        options.max_new_tokens = take("max_new_tokens", new)?;
    }
    if let Some(stop) = line.remove("stop") {
        options.stop = if stop.is_string() { vec![take("stop", stop)?] } else { take("stop", stop)? };
    }
    let has_seed = line.contains_key("seed");
    // The rest are options of sampling, and what is none of them is refused by its name.
    let mut sampling = serde_json::to_value(&options.sampling)?;
    if let Value::Object(sampling) = &mut sampling {
        sampling.extend(line);
    }
    options.sampling = serde_path_to_error::deserialize::<_, SamplingOptions>(sampling)?;
    Ok(Job { prompt, options, returns, has_seed })
}

fn take<T: serde::de::DeserializeOwned>(name: &'static str, value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value).context(name)
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
}

pub(super) async fn run(
    arguments: &Generate,
    opened: &Opened,
    jobs: Vec<Job>,
    selector: &Selector,
) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    let mut sequences = Vec::new();
    for (index_of_job, job) in jobs.iter().enumerate() {
        let returns = job.returns.unwrap_or(arguments.num_return_sequences);
        if returns == 0 {
            let reason = "0 texts were asked for; ask for at least 1".to_owned();
            return Err(Error::Option { name: "num_return_sequences", reason }.into());
        }
        for index in 0..returns {
            // No two texts of one prompt are alike, and those of different prompts differ as well.
            let offset = if job.has_seed { index } else { sequences.len() };
            let seed = job.options.sampling.seed.wrapping_add(offset as u64);
            let sampling = SamplingOptions { seed, ..job.options.sampling.clone() };
            let options = GenerateOptions { sampling, ..job.options.clone() };
            sequences.push(Sequence::new(opened.config(), opened.tokenizer.as_ref(), &job.prompt, &options)?);
            let (tokens, scores) = (Vec::new(), Vec::new());
            let text =
                Text { job: index_of_job, index, seed, tokens, text: String::new(), scores, finish_reason: None };
            texts.push(text);
        }
    }

    let gpu = open_gpu(selector).await?;
    let mut model = opened.load(&gpu, &load_options(arguments, opened.config(), &gpu, &sequences)?).await?;
    let start = Instant::now();
    let mut session = Session::new(&mut model)?;
    sequences.into_iter().for_each(|sequence| _ = session.add(sequence));
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} texts, {msg}")?;
    let bar = ProgressBar::new(texts.len() as u64).with_style(style).with_prefix("generating");
    let (mut steps, mut n_tokens, mut printed) = (0usize, 0usize, 0);
    while !session.is_empty() {
        for (index, token) in session.step().await? {
            let text = &mut texts[index];
            text.tokens.push(token.id);
            text.text.push_str(&token.text);
            text.scores.extend(token.score);
            text.finish_reason = token.finish_reason;
            n_tokens += 1;
            bar.inc(u64::from(token.finish_reason.is_some()));
        }
        steps += 1;
        bar.set_message(format!("{:.1} tok/s", n_tokens as f64 / start.elapsed().as_secs_f64()));
        while let Some(text) = texts.get(printed).filter(|text| text.finish_reason.is_some()) {
            bar.suspend(|| print(arguments, opened, &jobs[text.job], text))?;
            printed += 1;
        }
    }
    bar.finish_and_clear();
    keep_pipelines(&gpu);
    let seconds = start.elapsed().as_secs_f64();
    let per_token = Weights::bytes_per_token(opened.config()) * steps as u64 / n_tokens as u64;
    note(&format!(
        "[{} texts, {n_tokens} tokens in {seconds:.2} s: {:.1} tok/s; {steps} steps; {} of weights read a token; {}]",
        texts.len(),
        n_tokens as f64 / seconds,
        super::gigabytes(per_token),
        gpu.info()
    ));
    Ok(())
}

/// How the model is laid out for these texts: each slot as long as the longest of them can become, and as many slots as
/// there is room for.
fn load_options(
    arguments: &Generate,
    config: &Config,
    gpu: &Gpu,
    sequences: &[Sequence],
) -> anyhow::Result<LoadOptions> {
    let longest = sequences.iter().map(Sequence::max_length).max().unwrap_or(1);
    let context = arguments.context.context.unwrap_or(longest.min(config.n_positions));
    let options = |n_slots| LoadOptions { n_slots, context: Some(context), ..LoadOptions::default() };
    if let Some(n_slots) = arguments.batch {
        return Ok(options(n_slots));
    }
    let mut n_slots = sequences.len().min(BATCH);
    while n_slots > 1 && MemoryPlan::new(gpu.into(), config, &options(n_slots)).is_err() {
        n_slots /= 2;
    }
    Ok(options(n_slots))
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
    Ok(writeln!(out, "{}", json!(line))?)
}
