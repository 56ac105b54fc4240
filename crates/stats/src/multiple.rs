//! Many tests at once.

/// Adjusted p-values (q-values) that hold the share of false findings: what is at most `q` here is
/// wrong in at most a share `q` of all findings made that way (Benjamini and Hochberg 1995), for
/// independent or positively dependent tests. NaN counts as 1.
pub fn benjamini_hochberg(ps: &[f64]) -> Vec<f64> {
    let p = |i: usize| if ps[i].is_nan() { 1.0 } else { ps[i].clamp(0.0, 1.0) };
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| p(*a).total_cmp(&p(*b)).then(a.cmp(b)));
    let mut adjusted = vec![1.0; ps.len()];
    let mut least = 1.0_f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(p(i) * ps.len() as f64 / (rank + 1) as f64);
        adjusted[i] = least;
    }
    adjusted
}
