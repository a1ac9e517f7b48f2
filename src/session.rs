//! Many texts at once: a model's slots, the sequences in them, and those that wait for one.
//!
//! Each step continues every sequence that has a slot by one token, so that the weights are read once for all of them.
//! Sequences come and go independently: one that ends makes room for the next that waits. None sees another, and none
//! is padded; a sequence's tokens are those that it would get alone.

use std::collections::VecDeque;
use std::ops::Range;

use crate::config::Class;
use crate::error::{Error, Result};
use crate::generate::{Sequence, Token};
use crate::model::{Feed, LOGITS, Model};

/// Texts that a model generates together, up to [`LoadOptions::n_slots`](crate::LoadOptions::n_slots) at a time, which
/// is 1 unless the model was loaded with more.
pub struct Session<'a> {
    model: &'a mut Model,
    waiting: VecDeque<(usize, Sequence)>,
    running: Vec<Running>,
    /// Slots that nobody has.
    free: Vec<usize>,
    /// Sequences that were added so far.
    added: usize,
}

struct Running {
    index: usize,
    slot: usize,
    sequence: Sequence,
}

impl Running {
    fn feed(&self, tokens: Range<usize>) -> Feed<'_> {
        Feed { slot: self.slot, tokens: &self.sequence.tokens()[tokens] }
    }
}

impl<'a> Session<'a> {
    /// A session without sequences; what the model generated before is forgotten.
    ///
    /// # Errors
    /// [`Error::Class`] where the model is no language model.
    pub fn new(model: &'a mut Model) -> Result<Self> {
        model.expect_class(Class::CausalLm)?;
        // The lowest slot is the next to be taken.
        let free: Vec<usize> = (0..model.cache().n_slots()).rev().collect();
        Ok(Self { model, waiting: VecDeque::new(), running: Vec::new(), free, added: 0 })
    }

    /// Adds a sequence, which begins as soon as a slot is free. Returns the number that its tokens come with: 0 for the
    /// first, 1 for the second, and so on.
    ///
    /// # Errors
    /// [`Error::Prompt`] and [`Error::Option`] where the model cannot take it; a sequence may have been made for
    /// another.
    pub fn add(&mut self, sequence: Sequence) -> Result<usize> {
        sequence.check(self.model.config())?;
        let index = self.added;
        self.added += 1;
        self.waiting.push_back((index, sequence));
        Ok(index)
    }

    /// Ends a sequence before its time and gives it back; `None` where it has ended already.
    pub fn remove(&mut self, index: usize) -> Option<Sequence> {
        if let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == index) {
            return self.waiting.remove(place).map(|(_, sequence)| sequence);
        }
        let place = self.running.iter().position(|running| running.index == index)?;
        let running = self.running.remove(place);
        self.free.push(running.slot);
        Some(running.sequence)
    }

    /// Sequences that have not ended.
    pub fn len(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    /// Whether every sequence has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Continues every sequence that has a slot by one token, and returns the tokens with the sequences' numbers, in
    /// the order in which they were added; none where all have ended. The last token of a sequence says why it is the
    /// last. An error in the place of a token ends its sequence and no other: [`Error::Option`] where its options rule
    /// out every token, [`Error::Numbers`] where the model gave it no numbers to choose by.
    ///
    /// A new sequence's whole prompt is fed within one step, and the others wait for it. A step that fails, or whose
    /// future is dropped, can be taken again.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the GPU failed.
    pub async fn step(&mut self) -> Result<Vec<(usize, Result<Token>)>> {
        while let Some(slot) = self.free.pop_if(|_| !self.waiting.is_empty()) {
            let (index, sequence) = self.waiting.pop_front().expect("one waits");
            self.model.truncate(slot, 0);
            self.running.push(Running { index, slot, sequence });
        }
        for Running { slot, sequence, .. } in &self.running {
            // One token at least is to be fed, also where a step before was not waited for to its end.
            self.model.truncate(*slot, sequence.tokens().len() - 1);
        }
        let chosen = match self.running.as_mut_slice() {
            [] => return Ok(Vec::new()),
            [alone] => vec![choose_alone(self.model, alone).await?],
            running => choose_each(self.model, running).await?,
        };
        let mut tokens = Vec::new();
        for (mut running, choice) in std::mem::take(&mut self.running).into_iter().zip(chosen) {
            let is_full = self.model.cache().length(running.slot) == self.model.cache().n_positions();
            let token = choice.and_then(|(id, score)| running.sequence.push(id, score, is_full));
            let has_ended = token.as_ref().map_or(true, |token| token.finish_reason.is_some());
            tokens.push((running.index, token));
            if has_ended {
                self.free.push(running.slot);
            } else {
                self.running.push(running);
            }
        }
        Ok(tokens)
    }
}

/// A token, and its log-probability where that is wanted; or why there is none.
type Choice = Result<(u32, Option<f64>)>;

/// Chooses the next token of the only sequence, while the GPU or the host goes on to the one after.
async fn choose_alone(model: &mut Model, Running { slot, sequence, .. }: &mut Running) -> Result<Choice> {
    let unseen = &sequence.tokens()[model.cache().length(*slot)..];
    if sequence.is_plain_greedy() {
        let token = model.most_likely(*slot, unseen, sequence.goes_on()).await;
        return its_own(token.map(|token| (token, None)));
    }
    its_own(model.logits(*slot, unseen).await.and_then(|mut logits| sequence.choose(&mut logits)))
}

/// What went wrong with one sequence is no matter of the others.
fn its_own<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error @ (Error::Option { .. } | Error::Numbers(_))) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(value) => Ok(Ok(value)),
    }
}

/// Feeds each sequence what the model has not seen of it and chooses what follows.
async fn choose_each(model: &mut Model, running: &mut [Running]) -> Result<Vec<Choice>> {
    let unseen = |Running { slot, sequence, .. }: &Running| model.cache().length(*slot)..sequence.tokens().len();
    let unseen: Vec<_> = running.iter().map(unseen).collect();
    let feeds: Vec<_> = running.iter().zip(unseen).map(|(running, unseen)| running.feed(unseen)).collect();
    if running.iter().all(|running| running.sequence.is_plain_greedy()) {
        let tokens = model.most_likely_of_feeds(&feeds).await?;
        let choice = |token: Option<u32>| token.map(|token| (token, None)).ok_or(Error::Numbers(LOGITS));
        return Ok(tokens.into_iter().map(choice).collect());
    }
    let logits = model.logits_of_feeds(&feeds).await?;
    Ok(running.iter_mut().zip(logits).map(|(running, mut logits)| running.sequence.choose(&mut logits)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pollster::block_on;

    use super::*;
    use crate::{Checkpoint, GenerateOptions, Gpu, GpuOptions, LoadOptions, SamplingOptions};

    /// What a step fed and nobody took is fed again: the cache is ahead of the sequence then.
    #[test]
    fn a_step_that_was_not_waited_for_is_taken_again() {
        let gpu = match block_on(Gpu::open(&GpuOptions::default())) {
            Ok(gpu) => gpu,
            Err(error) => {
                let required = std::env::var_os("GPTJ_REQUIRE_GPU").is_some_and(|value| value == "1");
                assert!(!required, "GPTJ_REQUIRE_GPU is set, but: {error}");
                return eprintln!("SKIPPED, nothing was tested: {error}");
            }
        };
        let checkpoint = Checkpoint::open(Path::new("models/shakespeare")).expect("the demo model");
        let options = LoadOptions { n_slots: 2, ..LoadOptions::default() };
        let mut model = block_on(Model::load(&gpu, &checkpoint, &options, |_| ())).expect("it fits");
        let generate = GenerateOptions { sampling: SamplingOptions::greedy(), ..GenerateOptions::default() };
        let mut tokens = |n_sequences: usize, disturb: bool| {
            let mut session = Session::new(&mut model).expect("a language model");
            for _ in 0..n_sequences {
                let sequence = Sequence::new(checkpoint.config(), None, &[5, 6, 7], &generate).expect("a good prompt");
                session.add(sequence).expect("it fits");
            }
            let mut tokens = Vec::new();
            for _ in 0..5 {
                let step = block_on(session.step()).expect("the GPU works");
                tokens.extend(step.into_iter().map(|(index, token)| (index, token.expect("a token").id)));
                if disturb {
                    (0..n_sequences).for_each(|slot| session.model.skip(slot, 1));
                }
            }
            tokens
        };
        for n_sequences in [1, 2] {
            let undisturbed = tokens(n_sequences, false);
            assert_eq!(tokens(n_sequences, true), undisturbed);
        }
    }
}
