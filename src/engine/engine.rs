//! Many texts at once.

use super::batch::Batch;
use crate::error::Result;
use crate::generate::{Sequence, Token};
use crate::model::Model;

/// A model and the texts that it generates together, up to [`LoadOptions::n_slots`](crate::LoadOptions::n_slots) (by
/// default 1) at a time.
///
/// Each step continues every sequence that has a slot by one token, so that the weights are read once for all of them.
/// Sequences come and go independently: one that ends makes room for the next in the queue. There is no padding, and a
/// sequence gets exactly the tokens that it would get alone.
pub struct Engine {
    model: Model,
    batch: Batch,
}

impl Engine {
    /// An engine without sequences; earlier sequences in the model's slots are lost.
    ///
    /// # Errors
    /// [`Error::Class`](crate::Error::Class) if the model is not a language model.
    pub fn new(model: Model) -> Result<Self> {
        let batch = Batch::new(&model)?;
        Ok(Self { model, batch })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the model; unfinished sequences are dropped.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// Adds a sequence, which starts as soon as a slot is free. Returns its number, with which [`Engine::step`] returns
    /// its tokens: 0 for the first, 1 for the second, and so on.
    ///
    /// # Errors
    /// [`Error::Prompt`](crate::Error::Prompt) or [`Error::Option`](crate::Error::Option) if the model cannot take it:
    /// it may have been made for another one.
    pub fn add(&mut self, sequence: Sequence) -> Result<usize> {
        self.batch.add(&self.model, sequence)
    }

    /// Removes a sequence and returns it; `None` if it has ended already. [`Sequence::held_text`] has the text that was
    /// held back for a stop string.
    pub fn remove(&mut self, index: usize) -> Option<Sequence> {
        self.batch.remove(index)
    }

    /// Unfinished sequences, running or waiting.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether every sequence has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Continues every sequence that has a slot by one token, and returns the tokens with the sequences' numbers, in
    /// the order in which they were added; none if all have ended. A sequence's last token has a
    /// [`finish_reason`](Token::finish_reason). An error in place of a token ends only its own sequence:
    /// [`Error::Option`](crate::Error::Option) if its options rule out every token,
    /// [`Error::NonFinite`](crate::Error::NonFinite) if its logits are not finite.
    ///
    /// A new sequence's whole prompt is fed within one step, and the others wait for it. After a step fails, or its
    /// future is dropped, call this again to repeat the step.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if the GPU failed.
    pub async fn step(&mut self) -> Result<Vec<(usize, Result<Token>)>> {
        self.batch.step(&mut self.model).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pollster::block_on;

    use super::*;
    use crate::{Checkpoint, GenerateOptions, Gpu, GpuOptions, LoadOptions, SamplingOptions};

    /// After a step is dropped the cache is ahead of the sequence; the next step feeds the tokens again.
    #[test]
    fn a_dropped_step_is_repeated() {
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
        let mut model = Some(block_on(Model::load(&gpu, &checkpoint, &options, |_| ())).expect("it fits"));
        let generate = GenerateOptions { sampling: SamplingOptions::greedy(), ..GenerateOptions::default() };
        let mut tokens = |n_sequences: usize, disturb: bool| {
            let mut engine = Engine::new(model.take().expect("it was given back")).expect("a language model");
            for _ in 0..n_sequences {
                let sequence = Sequence::new(checkpoint.config(), None, &[5, 6, 7], &generate).expect("a good prompt");
                engine.add(sequence).expect("it fits");
            }
            let mut tokens = Vec::new();
            for _ in 0..5 {
                let step = block_on(engine.step()).expect("the GPU works");
                tokens.extend(step.into_iter().map(|(index, token)| (index, token.expect("a token").id)));
                if disturb {
                    for slot in 0..n_sequences {
                        engine.model.skip(slot, 1);
                    }
                }
            }
            model = Some(engine.into_model());
            tokens
        };
        for n_sequences in [1, 2] {
            let undisturbed = tokens(n_sequences, false);
            assert_eq!(tokens(n_sequences, true), undisturbed);
        }
    }
}
