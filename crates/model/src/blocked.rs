//! Blocked matrix products in f32 and bf16 for processors with AVX-512.
//!
//! C (+)= factor * A B, added up in f32. In bf16 arithmetic both factors are bf16, two products to a
//! lane (`vdpbf16ps`): twice the f32 rate where the processor has avx512_bf16. Activations are
//! rounded while they are packed (to nearest, ties to even), so a caller hands f32 and gets f32.
//!
//! Blocking after Goto & van de Geijn 2008 ("Anatomy of high-performance matrix multiplication"):
//! [`STEPS`] x [`COLUMNS`] of B are packed once into the second-level cache; against it runs one
//! packed panel of at most [`HEIGHT`] rows of A after another, which stays in the first-level cache,
//! in tiles of `HEIGHT` x [`WIDTH`] results that live in registers. Both factors are packed with their
//! inner dimension in steps of four bytes, one f32 or two bf16, so the two arithmetics differ in
//! nothing but the packing and one instruction. Transposes are packed too: every unit stride will do.
//!
//! Each result is one chain of additions along the inner dimension, cut every `STEPS` steps, whatever
//! the number of rows, columns and threads: results do not depend on them.
//!
//! AMX is not used: its intrinsics are not stable in the Rust that this workspace is built with.

mod pack;
mod tile;

use std::cell::RefCell;

use half::bf16;

/// Rows of a tile at most: 14 x 2 sums, 2 registers of B and one of A are 31 of 32 registers.
const HEIGHT: usize = 14;
/// Columns of a tile: two registers.
const WIDTH: usize = 32;
/// Steps of the inner dimension between two visits of C: a panel of A is 19 KiB.
const STEPS: usize = 352;
/// Columns of B packed at a time: 704 KiB.
const COLUMNS: usize = 512;

/// What a product is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Both factors as they are.
    F32,
    /// Both factors rounded to bf16.
    Bf16,
}

/// Which instructions a product runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// f32 multiply-add, AVX-512F.
    Fma,
    /// f32 multiply-add on numbers that were rounded to bf16: the same products, exactly.
    FmaOfRounded,
    /// avx512_bf16.
    Dot,
}

/// Numbers of a factor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Numbers<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// A matrix with a unit stride: neighbours along the inner dimension of the product, or across it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor<'a> {
    pub(crate) numbers: Numbers<'a>,
    /// Whether neighbours in memory follow each other along the inner dimension.
    pub(crate) along_inner: bool,
    /// Distance between neighbours in the other direction.
    pub(crate) stride: usize,
}

/// The sizes of a product: A is `[rows, inner]`, B `[inner, cols]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) inner: usize,
}

/// Where results go: rows `stride` apart.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    pub(crate) numbers: &'a mut [f32],
    pub(crate) stride: usize,
    /// Whether results are added to what is there.
    pub(crate) add: bool,
    pub(crate) factor: f32,
}

/// Whether this processor can run these products at all; whoever gets `false` has to compute them
/// elsewhere.
pub(crate) fn available() -> bool {
    tile::has_avx512()
}

/// Whether bf16 arithmetic has instructions of its own here, and so is faster than f32.
pub(crate) fn has_bf16() -> bool {
    tile::has_avx512_bf16()
}

/// Computes a product, its rows shared among `threads`.
///
/// # Panics
/// When the processor lacks AVX-512 ([`available`]), or a matrix reaches beyond its slice.
pub(crate) fn multiply(
    threads: usize,
    arithmetic: Arithmetic,
    shape: Shape,
    out: Out<'_>,
    a: Factor<'_>,
    b: Factor<'_>,
) {
    assert!(available(), "AVX-512 is needed");
    let kernel = match arithmetic {
        Arithmetic::F32 => Kernel::Fma,
        Arithmetic::Bf16 if has_bf16() => Kernel::Dot,
        Arithmetic::Bf16 => Kernel::FmaOfRounded,
    };
    run(kernel, threads, shape, out, a, b);
}

fn run(kernel: Kernel, threads: usize, shape: Shape, out: Out<'_>, a: Factor<'_>, b: Factor<'_>) {
    let Shape { rows, cols, inner } = shape;
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(inner > 0, "empty inner dimension");
    assert!((rows - 1) * out.stride + cols <= out.numbers.len(), "result of a matrix product");
    assert!(rows == 1 || cols <= out.stride, "rows of a result overlap");
    a.check(inner, rows, "left factor");
    b.check(inner, cols, "right factor");
    let parts = threads.min(rows.div_ceil(HEIGHT)).max(1);
    if parts == 1 {
        return part(kernel, shape, out, a, b);
    }
    let (mut numbers, mut first) = (out.numbers, 0);
    rayon::scope(|scope| {
        for index in 1..=parts {
            let end = rows * index / parts;
            let shape = Shape { rows: end - first, ..shape };
            let (mine, rest) = numbers.split_at_mut((shape.rows * out.stride).min(numbers.len()));
            numbers = rest;
            let a = a.at(0, first);
            let out = Out { numbers: mine, ..out };
            first = end;
            scope.spawn(move |_| part(kernel, shape, out, a, b));
        }
    });
}

/// Memory in whole cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u32; 16]);

impl Line {
    const ZERO: Self = Self([0; 16]);
}

/// One step of [`WIDTH`] columns of B.
type Step = [Line; 2];

/// One row of a panel of A.
type Row = [Line; STEPS / 16];

/// What a thread packs into.
#[derive(Debug)]
struct Packed {
    /// `[HEIGHT]`
    a: Vec<Row>,
    /// `[COLUMNS / WIDTH, STEPS]`
    b: Vec<Step>,
}

thread_local! {
    static PACKED: RefCell<Packed> = const { RefCell::new(Packed { a: Vec::new(), b: Vec::new() }) };
}

/// The product on one thread.
fn part(kernel: Kernel, shape: Shape, out: Out<'_>, a: Factor<'_>, b: Factor<'_>) {
    PACKED.with_borrow_mut(|packed| {
        packed.a.resize(HEIGHT, [Line::ZERO; STEPS / 16]);
        packed.b.resize(COLUMNS / WIDTH * STEPS, [Line::ZERO; 2]);
        blocks(kernel, shape, out, [a, b], packed);
    });
}

fn blocks(kernel: Kernel, shape: Shape, out: Out<'_>, [a, b]: [Factor<'_>; 2], packed: &mut Packed) {
    let Shape { rows, cols, inner } = shape;
    // Blocks of equal depth, so that none is left with a few steps that do not pay for visiting C.
    let depth = {
        let deepest = STEPS * kernel.per_step();
        inner.div_ceil(inner.div_ceil(deepest)).next_multiple_of(32)
    };
    let panels = rows.div_ceil(HEIGHT);
    for first_col in (0..cols).step_by(COLUMNS) {
        let block_cols = COLUMNS.min(cols - first_col);
        for first in (0..inner).step_by(depth) {
            let depth = depth.min(inner - first);
            let steps = depth.div_ceil(kernel.per_step());
            for (panel, col) in packed.b.chunks_exact_mut(STEPS).zip((0..block_cols).step_by(WIDTH)) {
                let width = WIDTH.min(block_cols - col);
                pack::right(kernel, b.at(first, first_col + col), depth, width, panel);
            }
            let add = out.add || first > 0;
            for panel in 0..panels {
                // Panels of equal height: a last one of two rows would cost as much as one of eight.
                let (row, end) = (rows * panel / panels, rows * (panel + 1) / panels);
                pack::left(kernel, a.at(first, row), depth, end - row, &mut packed.a);
                for (b, col) in packed.b.chunks_exact(STEPS).zip((0..block_cols).step_by(WIDTH)) {
                    let at = row * out.stride + first_col + col;
                    let place = tile::Place {
                        numbers: &mut out.numbers[at..],
                        stride: out.stride,
                        rows: end - row,
                        cols: WIDTH.min(block_cols - col),
                        add,
                        factor: out.factor,
                    };
                    tile::multiply(kernel, &packed.a, &b[..steps], place);
                }
            }
        }
    }
}

impl Kernel {
    /// Elements of the inner dimension in one step.
    const fn per_step(self) -> usize {
        match self {
            Self::Fma | Self::FmaOfRounded => 1,
            Self::Dot => 2,
        }
    }
}

impl Factor<'_> {
    fn check(self, inner: usize, outer: usize, what: &str) {
        let (near, far) = if self.along_inner { (inner, outer) } else { (outer, inner) };
        let len = match self.numbers {
            Numbers::F32(numbers) => numbers.len(),
            Numbers::Bf16(numbers) => numbers.len(),
        };
        assert!((far - 1) * self.stride + near <= len, "{what} of a matrix product");
    }

    /// The part that begins at an element.
    fn at(self, inner: usize, outer: usize) -> Self {
        let from = if self.along_inner { outer * self.stride + inner } else { inner * self.stride + outer };
        let numbers = match self.numbers {
            Numbers::F32(numbers) => Numbers::F32(&numbers[from..]),
            Numbers::Bf16(numbers) => Numbers::Bf16(&numbers[from..]),
        };
        Self { numbers, ..self }
    }
}

#[cfg(test)]
mod tests;
