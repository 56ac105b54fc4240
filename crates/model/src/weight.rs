//! `Weight`: a matrix of the base model, however its numbers are held.
//!
//! Dense numbers can be trained. Packed ones (bf16, NF4) are frozen: they are read, row by row or through
//! the products of `packed`, and never written. What a packed matrix stands for is defined
//! by [`Weight::dequantise_rows`]; everything else agrees with it.

use std::ops::Range;

use half::bf16;

use crate::nf4::Nf4;
use crate::params::cast;
use crate::real::Real;

/// A row-major matrix `[rows, cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight<T = f32> {
    rows: usize,
    cols: usize,
    numbers: Numbers<T>,
}

/// How the numbers of a [`Weight`] are held.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Numbers<T> {
    /// In the precision of the arithmetic.
    Dense(Vec<T>),
    /// The upper half of an f32 each.
    Bf16(Vec<bf16>),
    /// Four bits each, with a scale for every block.
    Nf4(Nf4),
}

impl<T: Real> Weight<T> {
    /// A dense matrix.
    ///
    /// # Panics
    /// When there are not `rows * cols` values.
    pub fn new(values: Vec<T>, rows: usize, cols: usize) -> Self {
        Self::of(Numbers::Dense(values), rows, cols)
    }

    /// A dense matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self::new(vec![T::ZERO; rows * cols], rows, cols)
    }

    /// A matrix held as bf16.
    ///
    /// # Panics
    /// When there are not `rows * cols` values.
    pub fn from_bf16(values: Vec<bf16>, rows: usize, cols: usize) -> Self {
        Self::of(Numbers::Bf16(values), rows, cols)
    }

    /// A matrix held as NF4.
    ///
    /// # Panics
    /// When there are not `rows * cols` values.
    pub fn from_nf4(values: Nf4, rows: usize, cols: usize) -> Self {
        Self::of(Numbers::Nf4(values), rows, cols)
    }

    fn of(numbers: Numbers<T>, rows: usize, cols: usize) -> Self {
        let held = match &numbers {
            Numbers::Dense(values) => values.len(),
            Numbers::Bf16(values) => values.len(),
            Numbers::Nf4(values) => values.len(),
        };
        assert_eq!(held, rows * cols, "numbers of a matrix [{rows}, {cols}]");
        Self { rows, cols, numbers }
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The numbers, row-major; `None` when they are packed.
    pub fn dense(&self) -> Option<&[T]> {
        match &self.numbers {
            Numbers::Dense(values) => Some(values),
            Numbers::Bf16(_) | Numbers::Nf4(_) => None,
        }
    }

    /// The numbers to write into; `None` when they are packed, and so frozen.
    pub fn dense_mut(&mut self) -> Option<&mut [T]> {
        match &mut self.numbers {
            Numbers::Dense(values) => Some(values),
            Numbers::Bf16(_) | Numbers::Nf4(_) => None,
        }
    }

    /// The numbers when they are held as NF4.
    pub const fn nf4(&self) -> Option<&Nf4> {
        match &self.numbers {
            Numbers::Nf4(values) => Some(values),
            Numbers::Dense(_) | Numbers::Bf16(_) => None,
        }
    }

    /// How they are held.
    pub(crate) const fn numbers(&self) -> &Numbers<T> {
        &self.numbers
    }

    /// What the numbers are held as, in the words of settings and reports.
    pub const fn storage(&self) -> &'static str {
        match &self.numbers {
            Numbers::Dense(_) => "f32",
            Numbers::Bf16(_) => "bf16",
            Numbers::Nf4(_) => "nf4",
        }
    }

    /// Bytes of memory that the numbers take.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::Dense(values) => size_of_val(values.as_slice()),
            Numbers::Bf16(values) => size_of_val(values.as_slice()),
            Numbers::Nf4(values) => values.bytes(),
        }
    }

    /// Writes the numbers of some rows into `out`, `[rows.len(), cols]`.
    ///
    /// # Panics
    /// When the rows do not exist or `out` is not exactly theirs.
    pub fn dequantise_rows(&self, rows: Range<usize>, out: &mut [T]) {
        let range = rows.start * self.cols..rows.end * self.cols;
        match &self.numbers {
            Numbers::Dense(values) => out.copy_from_slice(&values[range]),
            Numbers::Bf16(values) => T::widen(&values[range], out),
            Numbers::Nf4(values) => T::dequantise(values, range, out),
        }
    }

    /// The same matrix, dense.
    pub fn to_dense(&self) -> Self {
        let mut values = vec![T::ZERO; self.rows * self.cols];
        self.dequantise_rows(0..self.rows, &mut values);
        Self::new(values, self.rows, self.cols)
    }

    /// The same numbers for arithmetic in another precision; packed ones stay as they are.
    pub fn cast<U: Real>(&self) -> Weight<U> {
        let numbers = match &self.numbers {
            Numbers::Dense(values) => Numbers::Dense(cast(values)),
            Numbers::Bf16(values) => Numbers::Bf16(values.clone()),
            Numbers::Nf4(values) => Numbers::Nf4(values.clone()),
        };
        Weight { rows: self.rows, cols: self.cols, numbers }
    }
}
