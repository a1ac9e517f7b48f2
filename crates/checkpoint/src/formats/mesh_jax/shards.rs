//! Tensors assembled from the shards of a checkpoint, as they are read.
//!
//! A matrix is transposed a few rows at a time, so that there is never a second copy of it.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::elements::{Dtype, Elements};

/// One shard's part of a tensor.
type Part<'a> = Box<dyn Elements + 'a>;

/// The type that all parts have.
fn format(parts: &[Part<'_>]) -> Option<Dtype> {
    let format = parts.first()?.format()?;
    parts.iter().all(|part| part.format() == Some(format)).then_some(format)
}

fn stored_bytes(parts: &[Part<'_>]) -> usize {
    parts.iter().map(|part| part.stored_bytes()).sum()
}

/// Parts one after another, all of the same size.
pub(super) struct Joined<'a> {
    parts: Vec<Part<'a>>,
    /// Elements per part.
    size: usize,
}

impl<'a> Joined<'a> {
    /// `shape` is that of the whole tensor.
    pub(super) fn new(parts: Vec<Part<'a>>, shape: &[usize]) -> Self {
        let size = shape.iter().product::<usize>() / parts.len();
        Self { parts, size }
    }

    /// The parts that a range touches, each with the range in it.
    fn touched(&self, range: Range<usize>) -> impl Iterator<Item = (&Part<'a>, Range<usize>)> {
        let indices = range.start / self.size..range.end.div_ceil(self.size);
        indices.map(move |index| {
            let first = index * self.size;
            let start = range.start.max(first) - first;
            (&self.parts[index], start..range.end.min(first + self.size) - first)
        })
    }
}

impl Elements for Joined<'_> {
    fn decode(&self, start: usize, mut numbers: &mut [f32]) {
        for (part, range) in self.touched(start..start + numbers.len()) {
            let (these, rest) = numbers.split_at_mut(range.len());
            part.decode(range.start, these);
            numbers = rest;
        }
    }

    fn format(&self) -> Option<Dtype> {
        format(&self.parts)
    }

    fn stored_bytes(&self) -> usize {
        stored_bytes(&self.parts)
    }

    fn release(&self, range: Range<usize>) {
        for (part, range) in self.touched(range) {
            part.release(range);
        }
    }
}

/// The sum of parts that each have all elements.
pub(super) struct Sum<'a>(pub(super) Vec<Part<'a>>);

impl Elements for Sum<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        numbers.fill(0.0);
        let mut terms = vec![0.0; numbers.len()];
        for part in &self.0 {
            part.decode(start, &mut terms);
            for (number, term) in numbers.iter_mut().zip(&terms) {
                *number += term;
            }
        }
    }

    /// A sum may have more digits than its terms.
    fn format(&self) -> Option<Dtype> {
        Some(Dtype::F32)
    }

    fn stored_bytes(&self) -> usize {
        stored_bytes(&self.0)
    }

    fn release(&self, range: Range<usize>) {
        for part in &self.0 {
            part.release(range.clone());
        }
    }
}

/// A matrix with a bias added to each of its rows.
pub(super) struct Biased<'a> {
    matrix: Joined<'a>,
    bias: Sum<'a>,
    width: usize,
    /// The summed bias, computed on first use.
    sum: OnceLock<Vec<f32>>,
}

impl<'a> Biased<'a> {
    /// `width` is that of both.
    pub(super) fn new(matrix: Joined<'a>, bias: Sum<'a>, width: usize) -> Self {
        Self { matrix, bias, width, sum: OnceLock::new() }
    }
}

impl Elements for Biased<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        let sum = self.sum.get_or_init(|| {
            let mut sum = vec![0.0; self.width];
            self.bias.decode(0, &mut sum);
            sum
        });
        self.matrix.decode(start, numbers);
        for (number, bias) in numbers.iter_mut().zip(sum.iter().cycle().skip(start % self.width)) {
            *number += bias;
        }
    }

    fn format(&self) -> Option<Dtype> {
        self.bias.format()
    }

    fn stored_bytes(&self) -> usize {
        self.matrix.stored_bytes() + self.bias.stored_bytes()
    }

    fn release(&self, range: Range<usize>) {
        self.matrix.release(range);
    }
}

/// A matrix whose parts are stored transposed: their columns are its rows.
pub(super) struct Transposed<'a> {
    parts: Vec<Part<'a>>,
    /// The width of the whole matrix.
    width: usize,
    /// Rows of the whole matrix in each part.
    part_rows: usize,
    /// Columns of the whole matrix in each part.
    part_columns: usize,
    panel: Mutex<Panel>,
}

/// Transposed rows, kept for the next reads.
#[derive(Default)]
struct Panel {
    rows: Range<usize>,
    numbers: Vec<f32>,
}

/// Rows transposed at a time: 64 elements of two bytes are two cache lines.
const PANEL_ROWS: usize = 64;
const BLOCK_COLUMNS: usize = 16;

impl<'a> Transposed<'a> {
    /// From parts that each have some of the rows.
    pub(super) fn of_rows(parts: Vec<Part<'a>>, rows: usize, width: usize) -> Self {
        let part_rows = rows / parts.len();
        Self { parts, width, part_rows, part_columns: width, panel: Mutex::default() }
    }

    /// From parts that each have some of the columns.
    pub(super) fn of_columns(parts: Vec<Part<'a>>, rows: usize, width: usize) -> Self {
        let part_columns = width / parts.len();
        Self { parts, width, part_rows: rows, part_columns, panel: Mutex::default() }
    }

    /// The parts with elements of a row.
    fn parts_of_row(&self, row: usize) -> &[Part<'a>] {
        if self.part_columns == self.width {
            std::slice::from_ref(&self.parts[row / self.part_rows])
        } else {
            &self.parts
        }
    }

    /// Fills the panel with rows from `row` on, as many as it takes and the same parts have.
    fn fill(&self, panel: &mut Panel, row: usize) {
        let first = row % self.part_rows;
        let count = PANEL_ROWS.min(self.part_rows - first);
        panel.rows = row..row + count;
        panel.numbers.resize(count * self.width, 0.0);
        // With 16 columns, each row of the panel receives whole cache lines.
        let mut block = [0.0; PANEL_ROWS * BLOCK_COLUMNS];
        for (index, part) in self.parts_of_row(row).iter().enumerate() {
            for column in (0..self.part_columns).step_by(BLOCK_COLUMNS) {
                let columns = column..(column + BLOCK_COLUMNS).min(self.part_columns);
                for (column, read) in columns.clone().zip(block.chunks_exact_mut(count)) {
                    part.decode(column * self.part_rows + first, read);
                }
                let start = index * self.part_columns + column;
                for (row, numbers) in panel.numbers.chunks_exact_mut(self.width).enumerate() {
                    let numbers = &mut numbers[start..start + columns.len()];
                    for (number, read) in numbers.iter_mut().zip(block.chunks_exact(count)) {
                        *number = read[row];
                    }
                }
            }
        }
    }
}

impl Elements for Transposed<'_> {
    fn decode(&self, mut start: usize, mut numbers: &mut [f32]) {
        let mut panel = self.panel.lock().unwrap_or_else(PoisonError::into_inner);
        while !numbers.is_empty() {
            let row = start / self.width;
            if !panel.rows.contains(&row) {
                self.fill(&mut panel, row);
            }
            let offset = start - panel.rows.start * self.width;
            let count = numbers.len().min(panel.numbers.len() - offset);
            let (these, rest) = numbers.split_at_mut(count);
            these.copy_from_slice(&panel.numbers[offset..offset + count]);
            numbers = rest;
            start += count;
        }
    }

    fn format(&self) -> Option<Dtype> {
        format(&self.parts)
    }

    fn stored_bytes(&self) -> usize {
        stored_bytes(&self.parts)
    }

    /// A part is needed until its last row is read.
    fn release(&self, range: Range<usize>) {
        let size = self.part_rows * self.width;
        for end in (range.start / size + 1)..=(range.end / size) {
            for part in self.parts_of_row((end - 1) * self.part_rows) {
                part.release(0..self.part_rows * self.part_columns);
            }
        }
    }
}
