//! Which older rows fit into the time a night has.
//!
//! The newest harvest is always trained on whole. Of the older rows a sample is taken that holds every
//! harvest date in proportion, as many as the measured speed leaves room for. Pure: no clock, no model.

use nightshift_core::random;
use rand::seq::SliceRandom;

/// Share of the time limit that is planned for; the rest absorbs a slower machine.
const PLANNED_SHARE: f64 = 0.85;

/// What one training may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Budget {
    /// Minutes for the whole training.
    pub(crate) max_minutes: f64,
    /// Tokens trained in a second, as measured.
    pub(crate) tokens_per_s: f64,
    /// Passes over the data.
    pub(crate) epochs: usize,
}

impl Budget {
    /// Tokens of one epoch that fit.
    pub(crate) fn tokens_per_epoch(&self) -> f64 {
        self.max_minutes * 60.0 * PLANNED_SHARE * self.tokens_per_s / self.epochs.max(1) as f64
    }
}

/// An older row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Older<'a> {
    /// Date of its harvest.
    pub(crate) date: &'a str,
    /// Tokens it costs in one epoch, its share of replay included.
    pub(crate) tokens: usize,
}

/// Indices of the older rows that fit into `room` tokens, in their old order.
///
/// Every date's rows are shuffled and spread evenly over [0, 1); rows are then taken in that order, so
/// that any number of them holds each date in proportion to its size.
pub(crate) fn sample(older: &[Older<'_>], room: f64, seed: u64) -> Vec<usize> {
    let mut spread: Vec<(f64, usize)> = Vec::with_capacity(older.len());
    let mut dates: Vec<&str> = older.iter().map(|row| row.date).collect();
    dates.sort_unstable();
    dates.dedup();
    for date in dates {
        let mut rows: Vec<usize> = (0..older.len()).filter(|&row| older[row].date == date).collect();
        rows.shuffle(&mut random::rng(seed, &format!("older {date}")));
        let count = rows.len() as f64;
        spread.extend(rows.into_iter().enumerate().map(|(place, row)| ((place as f64 + 0.5) / count, row)));
    }
    spread.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut used = 0.0;
    let mut taken: Vec<usize> = spread
        .into_iter()
        .take_while(|(_, row)| {
            used += older[*row].tokens as f64;
            used <= room
        })
        .map(|(_, row)| row)
        .collect();
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dates: &[(&'static str, usize)]) -> Vec<Older<'static>> {
        dates.iter().flat_map(|&(date, count)| vec![Older { date, tokens: 10 }; count]).collect()
    }

    #[test]
    fn a_sample_holds_every_date_in_proportion() {
        let older = rows(&[("20260301", 60), ("20260302", 30), ("20260303", 10)]);
        let taken = sample(&older, 500.0, 7);
        assert_eq!(taken.len(), 50);
        let of = |date: &str| taken.iter().filter(|&&row| older[row].date == date).count();
        assert_eq!((of("20260301"), of("20260302"), of("20260303")), (30, 15, 5));
        assert_eq!(taken, sample(&older, 500.0, 7), "the same seed, the same rows");
        assert_ne!(taken, sample(&older, 500.0, 8));
    }

    #[test]
    fn everything_fits_or_nothing_does() {
        let older = rows(&[("20260301", 4)]);
        assert_eq!(sample(&older, 1e9, 0), [0, 1, 2, 3]);
        assert_eq!(sample(&older, -5.0, 0), [0_usize; 0]);
        assert_eq!(sample(&[], 1e9, 0), [0_usize; 0]);
    }

    #[test]
    fn the_limit_is_minutes_times_speed_over_epochs() {
        let budget = Budget { max_minutes: 2.0, tokens_per_s: 100.0, epochs: 3 };
        assert!((budget.tokens_per_epoch() - 2.0 * 60.0 * 0.85 * 100.0 / 3.0).abs() < 1e-9);
    }
}
