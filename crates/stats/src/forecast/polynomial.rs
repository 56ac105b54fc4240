//! AR and MA polynomials, their partial autocorrelations, and a small linear solver.
//!
//! Partial autocorrelations of modulus below one and stationary AR polynomials are the same thing
//! (Barndorff-Nielsen and Schou 1973), so an optimiser that moves in partials sees stationary and invertible
//! models only (Monahan 1984; Jones 1980).

/// AR coefficients of these partial autocorrelations (Durbin-Levinson recursion).
pub(super) fn from_partials(partials: &[f64]) -> Vec<f64> {
    let mut phi: Vec<f64> = Vec::with_capacity(partials.len());
    for &r in partials {
        let last: Vec<f64> = phi.iter().rev().copied().collect();
        for (coefficient, mirrored) in phi.iter_mut().zip(last) {
            *coefficient -= r * mirrored;
        }
        phi.push(r);
    }
    phi
}

/// The inverse of [`from_partials`]. Where a partial leaves (-1, 1) the polynomial is not stationary; it is
/// pulled back to `±limit` and the recursion goes on from there.
pub(super) fn to_partials(phi: &[f64], limit: f64) -> Vec<f64> {
    let mut phi = phi.to_vec();
    let mut partials = vec![0.0; phi.len()];
    for k in (0..phi.len()).rev() {
        let r = phi[k];
        let r = if r.is_finite() { r.clamp(-limit, limit) } else { 0.0 };
        partials[k] = r;
        let lower: Vec<f64> = (0..k).map(|j| (phi[j] + r * phi[k - 1 - j]) / (1.0 - r * r)).collect();
        phi[..k].copy_from_slice(&lower);
    }
    partials
}

/// The first partial autocorrelation of modulus >= 1, if there is one: then `1 - phi z - ...` has a root in or
/// on the unit circle.
pub(super) fn outside(phi: &[f64]) -> Option<f64> {
    let mut phi = phi.to_vec();
    while let Some(r) = phi.pop() {
        if r.is_nan() || r.abs() >= 1.0 {
            return Some(r);
        }
        let mirrored: Vec<f64> = phi.iter().rev().copied().collect();
        for (coefficient, other) in phi.iter_mut().zip(mirrored) {
            *coefficient = (*coefficient + r * other) / (1.0 - r * r);
        }
    }
    None
}

/// True when every root of `1 - phi z - ...` has at least this modulus.
pub(super) fn roots_beyond(phi: &[f64], modulus: f64) -> bool {
    let scaled: Vec<f64> = phi.iter().enumerate().map(|(k, c)| c * modulus.powi(k as i32 + 1)).collect();
    outside(&scaled).is_none()
}

/// Solves `a x = b` by elimination with partial pivoting; `a` is row-major and square. `None` when singular.
pub(super) fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&i, &j| a[i * n + column].abs().total_cmp(&a[j * n + column].abs()))?;
        let head = a[pivot * n + column];
        if head.is_nan() || head.abs() < f64::MIN_POSITIVE {
            return None;
        }
        if pivot != column {
            for k in column..n {
                a.swap(pivot * n + k, column * n + k);
            }
            b.swap(pivot, column);
        }
        for row in column + 1..n {
            let factor = a[row * n + column] / head;
            if factor != 0.0 {
                for k in column..n {
                    a[row * n + k] -= factor * a[column * n + k];
                }
                b[row] -= factor * b[column];
            }
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row * n + k] * b[k]).sum();
        b[row] = (b[row] - known) / a[row * n + row];
    }
    b.iter().all(|x| x.is_finite()).then_some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partials_and_coefficients_are_inverses() {
        let partials = [0.7, -0.4, 0.9, 0.05];
        let phi = from_partials(&partials);
        for (got, want) in to_partials(&phi, 0.99).iter().zip(partials) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        assert_eq!(outside(&phi), None);
        // phi(z) = 1 - 0.5 z - 0.2 z^2 by hand: r2 = 0.2, r1 = 0.5 / (1 - 0.2).
        assert!((to_partials(&[0.5, 0.2], 0.99)[0] - 0.625).abs() < 1e-15);
    }

    #[test]
    fn a_root_in_the_unit_circle_is_found() {
        assert!(outside(&[1.2]).is_some());
        assert!(outside(&[0.5, 0.6]).is_some(), "0.5 + 0.6 > 1");
        assert!(outside(&[f64::NAN]).is_some());
        assert!(roots_beyond(&[0.98], 1.01) && !roots_beyond(&[0.995], 1.01));
        let pulled = to_partials(&[1.2, 0.5], 0.95);
        assert!(pulled.iter().all(|r| r.abs() <= 0.95));
    }

    #[test]
    fn a_singular_system_is_none() {
        assert_eq!(solve(vec![1.0, 2.0, 2.0, 4.0], vec![1.0, 2.0]), None);
        let x = solve(vec![0.0, 2.0, 4.0, 1.0], vec![2.0, 9.0]).unwrap();
        assert_eq!(x, [2.0, 1.0]);
    }
}
