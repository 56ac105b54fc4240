//! Power of the one-sided exact McNemar test, and the sizes that follow from it.

use crate::special::{ln_choose, normal_quantile};
use crate::{Result, StatsError, closed_unit, open_unit};

use super::tail_half;

/// The largest evaluation set that [`items_needed`] will propose.
const MOST_ITEMS: u64 = 1_000_000;

/// Exact probability that the one-sided test at level `alpha` passes on `n` items when each item is lost with
/// probability `lost_rate` and won with probability `won_rate`.
///
/// Sums over the number of discordant items d ~ Binomial(n, lost + won) and over won ~ Binomial(d, share);
/// terms beyond ten standard deviations of d, below 1e-20 together, are left out.
///
/// # Errors
/// Rates outside of [0, 1] or with a sum above 1; `alpha` outside of (0, 1).
pub fn power(n: u64, lost_rate: f64, won_rate: f64, alpha: f64) -> Result<f64> {
    let discordant = check_rates(lost_rate, won_rate)?;
    open_unit("alpha", alpha)?;
    if discordant == 0.0 || n == 0 {
        return Ok(0.0);
    }
    let share = won_rate / discordant;
    let mean = n as f64 * discordant;
    let reach = 10.0 * (mean * (1.0 - discordant)).sqrt() + 20.0;
    let first = (mean - reach).max(0.0) as u64;
    let last = ((mean + reach) as u64).min(n);
    let mut critical = 0;
    let mut total = 0.0;
    for d in first..=last {
        critical = critical_won(d, alpha, critical);
        if critical <= d {
            let pass = crate::special::binomial_tail(d, share, critical)?;
            total += binomial_mass(n, discordant, d) * pass;
        }
    }
    Ok(total.min(1.0))
}

/// Items (in all) at which the one-sided test first reaches the wanted power. The power of an exact test is
/// saw-toothed in n; the answer lies within one tooth of the smallest such n.
///
/// `None` when the candidate does not win more than it loses, or when more than a million items were needed.
///
/// # Errors
/// As [`power`]; `wanted` outside of (0, 1).
pub fn items_needed(lost_rate: f64, won_rate: f64, alpha: f64, wanted: f64) -> Result<Option<u64>> {
    check_rates(lost_rate, won_rate)?;
    open_unit("power", wanted)?;
    open_unit("alpha", alpha)?;
    if won_rate <= lost_rate {
        return Ok(None);
    }
    let mut high = 8;
    while power(high, lost_rate, won_rate, alpha)? < wanted {
        high *= 2;
        if high > MOST_ITEMS {
            return Ok(None);
        }
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if power(middle, lost_rate, won_rate, alpha)? < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(high))
}

/// Smallest difference of success rates that n paired items show with the given power, by the normal
/// approximation of Connor (1987): `d = (z_alpha sqrt(pd) + z_beta sqrt(pd - d^2)) / sqrt(n)`, where pd is the
/// share of items on which the arms differ. The answer is capped at pd, the largest difference there can be.
///
/// # Errors
/// `discordant_share` outside of [0, 1]; `alpha` or `wanted` outside of (0, 1); n = 0.
pub fn minimum_detectable(
    n: u64,
    discordant_share: f64,
    alpha: f64,
    wanted: f64,
    two_sided: bool,
) -> Result<f64> {
    let pd = closed_unit("discordant share", discordant_share)?;
    open_unit("alpha", alpha)?;
    open_unit("power", wanted)?;
    if n == 0 {
        return Err(StatsError::Empty { what: "items" });
    }
    let z_alpha = -normal_quantile(if two_sided { alpha / 2.0 } else { alpha })?;
    let z_beta = normal_quantile(wanted)?;
    let excess =
        |d: f64| (z_alpha * pd.sqrt() + z_beta * (pd - d * d).max(0.0).sqrt()) / (n as f64).sqrt() - d;
    let (mut low, mut high) = (0.0, pd);
    if excess(pd) >= 0.0 {
        return Ok(pd);
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if excess(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}

/// Smallest number won of d discordant items with which the test passes; d + 1 when none does.
fn critical_won(d: u64, alpha: f64, hint: u64) -> u64 {
    // Never falls as d grows, so the search starts where the last one ended.
    let mut k = hint.max(d / 2);
    while k <= d && tail_half(d, k) >= alpha {
        k += 1;
    }
    k
}

fn binomial_mass(n: u64, p: f64, k: u64) -> f64 {
    if p >= 1.0 {
        return if k == n { 1.0 } else { 0.0 };
    }
    (ln_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
}

fn check_rates(lost_rate: f64, won_rate: f64) -> Result<f64> {
    closed_unit("lost rate", lost_rate)?;
    closed_unit("won rate", won_rate)?;
    closed_unit("lost rate + won rate", lost_rate + won_rate)
}
