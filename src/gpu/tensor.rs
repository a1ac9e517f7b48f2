//! Named tables of numbers in GPU memory.
//!
//! A tensor is rows of equal width, each padded with zeros to a multiple of eight elements, so that kernels load 16
//! bytes at a time whatever the model's sizes are. A tensor too large for one binding consists of several segments of
//! whole rows; a launcher launches its kernel once per segment.

use super::device::Gpu;
use crate::error::{Error, Result};

/// The type of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 32-bit unsigned integer.
    U32,
}

impl Dtype {
    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
        }
    }
}

/// `width` rounded up to the multiple of eight that a row takes in memory.
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(8)
}

/// Rows of numbers in GPU memory.
pub struct Tensor {
    name: String,
    rows: usize,
    width: usize,
    format: Dtype,
    segments: Vec<Segment>,
}

/// Neighbouring rows of a tensor that share a buffer.
pub(crate) struct Segment {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(super) buffer: wgpu::Buffer,
}

impl Tensor {
    /// Allocates `rows` rows of `width` elements, all zero, in as many segments as the GPU's bindings need.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the GPU cannot hold it.
    pub async fn new(gpu: &Gpu, name: &str, rows: usize, width: usize, format: Dtype) -> Result<Self> {
        let row_bytes = padded(width) as u64 * format.bytes();
        // Few enough for one workgroup per row, of which a launch has at most 65,535.
        let segment_rows = ((gpu.max_binding() / row_bytes) as usize).clamp(1, 65_535);
        Self::allocate(gpu, name, [rows, width], format, segment_rows).await
    }

    /// The same for a tensor that kernels must see in one piece.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the GPU cannot hold it in one piece.
    pub async fn whole(gpu: &Gpu, name: &str, rows: usize, width: usize, format: Dtype) -> Result<Self> {
        Self::allocate(gpu, name, [rows, width], format, rows).await
    }

    async fn allocate(
        gpu: &Gpu,
        name: &str,
        [rows, width]: [usize; 2],
        format: Dtype,
        segment_rows: usize,
    ) -> Result<Self> {
        assert!(rows > 0 && width > 0, "{name} is not empty");
        let row_bytes = padded(width) as u64 * format.bytes();
        let mut segments = Vec::new();
        for first_row in (0..rows).step_by(segment_rows) {
            let rows = segment_rows.min(rows - first_row);
            let size = row_bytes * rows as u64;
            if size > gpu.max_binding() {
                return Err(Error::OutOfMemory {
                    what: name.to_owned(),
                    bytes: size,
                    reason: format!("{} binds at most {} bytes", gpu.info().name, gpu.max_binding()),
                });
            }
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            segments.push(Segment { first_row, rows, buffer: gpu.create_buffer(name, size, usage).await? });
        }
        Ok(Self { name: name.to_owned(), rows, width, format, segments })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its elements.
    pub fn format(&self) -> Dtype {
        self.format
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row, without padding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of a row, with padding.
    pub fn row_bytes(&self) -> usize {
        padded(self.width) * self.format.bytes() as usize
    }

    /// Bytes in GPU memory.
    pub fn bytes(&self) -> u64 {
        (self.rows * self.row_bytes()) as u64
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The one buffer of a tensor that is in one piece.
    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        assert_eq!(self.segments.len(), 1, "{} is bound whole but has several segments", self.name);
        &self.segments[0].buffer
    }

    /// Queues a write of whole rows, padding included, from row `first_row` on.
    ///
    /// # Panics
    /// If `bytes` are not whole rows of the tensor.
    pub fn write(&self, gpu: &Gpu, first_row: usize, bytes: &[u8]) {
        if gpu.is_dry_run() {
            return;
        }
        for (buffer, offset, bytes) in self.locate(first_row, bytes) {
            gpu.queue().write_buffer(buffer, offset, bytes);
        }
    }

    /// Queues a write of the first elements of a tensor in one piece, before the next submission.
    ///
    /// # Panics
    /// If they do not fit, or `T` is not of the element's size.
    pub fn overwrite<T: bytemuck::Pod>(&self, gpu: &Gpu, elements: &[T]) {
        assert_eq!(size_of::<T>() as u64, self.format.bytes(), "elements of {} have that size", self.name);
        gpu.queue().write_buffer(self.buffer(), 0, bytemuck::cast_slice(elements));
    }

    /// The destinations of the `bytes` of whole rows from `first_row` on: for each segment concerned its buffer, the
    /// offset in it, and its share of the bytes.
    pub(super) fn locate<'a>(
        &'a self,
        first_row: usize,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (&'a wgpu::Buffer, u64, &'a [u8])> {
        let row_bytes = self.row_bytes();
        assert_eq!(bytes.len() % row_bytes, 0, "{} is written in whole rows", self.name);
        let end = first_row + bytes.len() / row_bytes;
        assert!(end <= self.rows, "{} has {} rows; {end} were written", self.name, self.rows);
        self.segments.iter().filter_map(move |segment| {
            let from = first_row.max(segment.first_row);
            let to = end.min(segment.first_row + segment.rows);
            let offset = from.checked_sub(segment.first_row)? * row_bytes;
            let bytes = bytes.get((from - first_row) * row_bytes..to.checked_sub(first_row)? * row_bytes)?;
            (!bytes.is_empty()).then_some((&segment.buffer, offset as u64, bytes))
        })
    }

    /// Queues a write of dense rows from row 0 on.
    ///
    /// # Panics
    /// If `values` are not whole rows, or `T` is not of the element's size.
    pub fn write_elements<T: bytemuck::Pod>(&self, gpu: &Gpu, values: &[T]) {
        assert_eq!(size_of::<T>() as u64, self.format.bytes(), "elements of {} have that size", self.name);
        let mut bytes = Vec::with_capacity(size_of_val(values));
        for row in values.chunks(self.width) {
            bytes.extend_from_slice(bytemuck::cast_slice(row));
            bytes.resize(bytes.len().next_multiple_of(self.row_bytes()), 0);
        }
        self.write(gpu, 0, &bytes);
    }
}
