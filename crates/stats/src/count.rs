//! Exact tests of counts: Poisson and hypergeometric tails.
//!
//! The incomplete gamma function is the series below the mean and the continued fraction above it
//! (Numerical Recipes, 3rd ed., 6.2); Fisher's test adds up hypergeometric probabilities by their
//! ratios, starting from the most probable table, so that nothing overflows.

use crate::special::{ln_choose, ln_gamma};
use crate::{Result, StatsError};

/// P(X >= k) for X ~ Poisson(mean).
///
/// # Errors
/// A mean that is negative or not finite.
pub fn poisson_tail(k: u64, mean: f64) -> Result<f64> {
    let mean = natural_mean(mean)?;
    Ok(match k {
        0 => 1.0,
        _ if mean == 0.0 => 0.0,
        k => lower_gamma(k as f64, mean),
    })
}

/// P(X <= k) for X ~ Poisson(mean).
///
/// # Errors
/// As [`poisson_tail`].
pub fn poisson_at_most(k: u64, mean: f64) -> Result<f64> {
    let mean = natural_mean(mean)?;
    Ok(if mean == 0.0 { 1.0 } else { upper_gamma(k as f64 + 1.0, mean) })
}

fn natural_mean(mean: f64) -> Result<f64> {
    if mean >= 0.0 && mean.is_finite() {
        Ok(mean)
    } else {
        Err(StatsError::Domain { what: "mean", expected: "finite and not negative", got: mean })
    }
}

/// The regularised lower incomplete gamma function P(a, x).
fn lower_gamma(a: f64, x: f64) -> f64 {
    if x < a + 1.0 { gamma_series(a, x) } else { 1.0 - gamma_fraction(a, x) }
}

/// Q(a, x) = 1 - P(a, x), without losing the digits of a small one.
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x < a + 1.0 { 1.0 - gamma_series(a, x) } else { gamma_fraction(a, x) }
}

fn gamma_front(a: f64, x: f64) -> f64 {
    (a * x.ln() - x - ln_gamma(a)).exp()
}

fn gamma_series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
    // Converges in O(sqrt(a)) steps on this side of the mean.
    for _ in 0..1_000_000 {
        n += 1.0;
        term *= x / n;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    (sum * gamma_front(a, x)).min(1.0)
}

fn gamma_fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / guard(b);
    let mut h = d;
    for i in 1..1_000_000_u32 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / guard(an * d + b);
        c = guard(b + an / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (h * gamma_front(a, x)).min(1.0)
}

/// Two groups, two outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoByTwo {
    /// Hits of the first group.
    pub hits: u64,
    /// Its size.
    pub of: u64,
    /// Hits of the second group.
    pub other_hits: u64,
    /// Its size.
    pub other_of: u64,
}

/// p-values of Fisher's exact test (Fisher 1934).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fisher {
    /// The first group hits more often by chance.
    pub greater: f64,
    /// It hits less often by chance.
    pub less: f64,
    /// Tables at most as probable as this one.
    pub two_sided: f64,
}

/// Fisher's exact test: given all four margins, how probable are tables at least as extreme?
///
/// # Errors
/// More hits than members of a group.
pub fn fisher(table: TwoByTwo) -> Result<Fisher> {
    let TwoByTwo { hits, of, other_hits, other_of } = table;
    for (hits, of) in [(hits, of), (other_hits, other_of)] {
        if hits > of {
            let expected = "at most the size of its group";
            return Err(StatsError::Domain { what: "hits", expected, got: hits as f64 });
        }
    }
    let (all_hits, all) = (hits + other_hits, of + other_of);
    let (least, most) = (all_hits.saturating_sub(other_of), all_hits.min(of));
    let mode = (((of + 1) as f64 * (all_hits + 1) as f64 / (all + 2) as f64) as u64).clamp(least, most);
    // p(k + 1) / p(k) of the hypergeometric distribution.
    let ratio = |k: u64| {
        (of - k) as f64 * (all_hits - k) as f64 / ((k + 1) as f64 * (other_of + k + 1 - all_hits) as f64)
    };
    let ln_mode = ln_choose(of, mode) + ln_choose(other_of, all_hits - mode) - ln_choose(all, all_hits);
    let mut masses = vec![(mode, ln_mode.exp())];
    let mut mass = masses[0].1;
    for k in mode..most {
        mass *= ratio(k);
        if mass == 0.0 {
            break;
        }
        masses.push((k + 1, mass));
    }
    mass = masses[0].1;
    for k in (least..mode).rev() {
        mass /= ratio(k);
        if mass == 0.0 {
            break;
        }
        masses.push((k, mass));
    }
    let seen = masses.iter().find(|(k, _)| *k == hits).map_or(0.0, |(_, mass)| *mass);
    // Small terms first, so that none is lost.
    masses.sort_by(|a, b| a.1.total_cmp(&b.1));
    let sum = |keep: &dyn Fn(u64, f64) -> bool| {
        masses.iter().filter(|(k, mass)| keep(*k, *mass)).map(|(_, mass)| mass).sum::<f64>().min(1.0)
    };
    Ok(Fisher {
        greater: sum(&|k, _| k >= hits),
        less: sum(&|k, _| k <= hits),
        two_sided: sum(&|_, mass| mass <= seen * (1.0 + 1e-7)),
    })
}
