//! The measurements of a model, and their shares of the available time.

use std::time::{Duration, Instant};

use anyhow::Context;
use gptj::internals::engine::Pipeline;
use gptj::internals::kv_cache::KvCache;
use gptj::internals::weights::Weights;
use gptj::{Config, Error, GemvConfig, Gpu, LoadOptions, Model, SlotTokens};

use crate::cli::bench::statistics::Statistics;
use crate::cli::signals::{Interrupted, Signals};

/// One number.
pub(super) struct Measurement {
    pub(super) name: String,
    pub(super) unit: &'static str,
    number: Number,
}

enum Number {
    /// Of some runs; `None` if there was no time or no memory for any.
    Measured(Option<Statistics>),
    /// Exact; `None` if it is unknown.
    Counted(Option<u64>),
}

impl Measurement {
    fn statistics(&self) -> Option<Statistics> {
        match self.number {
            Number::Measured(statistics) => statistics,
            Number::Counted(_) => None,
        }
    }

    /// The median of the runs, or the count.
    pub(super) fn value(&self) -> Option<f64> {
        match self.number {
            Number::Measured(statistics) => statistics.map(|statistics| statistics.median),
            Number::Counted(count) => count.map(|count| count as f64),
        }
    }

    pub(super) fn min(&self) -> Option<f64> {
        self.statistics().map(|statistics| statistics.min)
    }

    pub(super) fn spread(&self) -> Option<f64> {
        self.statistics()?.spread
    }

    pub(super) fn runs(&self) -> Option<usize> {
        self.statistics().map(|statistics| statistics.runs)
    }
}

/// How long to measure.
pub(super) struct Limits {
    /// Runs of a measurement.
    pub(super) runs: usize,
    /// For all measurements.
    pub(super) time: Option<Duration>,
}

/// The measurements so far, and the time left for others.
pub(super) struct Session {
    done: Vec<Measurement>,
    runs: usize,
    end: Option<Instant>,
    /// Measurements that are still to share the time.
    left: usize,
    /// The approximate time of a step, and of each token of a prompt.
    step: Duration,
    token: Duration,
    signals: Signals,
}

impl Session {
    /// The time begins now. Once a signal was received, nothing more is measured.
    pub(super) fn new(Limits { runs, time }: Limits, signals: Signals) -> Self {
        let end = time.map(|time| Instant::now() + time);
        Self { done: Vec::new(), runs, end, left: 1, step: Duration::ZERO, token: Duration::ZERO, signals }
    }

    /// Roughly measures a prompt and a step, so that nothing starts that would not end in time.
    pub(super) async fn estimate(&mut self, model: &mut Model, prompt: &[u32]) -> gptj::Result<()> {
        model.truncate(0, 0);
        let start = Instant::now();
        model.greedy_token(0, prompt).await?;
        self.token = start.elapsed() / prompt.len() as u32;
        model.truncate(0, 1);
        let start = Instant::now();
        model.greedy_token(0, &[0]).await?;
        self.step = start.elapsed();
        Ok(())
    }

    /// The number of measurements that share the time left.
    pub(super) fn expect(&mut self, measurements: usize) {
        self.left = measurements;
    }

    /// The measurements, and the signal that ended them, if one did.
    pub(super) fn end(self) -> (Vec<Measurement>, Option<Interrupted>) {
        (self.done, self.signals.received())
    }

    fn is_interrupted(&self) -> bool {
        self.signals.received().is_some()
    }

    /// A time, measured once.
    pub(super) fn once(&mut self, name: &str, time: Duration) {
        self.add(name.to_owned(), "s", &[time.as_secs_f64()], |seconds| seconds);
    }

    pub(super) fn count(&mut self, name: impl Into<String>, unit: &'static str, count: Option<u64>) {
        self.done.push(Measurement { name: name.into(), unit, number: Number::Counted(count) });
    }

    /// A number, computed from the seconds of some runs.
    fn add(&mut self, name: String, unit: &'static str, runs: &[f64], of: impl Fn(f64) -> f64) {
        let statistics = Statistics::of(runs.iter().map(|&seconds| of(seconds)));
        // After Ctrl-C, the rest is not listed.
        if statistics.is_some() || !self.is_interrupted() {
            self.done.push(Measurement { name, unit, number: Number::Measured(statistics) });
        }
    }

    /// The next measurement's share of the time left; `None` if a run of it, of about `estimate`, would take most of
    /// it.
    fn share(&mut self, estimate: Duration) -> Option<Duration> {
        let rest = self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let share = rest / self.left.max(1) as u32;
        self.left = self.left.saturating_sub(1);
        (!rest.is_zero() && estimate < rest / 2 && !self.is_interrupted()).then_some(share)
    }

    /// The seconds of some work: of as many runs as fit `share`, up to `limit`, after one that does not count, as it
    /// may compile kernels or find caches cold.
    async fn repeat(
        &self,
        share: Duration,
        limit: usize,
        mut run: impl AsyncFnMut() -> gptj::Result<()>,
    ) -> gptj::Result<Vec<f64>> {
        let begin = Instant::now();
        let mut times = Vec::new();
        loop {
            let start = Instant::now();
            match run().await {
                Err(Error::Stopped) => break,
                outcome => outcome?,
            }
            times.push(start.elapsed().as_secs_f64());
            let is_over = times.len() > 1 && begin.elapsed() >= share;
            if is_over || times.len() > limit || self.is_interrupted() {
                break;
            }
        }
        Ok(times.into_iter().skip(1).collect())
    }
}

pub(super) fn tokens(config: &Config, count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * 7919 % config.vocab_size) as u32).collect()
}

/// The host's time to prepare and submit a token's step. On a software driver, whose threads take the processor
/// meanwhile, it would mean nothing; `gptj bench plan` measures it without them.
pub(super) async fn host(session: &mut Session, model: &mut Model) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let share = session.share(session.step).filter(|_| !model.gpu().info().is_software());
    if let Some(share) = share {
        let begin = Instant::now();
        while times.is_empty() || (times.len() < session.runs && begin.elapsed() < share) {
            model.truncate(0, 0);
            let start = Instant::now();
            let submitted = model.submit_greedy_token(0, &[0])?;
            times.push(start.elapsed().as_secs_f64());
            submitted.take::<u32>().await?;
        }
    }
    session.add("host".to_owned(), "µs/token", &times, |seconds| seconds * 1e6);
    Ok(())
}

/// Tokens one after another, the first of them at `depth`.
pub(super) async fn decode(session: &mut Session, model: &mut Model, depth: usize) -> anyhow::Result<()> {
    let name = format!("decode at depth {depth}");
    // Of the positions left, the first run takes one, and the token after the last another.
    let limit = session.runs.min(model.config().n_positions.saturating_sub(depth + 3));
    let times = match session.share(session.step) {
        Some(share) if limit > 0 => {
            model.truncate(0, 0);
            model.skip(0, depth);
            // As in generation, the GPU has the next step before the host knows this one's token.
            let mut pipeline = Pipeline::default();
            let mut token = 0;
            let run = async || {
                token = pipeline.greedy_token(model, 0, &[token], true).await?;
                Ok(())
            };
            let times = session.repeat(share, limit, run).await?;
            // Ends the step under way, which the next measurement would wait for.
            pipeline.greedy_token(model, 0, &[token], false).await?;
            times
        }
        _ => Vec::new(),
    };
    let config = model.config();
    let bytes = Weights::bytes_per_token(config) + KvCache::bytes_per_position(config) * (depth as u64 + 1);
    if !session.is_interrupted() {
        session.count(format!("{name}, reads"), "bytes", Some(bytes));
    }
    session.add(name.clone(), "tok/s", &times, f64::recip);
    session.add(format!("{name}, memory"), "GB/s", &times, |seconds| bytes as f64 / seconds / 1e9);
    Ok(())
}

/// A prompt of `length` tokens, and the token after it.
pub(super) async fn prefill(session: &mut Session, model: &mut Model, length: usize) -> anyhow::Result<()> {
    let estimate = session.token.saturating_mul(length as u32);
    let fits = length <= model.config().n_positions;
    let times = match session.share(2 * estimate) {
        Some(share) if fits => {
            let prompt = tokens(model.config(), length);
            let run = async || {
                model.truncate(0, 0);
                model.greedy_token(0, &prompt).await.map(|_| ())
            };
            session.repeat(share, session.runs, run).await?
        }
        _ => Vec::new(),
    };
    session.add(format!("prefill of {length}"), "tok/s", &times, |seconds| length as f64 / seconds);
    Ok(())
}

/// A text of `length` tokens, from an empty context.
pub(super) async fn generate(session: &mut Session, model: &mut Model, length: usize) -> anyhow::Result<()> {
    let estimate = session.step.saturating_mul(length as u32);
    let fits = length <= model.config().n_positions;
    let times = match session.share(2 * estimate) {
        Some(share) if fits => {
            let run = async || {
                model.truncate(0, 0);
                let mut pipeline = Pipeline::default();
                let mut token = 0;
                for left in (0..length).rev() {
                    if session.is_interrupted() {
                        return Err(Error::Stopped);
                    }
                    token = pipeline.greedy_token(model, 0, &[token], left > 0).await?;
                }
                Ok(())
            };
            session.repeat(share, session.runs, run).await?
        }
        _ => Vec::new(),
    };
    session.add(format!("generation of {length}"), "tok/s", &times, |seconds| length as f64 / seconds);
    Ok(())
}

/// Decoding several sequences at once, in a model with many short slots.
pub(super) async fn batches(
    session: &mut Session,
    gpu: &Gpu,
    config: &Config,
    weights: Weights,
    sizes: &[usize],
) -> anyhow::Result<()> {
    let n_slots = sizes.iter().copied().max().unwrap_or(1);
    let options = LoadOptions { n_slots, gemv: GemvConfig::tuned(gpu), ..LoadOptions::default() };
    let model = Model::new(gpu, config, weights, &options).await;
    let mut model = match model {
        Ok(model) => Some(model),
        Err(Error::OutOfMemory { .. }) => None,
        Err(error) => return Err(error).context("a model for batches"),
    };
    if let Some(model) = &mut model {
        // Drivers put off some work until a kernel first runs.
        model.greedy_token(0, &[0]).await?;
    }
    for &rows in sizes {
        let times = match (session.share(session.step.saturating_mul(rows as u32)), &mut model) {
            (Some(share), Some(model)) => {
                let next: Vec<_> = (0..rows).map(|slot| SlotTokens { slot, tokens: &[0] }).collect();
                let limit = session.runs.min(config.n_positions.saturating_sub(2));
                (0..rows).for_each(|slot| model.truncate(slot, 0));
                let run = async || model.greedy_tokens(&next).await.map(|_| ());
                session.repeat(share, limit, run).await?
            }
            _ => Vec::new(),
        };
        session.add(format!("decode of {rows} sequences"), "tok/s", &times, |seconds| rows as f64 / seconds);
    }
    Ok(())
}
