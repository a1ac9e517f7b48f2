//! Tensors that a checkpoint has in pieces, each with some of the numbers.
//!
//! They are put together as they are read. A matrix is transposed some rows at a time, so that there is never a second
//! copy of it.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::numbers::{NumberFormat, Numbers};

type Piece<'a> = Box<dyn Numbers + 'a>;

/// The format that all of them have.
fn format(pieces: &[Piece<'_>]) -> Option<NumberFormat> {
    let format = pieces.first()?.format()?;
    pieces.iter().all(|piece| piece.format() == Some(format)).then_some(format)
}

fn stored_bytes(pieces: &[Piece<'_>]) -> usize {
    pieces.iter().map(|piece| piece.stored_bytes()).sum()
}

/// Pieces one after another, all of the same size.
pub(super) struct Joined<'a> {
    pieces: Vec<Piece<'a>>,
    /// Elements of a piece.
    size: usize,
}

impl<'a> Joined<'a> {
    /// `shape` is that of the whole, which the pieces divide.
    pub(super) fn new(pieces: Vec<Piece<'a>>, shape: &[usize]) -> Self {
        let size = shape.iter().product::<usize>() / pieces.len();
        Self { pieces, size }
    }

    /// The pieces that a range touches, and where.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (&Piece<'a>, Range<usize>)> {
        let touched = range.start / self.size..range.end.div_ceil(self.size);
        touched.map(move |index| {
            let first = index * self.size;
            let start = range.start.max(first) - first;
            (&self.pieces[index], start..range.end.min(first + self.size) - first)
        })
    }
}

impl Numbers for Joined<'_> {
    fn decode(&self, start: usize, mut numbers: &mut [f32]) {
        for (piece, part) in self.parts(start..start + numbers.len()) {
            let (these, rest) = numbers.split_at_mut(part.len());
            piece.decode(part.start, these);
            numbers = rest;
        }
    }

    fn format(&self) -> Option<NumberFormat> {
        format(&self.pieces)
    }

    fn stored_bytes(&self) -> usize {
        stored_bytes(&self.pieces)
    }

    fn release(&self, range: Range<usize>) {
        for (piece, part) in self.parts(range) {
            piece.release(part);
        }
    }
}

/// The sum of pieces that each have all elements.
pub(super) struct Sum<'a>(pub(super) Vec<Piece<'a>>);

impl Numbers for Sum<'_> {
    fn decode(&self, start: usize, numbers: &mut [f32]) {
        numbers.fill(0.0);
        let mut terms = vec![0.0; numbers.len()];
        for piece in &self.0 {
            piece.decode(start, &mut terms);
            for (number, term) in numbers.iter_mut().zip(&terms) {
                *number += term;
            }
        }
    }

    /// A sum has digits that its terms have not.
    fn format(&self) -> Option<NumberFormat> {
        Some(NumberFormat::F32)
    }

    fn stored_bytes(&self) -> usize {
        stored_bytes(&self.0)
    }

    fn release(&self, range: Range<usize>) {
        for piece in &self.0 {
            piece.release(range.clone());
        }
    }
}

/// A matrix with a bias added to each of its rows.
pub(super) struct Biased<'a> {
    matrix: Joined<'a>,
    bias: Sum<'a>,
    width: usize,
    /// The bias, once it has been needed.
    sum: OnceLock<Vec<f32>>,
}

impl<'a> Biased<'a> {
    /// Both have this width.
    pub(super) fn new(matrix: Joined<'a>, bias: Sum<'a>, width: usize) -> Self {
        Self { matrix, bias, width, sum: OnceLock::new() }
    }
}

impl Numbers for Biased<'_> {
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

    fn format(&self) -> Option<NumberFormat> {
        self.bias.format()
    }

    fn stored_bytes(&self) -> usize {
        self.matrix.stored_bytes() + self.bias.stored_bytes()
    }

    fn release(&self, range: Range<usize>) {
        self.matrix.release(range);
    }
}

/// A matrix whose pieces are stored the other way round: their columns are its rows.
pub(super) struct Transposed<'a> {
    pieces: Vec<Piece<'a>>,
    /// Of the whole, as it is read.
    width: usize,
    /// Rows of the whole that a piece has numbers of.
    piece_rows: usize,
    /// Columns of the whole that a piece has numbers of.
    piece_columns: usize,
    panel: Mutex<Panel>,
}

/// Some rows of the whole.
#[derive(Default)]
struct Panel {
    rows: Range<usize>,
    numbers: Vec<f32>,
}

/// Rows that are transposed at a time: with two bytes each, what the memory of a processor gives in two accesses.
const PANEL_ROWS: usize = 64;
const BLOCK_COLUMNS: usize = 16;

impl<'a> Transposed<'a> {
    /// Of pieces that each have some of the rows.
    pub(super) fn of_rows(pieces: Vec<Piece<'a>>, rows: usize, width: usize) -> Self {
        let piece_rows = rows / pieces.len();
        Self { pieces, width, piece_rows, piece_columns: width, panel: Mutex::default() }
    }

    /// Of pieces that each have some of the columns.
    pub(super) fn of_columns(pieces: Vec<Piece<'a>>, rows: usize, width: usize) -> Self {
        let piece_columns = width / pieces.len();
        Self { pieces, width, piece_rows: rows, piece_columns, panel: Mutex::default() }
    }

    /// The pieces that have numbers of a row.
    fn pieces_of(&self, row: usize) -> &[Piece<'a>] {
        if self.piece_columns == self.width {
            std::slice::from_ref(&self.pieces[row / self.piece_rows])
        } else {
            &self.pieces
        }
    }

    /// Reads rows from this one on, as many as a panel takes and the same pieces have.
    fn fill(&self, panel: &mut Panel, row: usize) {
        let first = row % self.piece_rows;
        let count = PANEL_ROWS.min(self.piece_rows - first);
        panel.rows = row..row + count;
        panel.numbers.resize(count * self.width, 0.0);
        // Of so many columns, a row of the panel takes whole lines of a processor's cache.
        let mut block = [0.0; PANEL_ROWS * BLOCK_COLUMNS];
        for (index, piece) in self.pieces_of(row).iter().enumerate() {
            for column in (0..self.piece_columns).step_by(BLOCK_COLUMNS) {
                let columns = column..(column + BLOCK_COLUMNS).min(self.piece_columns);
                for (column, read) in columns.clone().zip(block.chunks_exact_mut(count)) {
                    piece.decode(column * self.piece_rows + first, read);
                }
                let start = index * self.piece_columns + column;
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

impl Numbers for Transposed<'_> {
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

    fn format(&self) -> Option<NumberFormat> {
        format(&self.pieces)
    }

    fn stored_bytes(&self) -> usize {
        stored_bytes(&self.pieces)
    }

    /// A piece is needed up to its last row.
    fn release(&self, range: Range<usize>) {
        let size = self.piece_rows * self.width;
        for end in (range.start / size + 1)..=(range.end / size) {
            for piece in self.pieces_of((end - 1) * self.piece_rows) {
                piece.release(0..self.piece_rows * self.piece_columns);
            }
        }
    }
}
