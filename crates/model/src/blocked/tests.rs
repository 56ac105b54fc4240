//! Every kernel that this processor has against sums in f64, over shapes that fit no block.

use half::bf16;

use super::*;

/// Numbers between -1 and 1 that repeat nowhere.
fn wave(count: usize, step: f64) -> Vec<f32> {
    (0..count).map(|i| (i as f64 * step + (i as f64 * 0.01).powi(2)).sin() as f32).collect()
}

fn narrowed(numbers: &[f32]) -> Vec<bf16> {
    numbers.iter().map(|x| bf16::from_f32(*x)).collect()
}

/// The kernels of this processor; empty without AVX-512.
fn kernels() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    if available() {
        kernels.extend([Kernel::Fma, Kernel::FmaOfRounded]);
    }
    if has_bf16() {
        kernels.push(Kernel::Dot);
    }
    kernels
}

/// Element (outer, inner) of a factor.
fn element(factor: &Factor<'_>, rounds: bool, outer: usize, inner: usize) -> f64 {
    let at = if factor.along_inner { outer * factor.stride + inner } else { inner * factor.stride + outer };
    match factor.numbers {
        Numbers::F32(numbers) if rounds => bf16::from_f32(numbers[at]).to_f64(),
        Numbers::F32(numbers) => f64::from(numbers[at]),
        Numbers::Bf16(numbers) => numbers[at].to_f64(),
    }
}

/// Compares one product with its sum in f64. The bound is that of a chain of n additions in f32:
/// |error| <= n u sum |a b|, u = 2^-24 (Higham 2002, section 3.1), plus the roundings of the result.
fn check(kernel: Kernel, threads: usize, shape: Shape, a: Factor<'_>, b: Factor<'_>, add: bool) {
    let Shape { rows, cols, inner } = shape;
    let stride = cols + 3;
    let before = wave(rows * stride, 0.3);
    let mut numbers = before.clone();
    let out = Out { numbers: &mut numbers, stride, add, factor: 0.5 };
    run(kernel, threads, shape, out, a, b);
    let rounds = kernel != Kernel::Fma;
    for (at, (&now, &before)) in numbers.iter().zip(&before).enumerate() {
        let (row, col) = (at / stride, at % stride);
        if col >= cols {
            assert_eq!(now, before, "{kernel:?} {shape:?}: wrote beyond the row");
            continue;
        }
        let terms = (0..inner).map(|k| element(&a, rounds, row, k) * element(&b, rounds, col, k));
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term: f64| (sum + term, size + term.abs()));
        let wanted = 0.5 * sum + if add { f64::from(before) } else { 0.0 };
        let bound = (inner + 4) as f64 * 2.0_f64.powi(-24) * (0.5 * size + f64::from(before).abs());
        let error = (f64::from(now) - wanted).abs();
        assert!(error <= bound, "{kernel:?} {shape:?} ({row}, {col}): {now} {wanted}, {error} > {bound}");
    }
}

#[test]
fn all_kernels_equal_sums_in_f64_over_odd_shapes() {
    let sizes = [(1, 1, 1), (3, 16, 2), (14, 32, 31), (15, 33, 33), (29, 47, 95), (61, 17, 130), (5, 400, 3)];
    for kernel in kernels() {
        for (index, (rows, cols, inner)) in
            sizes.into_iter().chain([(16, 40, 900), (43, 390, 70)]).enumerate()
        {
            let shape = Shape { rows, cols, inner };
            for (a_along, b_along) in [(true, true), (true, false), (false, true), (false, false)] {
                let stride = |along, outer| if along { inner + 5 } else { outer + 2 };
                let len = |along, outer| if along { outer * (inner + 5) } else { inner * (outer + 2) };
                let (a, b) = (wave(len(a_along, rows), 0.7), wave(len(b_along, cols), 1.3));
                let narrow = narrowed(&b);
                let a =
                    Factor { numbers: Numbers::F32(&a), along_inner: a_along, stride: stride(a_along, rows) };
                for numbers in [Numbers::F32(&b), Numbers::Bf16(&narrow)] {
                    let b = Factor { numbers, along_inner: b_along, stride: stride(b_along, cols) };
                    check(kernel, 1 + index % 3, shape, a, b, index % 2 == 0);
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let shape = Shape { rows: 70, cols: 50, inner: 800 };
    let (a, b) = (wave(70 * 800, 0.7), narrowed(&wave(50 * 800, 1.3)));
    let a = Factor { numbers: Numbers::F32(&a), along_inner: true, stride: 800 };
    let b = Factor { numbers: Numbers::Bf16(&b), along_inner: true, stride: 800 };
    for kernel in kernels() {
        let result = |threads| {
            let mut numbers = vec![0.0; 70 * 50];
            run(
                kernel,
                threads,
                shape,
                Out { numbers: &mut numbers, stride: 50, add: false, factor: 1.0 },
                a,
                b,
            );
            numbers
        };
        assert_eq!(result(1), result(2));
        assert_eq!(result(1), result(5));
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row_and_column() {
    let shape = Shape { rows: 20, cols: 40, inner: 65 };
    for kernel in kernels() {
        for bad in [f32::NAN, f32::INFINITY] {
            let (mut a, mut w) = (wave(20 * 65, 0.7), wave(40 * 65, 1.3));
            (a[3 * 65 + 64], w[7 * 65 + 2]) = (bad, bad);
            let w = narrowed(&w);
            let a = Factor { numbers: Numbers::F32(&a), along_inner: true, stride: 65 };
            let b = Factor { numbers: Numbers::Bf16(&w), along_inner: true, stride: 65 };
            let mut numbers = vec![0.0; 20 * 40];
            run(kernel, 1, shape, Out { numbers: &mut numbers, stride: 40, add: false, factor: 1.0 }, a, b);
            for (at, value) in numbers.iter().enumerate() {
                assert_eq!(value.is_finite(), at / 40 != 3 && at % 40 != 7, "{kernel:?} {bad} at {at}");
            }
        }
    }
}

#[test]
fn rounding_is_to_nearest_with_ties_to_even() {
    // 1 + 2^-8 is a tie between 1 and 1 + 2^-7; 1 + 3 * 2^-8 one between 1 + 2^-7 and 1 + 2^-6.
    for (x, wanted) in [
        (1.0 + 1.0 / 256.0, 1.0),
        (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
        (-1.004, -1.007_812_5),
        (3e38, 3.004e38),
    ] {
        let wanted = bf16::from_f32(wanted).to_f32();
        for kernel in kernels().into_iter().filter(|kernel| *kernel != Kernel::Fma) {
            let mut numbers = [0.0];
            let factor = |numbers| Factor { numbers, along_inner: true, stride: 1 };
            let out = Out { numbers: &mut numbers, stride: 1, add: false, factor: 1.0 };
            let (a, one) = ([x], [bf16::ONE]);
            let shape = Shape { rows: 1, cols: 1, inner: 1 };
            run(kernel, 1, shape, out, factor(Numbers::F32(&a)), factor(Numbers::Bf16(&one)));
            assert_eq!(numbers[0], wanted, "{kernel:?} of {x}");
        }
    }
}

#[test]
#[should_panic(expected = "left factor")]
fn a_matrix_beyond_its_slice_is_refused() {
    let shape = Shape { rows: 2, cols: 2, inner: 2 };
    let factor = |numbers| Factor { numbers: Numbers::F32(numbers), along_inner: true, stride: 2 };
    let out = Out { numbers: &mut [0.0; 4], stride: 2, add: false, factor: 1.0 };
    run(Kernel::Fma, 1, shape, out, factor(&[1.0; 3]), factor(&[1.0; 4]));
}
