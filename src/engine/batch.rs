//! Sequences that continue together, one token per step, on an owned or borrowed model.

use std::ops::Range;

use gptj_checkpoint::Class;

use super::pipeline::Pipeline;
use super::scheduler::{Running, Scheduler};
use crate::error::{Error, LOGITS, Result};
use crate::generate::{Sequence, Token};
use crate::model::{Model, SlotTokens};

/// The sequences, their slots, and the prepared step.
pub(super) struct Batch {
    scheduler: Scheduler,
    pipeline: Pipeline,
}

impl Running {
    fn slot_tokens(&self, tokens: Range<usize>) -> SlotTokens<'_> {
        SlotTokens { slot: self.slot, tokens: &self.sequence.tokens()[tokens] }
    }
}

/// A token, with its log-probability if asked for, or the error that ends the sequence.
type Choice = Result<(u32, Option<f64>)>;

impl Batch {
    /// An empty batch; fails unless the model is a language model.
    pub(super) fn new(model: &Model) -> Result<Self> {
        model.expect_class(Class::CausalLm)?;
        Ok(Self { scheduler: Scheduler::new(model.n_slots()), pipeline: Pipeline::default() })
    }

    pub(super) fn add(&mut self, model: &Model, sequence: Sequence) -> Result<usize> {
        sequence.check(model.config())?;
        Ok(self.scheduler.add(sequence))
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Sequence> {
        self.scheduler.remove(index)
    }

    pub(super) fn len(&self) -> usize {
        self.scheduler.len()
    }

    /// Continues every sequence that has a slot by one token.
    pub(super) async fn step(&mut self, model: &mut Model) -> Result<Vec<(usize, Result<Token>)>> {
        for slot in self.scheduler.admit() {
            model.truncate(slot, 0);
        }
        for Running { slot, sequence, .. } in self.scheduler.running() {
            // A step feeds at least one token; the cache may be ahead of the tokens if an earlier step was dropped.
            model.truncate(*slot, sequence.tokens().len() - 1);
        }
        let choices = match self.scheduler.running() {
            [] => return Ok(Vec::new()),
            [alone] => vec![choose_alone(model, &mut self.pipeline, alone).await?],
            running => {
                self.pipeline.clear();
                choose_each(model, running).await?
            }
        };
        let mut choices = choices.into_iter();
        let mut tokens = Vec::new();
        self.scheduler.retain(|running| {
            let is_full = model.cache().length(running.slot) == model.cache().n_positions();
            let choice = choices.next().expect("one choice per sequence");
            let token = choice.and_then(|(id, score)| running.sequence.push(id, score, is_full));
            let goes_on = token.as_ref().is_ok_and(|token| token.finish_reason.is_none());
            tokens.push((running.index, token));
            goes_on
        });
        Ok(tokens)
    }
}

/// Chooses the next token of the only sequence, while the step after it is prepared.
async fn choose_alone(model: &mut Model, pipeline: &mut Pipeline, running: &mut Running) -> Result<Choice> {
    let Running { slot, sequence, .. } = running;
    let unseen = &sequence.tokens()[model.cache().length(*slot)..];
    if sequence.is_plain_greedy() {
        let token = pipeline.greedy_token(model, *slot, unseen, sequence.goes_on()).await;
        return own_errors(token.map(|token| (token, None)));
    }
    own_errors(pipeline.logits(model, *slot, unseen).await.and_then(|mut logits| sequence.choose(&mut logits)))
}

/// Separates the errors of a sequence from those that fail the step.
fn own_errors<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error @ (Error::Option { .. } | Error::NonFinite(_))) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(value) => Ok(Ok(value)),
    }
}

/// Feeds each sequence's new tokens and chooses its next token.
async fn choose_each(model: &mut Model, running: &mut [Running]) -> Result<Vec<Choice>> {
    let unseen = |Running { slot, sequence, .. }: &Running| model.cache().length(*slot)..sequence.tokens().len();
    let unseen: Vec<_> = running.iter().map(unseen).collect();
    let tokens: Vec<_> = running.iter().zip(unseen).map(|(running, unseen)| running.slot_tokens(unseen)).collect();
    if running.iter().all(|running| running.sequence.is_plain_greedy()) {
        let tokens = model.greedy_tokens(&tokens).await?;
        let choice = |token: Option<u32>| token.map(|token| (token, None)).ok_or(Error::NonFinite(LOGITS));
        return Ok(tokens.into_iter().map(choice).collect());
    }
    let logits = model.logits_of_slots(&tokens).await?;
    Ok(running.iter_mut().zip(logits).map(|(running, mut logits)| running.sequence.choose(&mut logits)).collect())
}
