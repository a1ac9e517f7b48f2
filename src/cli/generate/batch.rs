//! Many prompts at once: read from a file as they are needed, continued together, printed in order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gptj::{
    Config, Engine, Error, FinishReason, GenerateOptions, Gpu, LoadOptions, MemoryPlan, MemoryUsage, SamplingOptions,
    Selector, Sequence, Token,
};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::arguments::{Generate, Prompt};
use crate::cli::input::encode;
use crate::cli::lines::{Content, Items, Line, Next};
use crate::cli::load::{Opened, first_step, open_gpu};
use crate::cli::sampling::{set, settled, take};
use crate::cli::signals::Signals;
use crate::cli::texts::Failures;
use crate::cli::{bar, counted, human_bytes, json, keep_pipelines, note, out, print_json_line, short_name};

/// A prompt and how to continue it, or its error.
struct Job {
    index: usize,
    /// Its line's id, to repeat in the output.
    id: Option<Value>,
    /// Its line and file, for messages.
    location: String,
    task: anyhow::Result<Task>,
}

struct Task {
    prompt: Prompt,
    options: GenerateOptions,
    /// The number of texts to return.
    returns: usize,
    /// Whether its line has a seed.
    has_seed: bool,
    /// The most tokens of a text.
    max_length: usize,
}

/// Texts to continue at a time by default: as many as a step takes without splitting up.
const BATCH: usize = 32;

/// The most texts in memory that wait for one before them to end and be printed.
const MAX_WAITING: usize = 1000;

/// The most texts of one prompt.
const MAX_RETURNS: usize = 100_000;

/// Continues each prompt of a file.
pub(super) async fn run_file(
    arguments: &Generate,
    opened: &Opened,
    path: &Path,
    options: &GenerateOptions,
    gpu: &Selector,
) -> anyhow::Result<()> {
    // An error of the command line is reported once, not for every line.
    check_returns(arguments.num_return_sequences, false)?;
    let read = |line: Line| {
        let (index, location) = (line.index, line.location.clone());
        let (id, content) = line.content();
        let task = content.and_then(|content| task(content, arguments, opened, options));
        Job { index, id, location, task }
    };
    run(arguments, opened, Items::open(path, read)?, gpu).await
}

/// Continues one prompt several times.
pub(super) async fn run_one(
    arguments: &Generate,
    opened: &Opened,
    prompt: Prompt,
    options: GenerateOptions,
    gpu: &Selector,
) -> anyhow::Result<()> {
    let task = checked(prompt, options, arguments.num_return_sequences, true, arguments, opened)?;
    let job = Job { index: 0, id: None, location: "the prompt".to_owned(), task: Ok(task) };
    run(arguments, opened, Items::one(job), gpu).await
}

/// The task of a line: a prompt, or an object like `{"prompt": "…", "temperature": 0.8}`, with the rest as in
/// `options`.
fn task(content: Content, arguments: &Generate, opened: &Opened, options: &GenerateOptions) -> anyhow::Result<Task> {
    let encode = |text: &str| encode(text, opened.tokenizer.as_ref(), &arguments.source.model);
    let mut options = options.clone();
    let (tokens, returns, has_seed) = match content {
        Content::Text(text) => (encode(&text)?, None, false),
        Content::Object(mut line) => {
            let tokens = match (line.remove("prompt"), line.remove("tokens")) {
                (Some(prompt), None) => encode(&take::<String>("prompt", prompt)?)?,
                (None, Some(tokens)) => take("tokens", tokens)?,
                _ => return Err(Error::Prompt("it must have either a prompt or tokens".to_owned()).into()),
            };
            let returns = line.remove("num_return_sequences").map(|value| take("num_return_sequences", value));
            let has_seed = line.contains_key("seed");
            change(&mut options, line)?;
            (tokens, returns.transpose()?, has_seed)
        }
    };
    let prompt = Prompt::new(tokens, opened.config())?;
    checked(prompt, options, returns.unwrap_or(arguments.num_return_sequences), has_seed, arguments, opened)
}

fn change(options: &mut GenerateOptions, line: Map<String, Value>) -> anyhow::Result<()> {
    if line.contains_key("max_length") {
        // The line's own limit overrides the command line's.
        options.max_new_tokens = None;
    }
    line.into_iter().try_for_each(|(name, value)| set(options, &name, value))
}

/// A task, checked against the model.
fn checked(
    prompt: Prompt,
    options: GenerateOptions,
    returns: usize,
    has_seed: bool,
    arguments: &Generate,
    opened: &Opened,
) -> anyhow::Result<Task> {
    let options = settled(options);
    check_returns(returns, options.sampling.greedy)?;
    let config = arguments.context.applied_to(opened.config(), &arguments.source.model);
    let sequence = Sequence::new(&config, opened.tokenizer.as_ref(), &prompt.tokens, &options)?;
    Ok(Task { prompt, options, returns, has_seed, max_length: sequence.max_length() })
}

fn check_returns(returns: usize, greedy: bool) -> Result<(), Error> {
    let reason = if !(1..=MAX_RETURNS).contains(&returns) {
        format!("{returns} is not from 1 to {MAX_RETURNS}")
    } else if greedy && returns > 1 {
        format!("{returns} greedy texts of one prompt would all be the same; leave out greedy")
    } else {
        return Ok(());
    };
    Err(Error::Option { name: "num_return_sequences", reason })
}

/// A job's prompt, continued once.
struct Continuation {
    job: Rc<Job>,
    /// Counts the job's continuations.
    index: usize,
    seed: u64,
    tokens: Vec<u32>,
    text: String,
    scores: Vec<f64>,
    finish_reason: Option<FinishReason>,
    error: Option<anyhow::Error>,
}

impl Continuation {
    fn add(&mut self, token: gptj::Result<Token>) {
        match token {
            Ok(token) => {
                self.tokens.push(token.id);
                self.text.push_str(&token.text);
                self.scores.extend(token.score);
                self.finish_reason = token.finish_reason;
            }
            Err(error) => self.error = Some(error.into()),
        }
    }

    fn has_ended(&self) -> bool {
        self.finish_reason.is_some() || self.error.is_some() || self.job.task.is_err()
    }
}

/// The continuations of all jobs, one after another, each with its sequence if it can run.
struct Continuations<'a> {
    jobs: Items<'a, Job>,
    /// The current job, and the index of its next continuation.
    current: Option<(Rc<Job>, usize)>,
    /// Continuations begun so far.
    count: usize,
    tokenizer: Option<&'a gptj::Tokenizer>,
    config: Config,
}

impl Continuations<'_> {
    fn next(&mut self) -> anyhow::Result<Next<(Continuation, Option<Sequence>)>> {
        let (job, index) = match self.current.take() {
            Some(current) => current,
            None => match self.jobs.next()? {
                Next::Item(job) => (Rc::new(job), 0),
                Next::Later => return Ok(Next::Later),
                Next::End => return Ok(Next::End),
            },
        };
        let count = self.count;
        self.count += 1;
        let mut text = Continuation {
            job: Rc::clone(&job),
            index,
            seed: 0,
            tokens: Vec::new(),
            text: String::new(),
            scores: Vec::new(),
            finish_reason: None,
            error: None,
        };
        let Ok(task) = &job.task else { return Ok(Next::Item((text, None))) };
        // Random texts of one prompt differ, and so do those of different prompts.
        let offset = if task.has_seed { index } else { count };
        text.seed = task.options.sampling.seed.wrapping_add(offset as u64);
        let sampling = SamplingOptions { seed: text.seed, ..task.options.sampling.clone() };
        let options = GenerateOptions { sampling, ..task.options.clone() };
        let sequence = Sequence::new(&self.config, self.tokenizer, &task.prompt.tokens, &options);
        if index + 1 < task.returns {
            self.current = Some((job.clone(), index + 1));
        }
        let sequence = sequence.map_err(|error| text.error = Some(error.into())).ok();
        Ok(Next::Item((text, sequence)))
    }
}

async fn run(
    arguments: &Generate,
    opened: &Opened,
    mut jobs: Items<'_, Job>,
    selector: &Selector,
) -> anyhow::Result<()> {
    let all = jobs.look_ahead()?;
    let tasks = || all.into_iter().flatten().filter_map(|job| job.task.as_ref().ok());
    let mut queue = Queue { arguments, opened, texts: VecDeque::new(), printed: 0, failures: Failures::default() };
    let is_known = all.is_some();
    let (n_texts, longest) = (tasks().map(|task| task.returns).sum(), tasks().map(|task| task.max_length).max());
    let tokenizer = opened.tokenizer.as_ref();
    let mut texts = Continuations { jobs, current: None, count: 0, tokenizer, config: opened.config().clone() };
    if is_known && n_texts == 0 {
        while let Next::Item((text, _)) = texts.next()? {
            queue.texts.push_back(text);
        }
        queue.print(&ProgressBar::hidden())?;
        return queue.failures.check(texts.count);
    }
    let gpu = open_gpu(selector).await?;
    let limits = is_known.then_some((n_texts, longest.unwrap_or(1)));
    let options = load_options(arguments, opened.config(), &gpu, limits);
    let model = opened.load(&gpu, &options).await?;
    texts.config = model.config().clone();
    let signals = Signals::listen()?;
    let template =
        if is_known { "{prefix} {wide_bar} {pos}/{len} texts, {msg}" } else { "{prefix} {spinner} {pos} texts, {msg}" };
    let bar = bar(template, is_known.then_some(n_texts as u64)).with_prefix("generating");
    let start = Instant::now();
    let mut engine = Engine::new(model)?;
    // The engine's numbers of the running texts, and the texts' own.
    let mut running = HashMap::new();
    let (mut steps, mut n_tokens, mut has_ended) = (0usize, 0usize, false);
    while signals.received().is_none() {
        while engine.len() < options.n_slots && queue.texts.len() < options.n_slots + MAX_WAITING {
            match texts.next()? {
                Next::Item((mut text, sequence)) => {
                    match sequence.map(|sequence| engine.add(sequence)) {
                        Some(Ok(number)) => _ = running.insert(number, queue.printed + queue.texts.len()),
                        Some(Err(error)) => text.error = Some(error.into()),
                        None => {}
                    }
                    queue.texts.push_back(text);
                }
                Next::Later => break,
                Next::End => {
                    has_ended = true;
                    break;
                }
            }
        }
        queue.print(&bar)?;
        if engine.is_empty() {
            if has_ended {
                break;
            }
            texts.jobs.wait(Duration::from_millis(100))?;
            continue;
        }
        let step = engine.step();
        let tokens = if steps == 0 { first_step(step).await? } else { step.await? };
        for (number, token) in tokens {
            n_tokens += usize::from(token.is_ok());
            let text = &mut queue.texts[running[&number] - queue.printed];
            text.add(token);
            if text.has_ended() {
                running.remove(&number);
                bar.inc(1);
            }
        }
        steps += 1;
        bar.set_message(format!("{:.1} tok/s", n_tokens as f64 / start.elapsed().as_secs_f64()));
    }
    queue.print_the_rest(&bar)?;
    bar.finish_and_clear();
    keep_pipelines(&gpu);
    let seconds = start.elapsed().as_secs_f64();
    let per_token = MemoryUsage::weights_per_token(opened.config()) * steps as u64 / n_tokens.max(1) as u64;
    note(&format!(
        "[{}, {} in {seconds:.2} s: {:.1} tok/s; {}; {} of weights per token; {}{}]",
        counted(texts.count, "text"),
        counted(n_tokens, "token"),
        n_tokens as f64 / seconds,
        counted(steps, "step"),
        human_bytes(per_token),
        short_name(gpu.info()),
        signals.received().map_or_else(String::new, |signal| format!("; ended by {}", signal.cause())),
    ));
    signals.check()?;
    queue.failures.check(texts.count)
}

/// The model's layout. `limits` are the number of texts and the tokens of the longest, if all are known. Each slot is
/// as long as the longest, or else as the model's context, and there are as many slots as fit.
fn load_options(arguments: &Generate, config: &Config, gpu: &Gpu, limits: Option<(usize, usize)>) -> LoadOptions {
    let asked = arguments.context.of(&arguments.source.model);
    let (n_texts, longest) = limits.unwrap_or((BATCH, config.n_positions));
    let context = arguments.context.context.unwrap_or(longest.min(asked.unwrap_or(config.n_positions)));
    let options = |n_slots| LoadOptions { n_slots, context: Some(context), ..LoadOptions::default() };
    if let Some(n_slots) = arguments.batch {
        return options(n_slots.into());
    }
    let fits = |n_slots: &usize| MemoryPlan::new(gpu.into(), config, &options(*n_slots)).is_ok();
    match (1..=n_texts.min(BATCH)).rev().find(fits) {
        Some(n_slots) => options(n_slots),
        // One at a time, with the context asked for or the longest that fits.
        None => LoadOptions { context: asked, ..LoadOptions::default() },
    }
}

/// Texts that are not printed yet, in order.
struct Queue<'a> {
    arguments: &'a Generate,
    opened: &'a Opened,
    texts: VecDeque<Continuation>,
    /// Texts printed before them.
    printed: usize,
    failures: Failures,
}

impl Queue<'_> {
    /// Prints those that have ended, up to the first that has not.
    fn print(&mut self, bar: &ProgressBar) -> anyhow::Result<()> {
        while let Some(text) = self.texts.pop_front_if(|text| text.has_ended()) {
            self.printed += 1;
            bar.suspend(|| self.print_text(&text))?;
        }
        Ok(())
    }

    /// Prints the others as far as they got.
    fn print_the_rest(&mut self, bar: &ProgressBar) -> anyhow::Result<()> {
        while let Some(text) = self.texts.pop_front() {
            if text.has_ended() || !text.tokens.is_empty() {
                bar.suspend(|| self.print_text(&text))?;
            }
        }
        Ok(())
    }

    fn print_text(&mut self, text: &Continuation) -> anyhow::Result<()> {
        let Continuation { job, index, .. } = text;
        let error = job.task.as_ref().err().or(text.error.as_ref());
        let error = error.map(|error| self.failures.add(&job.location, error));
        let opened = self.opened;
        if let Ok(task) = &job.task
            && self.arguments.prompts.is_none()
            && !self.arguments.json
        {
            let (whole, separator) = match &opened.tokenizer {
                Some(_) => (task.prompt.text(opened)? + &text.text, if *index > 0 { "---\n" } else { "" }),
                None => (text.tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(","), ""),
            };
            return Ok(writeln!(out(), "{separator}{whole}")?);
        }
        let mut line = BTreeMap::from([("index", json!(job.index))]);
        if let Some(id) = &job.id {
            line.insert("id", id.clone());
        }
        if let Some(error) = error {
            line.insert("error", json!(error));
        }
        if let Ok(task) = &job.task {
            line.extend([
                ("sequence", json!(index)),
                ("prompt_tokens", json!(task.prompt.tokens)),
                ("tokens", json!(text.tokens)),
                ("text", json!(opened.tokenizer.as_ref().map(|_| &text.text))),
                ("finish_reason", json!(text.finish_reason)),
                ("seed", json!((!task.options.sampling.greedy).then(|| json::seed(text.seed)))),
            ]);
            if task.options.scores {
                line.insert("scores", json!(text.scores));
            }
        }
        print_json_line(&json!(line))
    }
}
