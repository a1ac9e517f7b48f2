//! Keeps the GPU busy with one sequence: while a step is awaited, the next is prepared.

use crate::error::Result;
use crate::gpu::Submitted;
use crate::model::{Model, PreparedStep, StepOutput};

/// The prepared step after the awaited one, if any. All steps of a model go through one pipeline.
#[derive(Default)]
pub struct Pipeline {
    prepared: Option<PreparedStep>,
}

impl Pipeline {
    /// As [`Model::logits`]; while the step runs, the slot's next one is encoded.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub async fn logits(&mut self, model: &mut Model, slot: usize, tokens: &[u32]) -> Result<Vec<f32>> {
        let submitted = self.submit(model, slot, tokens, StepOutput::Logits)?;
        self.prepared = model.encode_next(slot, StepOutput::Logits);
        model.read_logits(submitted).await
    }

    /// As [`Model::greedy_token`]. With `go_on`, the GPU continues to the token after that one without waiting for the
    /// host. The next call uses that step if it feeds the token that this call returned, and discards it otherwise.
    ///
    /// # Errors
    /// As [`Model::greedy_token`].
    pub async fn greedy_token(&mut self, model: &mut Model, slot: usize, tokens: &[u32], go_on: bool) -> Result<u32> {
        let submitted = self.submit(model, slot, tokens, StepOutput::GreedyToken)?;
        self.prepared = if go_on { model.submit_next(slot) } else { None };
        let token = model.read_greedy_token(submitted).await?;
        if let Some(prepared) = &mut self.prepared {
            prepared.set_token(token);
        }
        Ok(token)
    }

    /// Discards the prepared step, before the model is used otherwise.
    pub fn clear(&mut self) {
        self.prepared = None;
    }

    fn submit(&mut self, model: &mut Model, slot: usize, tokens: &[u32], output: StepOutput) -> Result<Submitted> {
        let prepared = self.prepared.take().and_then(|prepared| model.resume(prepared, slot, tokens, output));
        match prepared {
            Some(submitted) => Ok(submitted),
            None => model.submit(slot, tokens, output),
        }
    }
}
