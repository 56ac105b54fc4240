//! Symmetric 7 x 7 systems.

use super::COUNT;

pub(super) type Vector = [f64; COUNT];
pub(super) type Matrix = [[f64; COUNT]; COUNT];

pub(super) const ZEROS: Matrix = [[0.0; COUNT]; COUNT];

pub(super) fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a' M a.
pub(super) fn quadratic(m: &Matrix, a: &Vector) -> f64 {
    m.iter().zip(a).map(|(row, ai)| ai * dot(row, a)).sum()
}

/// Inverse of a symmetric positive definite matrix, by Gauss-Jordan elimination without pivots (none are
/// needed there). The caller adds a ridge, so that no pivot comes near zero.
pub(super) fn inverse(m: &Matrix) -> Matrix {
    let mut a = *m;
    for k in 0..COUNT {
        let pivot = 1.0 / a[k][k];
        a[k][k] = 1.0;
        for value in &mut a[k] {
            *value *= pivot;
        }
        let row = a[k];
        for (i, other) in a.iter_mut().enumerate() {
            if i != k {
                let factor = std::mem::take(&mut other[k]);
                for (value, r) in other.iter_mut().zip(&row) {
                    *value -= factor * r;
                }
            }
        }
    }
    a
}

/// The lower triangle L with L L' = m, for a symmetric positive definite matrix.
pub(super) fn cholesky(m: &Matrix) -> Matrix {
    let mut l = ZEROS;
    for i in 0..COUNT {
        for j in 0..=i {
            let left = m[i][j] - dot(&l[i], &l[j]);
            l[i][j] = if i == j { left.max(0.0).sqrt() } else { left / l[j][j] };
        }
    }
    l
}

/// Minimises x'Ax / 2 - r'x over x >= 0 by coordinate descent, which for a positive definite A ends at the
/// one solution (Franc, Hlavac and Navara 2005). Ends where a round moves nothing by more than `exact` of the largest.
pub(super) fn nonnegative(a: &Matrix, r: &Vector, start: &Vector, exact: f64) -> Vector {
    let mut x = start.map(|v| v.max(0.0));
    for _ in 0..200 {
        let mut moved = 0.0_f64;
        for (i, (row, r)) in a.iter().zip(r).enumerate() {
            let next = (x[i] + (r - dot(row, &x)) / row[i]).max(0.0);
            moved = moved.max((next - x[i]).abs());
            x[i] = next;
        }
        if moved <= exact * x.iter().fold(1e-300, |m: f64, v| m.max(*v)) {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Matrix {
        let mut m = [[0.4; COUNT]; COUNT];
        for (i, row) in m.iter_mut().enumerate() {
            row[i] = 2.0 + i as f64;
        }
        m
    }

    #[test]
    fn an_inverse_inverts() {
        let (m, inv) = (example(), inverse(&example()));
        for (i, row) in m.iter().enumerate() {
            // The inverse of a symmetric matrix is symmetric: its rows are its columns.
            for (j, column) in inv.iter().enumerate() {
                assert!((dot(row, column) - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn a_root_squares_to_its_matrix() {
        let (m, root) = (example(), cholesky(&example()));
        for (i, row) in root.iter().enumerate() {
            for (j, other) in root.iter().enumerate() {
                assert!((dot(row, other) - m[i][j]).abs() < 1e-14);
            }
            assert!(row[i + 1..].iter().all(|value| *value == 0.0));
        }
    }

    #[test]
    fn the_nonnegative_minimum_meets_its_conditions() {
        let (a, r) = (example(), [3.0, -1.0, 0.0, 2.0, -4.0, 0.5, 0.1]);
        let x = nonnegative(&a, &r, &[0.0; COUNT], 1e-13);
        for (i, (row, r)) in a.iter().zip(&r).enumerate() {
            let gradient = dot(row, &x) - r;
            // Karush, Kuhn and Tucker: no slope where x is free, an upward one where it is held at 0.
            assert!(if x[i] > 0.0 { gradient.abs() < 1e-10 } else { gradient >= -1e-10 }, "{i}: {gradient}");
        }
        assert!(x[0] > 0.0 && x[4] == 0.0);
    }
}
