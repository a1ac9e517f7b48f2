//! Verifies a checkpoint without a GPU. Reports every problem, while loading stops at the first.

use std::ops::Range;
use std::path::Path;

use half::f16;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::elements::TensorView;
use crate::error::{Error, Result};
use crate::message::list;
use crate::names::TensorName;
use crate::progress::Progress;

/// The result of verifying a checkpoint.
pub struct Verification {
    /// The model's configuration.
    pub config: Config,
    /// The number of the model's tensors that were found.
    pub tensors: usize,
    /// Their bytes in the files.
    pub bytes: u64,
    /// The problems: unexpected tensors first, then the rest in the order of the forward pass.
    pub problems: Vec<Error>,
}

/// Elements checked at a time.
const BLOCK: usize = 1 << 20;

impl Checkpoint {
    /// Opens a checkpoint as [`Checkpoint::open`] does, and checks every element.
    ///
    /// # Errors
    /// If a file is missing or unreadable as a whole, or the configuration is not GPT-J's or CodeGen's. A bad tensor is
    /// not an error but one of the problems.
    pub fn verify(path: &Path, progress: &mut impl FnMut(Progress)) -> Result<Verification> {
        Ok(Self::open_unchecked(path)?.read_through(progress))
    }

    /// Checks every element of every tensor.
    pub fn read_through(&self, progress: &mut impl FnMut(Progress)) -> Verification {
        let mut problems = self.unexpected_tensors();
        let mut views = Vec::new();
        let mut is_complete = true;
        for name in TensorName::all(self.config()) {
            match self.source_of(name).map(|source| self.view(source, name)) {
                Some(Ok(view)) => views.push(view),
                Some(Err(error)) => problems.push(error),
                None => {
                    is_complete = false;
                    problems.push(Error::tensor(&name.in_file(self.prefix), self.path(), "it is missing"));
                }
            }
        }
        let surplus = self.surplus();
        if !is_complete && !surplus.is_empty() {
            let reason = format!("{} tensors are here that the model does not have: {}", surplus.len(), list(&surplus));
            problems.push(Error::checkpoint(self.path(), reason));
        }
        let total = views.iter().map(|view| view.bytes() as u64).sum();
        let mut done = 0;
        for view in &views {
            problems.extend(read(view, |bytes| progress(Progress { done: done + bytes, total })));
            done += view.bytes() as u64;
        }
        Verification { config: self.config().clone(), tensors: views.len(), bytes: total, problems }
    }
}

/// Reads a tensor and returns what is wrong with its numbers, if anything. `progress` gets the number of bytes read.
fn read(view: &TensorView<'_>, mut progress: impl FnMut(u64)) -> Option<Error> {
    // Vectors stay f32 on the GPU.
    let must_fit_f16 = view.shape().len() > 1;
    let mut faults = Faults::default();
    let mut halves = Vec::new();
    let mut numbers = Vec::new();
    for start in (0..view.elements()).step_by(BLOCK) {
        let range = start..(start + BLOCK).min(view.elements());
        halves.clear();
        // The fast path: only a block that does not convert to f16 is checked number by number.
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

/// Unusable elements: their count, and the index and value of the first.
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
