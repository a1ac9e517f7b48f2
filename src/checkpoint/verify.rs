//! Reading a checkpoint through without a GPU: all that is wrong with it, where loading ends at the first thing.

use std::ops::Range;
use std::path::Path;

use half::f16;

use super::{Checkpoint, Progress, TensorName, TensorView, list};
use crate::config::Config;
use crate::error::{Error, Result};

/// What reading a checkpoint through found.
pub struct Verification {
    /// The model's configuration.
    pub config: Config,
    /// The model's tensors that are there.
    pub tensors: usize,
    /// Bytes that they take in their files.
    pub bytes: u64,
    /// What is wrong: what must not be there, and then the rest in the order of the forward pass.
    pub problems: Vec<Error>,
}

/// Numbers that are looked at at a time.
const BLOCK: usize = 1 << 20;

impl Checkpoint {
    /// Opens a checkpoint as [`Checkpoint::open`] does, and reads it through.
    ///
    /// # Errors
    /// Where a file is missing or damaged as a whole, or the configuration is not GPT-J's. What is wrong with a tensor
    /// is no error but one of the problems.
    pub fn verify(path: &Path, progress: &mut impl FnMut(Progress)) -> Result<Verification> {
        Ok(Self::open_unchecked(path)?.read_through(progress))
    }

    /// Reads every tensor.
    pub fn read_through(&self, progress: &mut impl FnMut(Progress)) -> Verification {
        let mut problems = self.intruders();
        let mut views = Vec::new();
        let mut is_complete = true;
        for name in TensorName::all(&self.config) {
            match self.source_of(name).map(|source| self.view(source, name)) {
                Some(Ok(view)) => views.push(view),
                Some(Err(error)) => problems.push(error),
                None => {
                    is_complete = false;
                    problems.push(Error::tensor(&name.in_file(self.prefix), &self.path, "it is missing"));
                }
            }
        }
        let surplus = self.surplus();
        if !is_complete && !surplus.is_empty() {
            let reason = format!("{} tensors are here that the model does not have: {}", surplus.len(), list(&surplus));
            problems.push(Error::checkpoint(&self.path, reason));
        }
        let total = views.iter().map(|view| view.bytes() as u64).sum();
        let mut done = 0;
        for view in &views {
            problems.extend(read(view, |bytes| progress(Progress { done: done + bytes, total })));
            done += view.bytes() as u64;
        }
        Verification { config: self.config.clone(), tensors: views.len(), bytes: total, problems }
    }
}

/// Reads a tensor and says what is wrong with its numbers, if anything is. `progress` hears how many bytes are read.
fn read(view: &TensorView<'_>, mut progress: impl FnMut(u64)) -> Option<Error> {
    // Vectors stay f32 on the GPU.
    let must_fit_f16 = view.shape().len() > 1;
    let mut faults = Faults::default();
    let mut halves = Vec::new();
    let mut numbers = Vec::new();
    for start in (0..view.elements()).step_by(BLOCK) {
        let range = start..(start + BLOCK).min(view.elements());
        halves.clear();
        // What becomes sound f16 needs no closer look, and that is found out at the speed of memory.
        if view.append_f16(range.clone(), &mut halves).is_err() {
            numbers.resize(range.len(), 0.0);
            view.decode(start, &mut numbers);
            faults.add(start, &numbers, must_fit_f16);
        }
        view.release(range.clone());
        progress((view.bytes() as u64).saturating_mul(range.end as u64) / view.elements() as u64);
    }
    let reason = faults.reason(0..view.elements())?;
    Some(Error::tensor(view.name(), view.path(), reason))
}

/// Numbers that cannot be used: how many, and the first with its index.
#[derive(Default)]
struct Faults {
    not_finite: Option<(usize, usize, f32)>,
    too_large: Option<(usize, usize, f32)>,
}

impl Faults {
    fn add(&mut self, start: usize, numbers: &[f32], must_fit_f16: bool) {
        for (index, &number) in numbers.iter().enumerate() {
            let fault = if !number.is_finite() {
                &mut self.not_finite
            } else if must_fit_f16 && !f16::from_f32(number).is_finite() {
                &mut self.too_large
            } else {
                continue;
            };
            fault.get_or_insert((0, start + index, number)).0 += 1;
        }
    }

    fn reason(&self, elements: Range<usize>) -> Option<String> {
        let say = |fault: Option<(usize, usize, f32)>, what: &str| {
            fault.map(|(count, index, number)| {
                format!("{count} of {} elements {what}; the first is element {index}, {number}", elements.len())
            })
        };
        let not_finite =
            say(self.not_finite, "are NaN or infinite, as in a damaged file or after training that diverged");
        let too_large = say(self.too_large, "are more than f16 can hold (at most ±65504)");
        let reasons: Vec<String> = [not_finite, too_large].into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}
