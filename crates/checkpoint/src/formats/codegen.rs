//! CodeGen: GPT-J's tensors, except that q, k and v are one matrix.
//!
//! A CodeGen was trained in shares, each with some of the heads, and its `qkv_proj` is the concatenation of these
//! shares; within a share come the rows of q, then those of v, then those of k. This module presents them as GPT-J's
//! three matrices without copying: each row is read where it is.

use std::ops::Range;
use std::path::Path;

use crate::config::{Architecture, Config};
use crate::elements::{Dtype, Elements, TensorView};
use crate::error::{Error, Result};
use crate::source::Source;

/// GPT-J's names of the three, and which third of a share each is.
const THIRDS: [(&str, usize); 3] = [("attn.q_proj.weight", 0), ("attn.v_proj.weight", 1), ("attn.k_proj.weight", 2)];
const FUSED: &str = "attn.qkv_proj.weight";

/// A file of a CodeGen, with GPT-J's names.
struct Codegen {
    file: Box<dyn Source>,
    n_embd: usize,
    shares: usize,
}

/// Wraps the files of a CodeGen; those of a GPT-J are returned as they are.
pub(crate) fn as_gptj(files: Vec<Box<dyn Source>>, config: &Config) -> Vec<Box<dyn Source>> {
    let Architecture::CodeGen { shares } = config.architecture else { return files };
    let n_embd = config.n_embd;
    files.into_iter().map(|file| Box::new(Codegen { file, n_embd, shares }) as Box<dyn Source>).collect()
}

/// The fused matrix of one of GPT-J's three, and which third of it that is.
fn fused(name: &str) -> Option<(String, usize)> {
    THIRDS.iter().find_map(|(suffix, third)| Some((name.strip_suffix(suffix)?.to_owned() + FUSED, *third)))
}

impl Source for Codegen {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        let split = |name: String| match name.strip_suffix(FUSED) {
            Some(start) => THIRDS.iter().map(|(suffix, _)| start.to_owned() + suffix).collect(),
            None => vec![name],
        };
        self.file.names().into_iter().flat_map(split).collect()
    }

    fn contains(&self, name: &str) -> bool {
        match fused(name) {
            Some((fused, _)) => self.file.contains(&fused),
            None => self.file.contains(name),
        }
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let Some((fused, third)) = fused(name) else { return self.file.view(name) };
        let view = self.file.view(&fused)?;
        let expected = [3 * self.n_embd, self.n_embd];
        if view.shape() != expected {
            let reason = format!("its shape is {:?}; the configuration makes it {expected:?}", view.shape());
            return Err(Error::tensor(&fused, view.path(), reason));
        }
        let path = view.path();
        let run = self.n_embd / self.shares * self.n_embd;
        let elements = Third { fused: view.into_elements(), third, run };
        let name = format!("{fused} ({})", ["q", "v", "k"][third]);
        Ok(TensorView::new(&name, path, &[self.n_embd, self.n_embd], elements))
    }
}

/// Every third run of a matrix.
struct Third<'a> {
    fused: Box<dyn Elements + 'a>,
    third: usize,
    /// Contiguous elements: those of one third of a share.
    run: usize,
}

impl Third<'_> {
    /// The ranges of the fused matrix with the elements of a range; each is within one run.
    fn runs(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut start = range.start;
        std::iter::from_fn(move || {
            let (share, offset) = (start / self.run, start % self.run);
            let length = (self.run - offset).min(range.end - start);
            start += length;
            let first = (3 * share + self.third) * self.run + offset;
            (length > 0).then_some(first..first + length)
        })
    }
}

impl Elements for Third<'_> {
    fn decode(&self, start: usize, mut numbers: &mut [f32]) {
        for run in self.runs(start..start + numbers.len()) {
            let (these, rest) = numbers.split_at_mut(run.len());
            self.fused.decode(run.start, these);
            numbers = rest;
        }
    }

    fn f16_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let mut runs = self.runs(range);
        match (runs.next(), runs.next()) {
            (Some(run), None) => self.fused.f16_bytes(run),
            _ => None,
        }
    }

    fn format(&self) -> Option<Dtype> {
        self.fused.format()
    }

    fn stored_bytes(&self) -> usize {
        self.fused.stored_bytes() / 3
    }

    fn release(&self, range: Range<usize>) {
        for run in self.runs(range) {
            self.fused.release(run);
        }
    }
}
