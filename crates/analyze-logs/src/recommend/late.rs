//! Whether more time would help: what the calls that finish late say of those that did not finish.
//!
//! Let L be the limit that calls run into. Of the calls still running at L/2, a share h ends well before L; the rest
//! are the time-outs. If h is near 0 the time-outs hang, and no limit is long enough. If not, the survivors thin out
//! by 1 - h for every doubling; carried on beyond L that is the tail `S(t) = S(L) (t/L)^-a` with `a = -log2(1 - h)`
//! (a Pareto tail: the hazard of a log-linear survivor function, as in Kaplan and Meier 1958 up to L). The lower
//! Wilson bound of h is used, so that few calls promise little.

use nightshift_stats::interval::wilson_lower;

use crate::tally::Cell;

/// One-sided confidence of h.
const CONFIDENCE: f64 = 0.9;
/// Bounds of a new limit as a multiple of the old one.
const LEAST: f64 = 1.25;
const MOST: f64 = 2.0;
/// Of the time-outs, at least this share is what 5 % around the limit hold more than half of a tenth of it before
/// (as many calls end by themselves in the last 5 %), and at most so many calls end later.
const PILED: f64 = 0.7;
const BEYOND: f64 = 0.1;
/// Fewer time-outs do not show a limit.
const FEWEST: u64 = 5;
/// Of the calls that run into the limit, this share shall end within the new one.
const WANTED: f64 = 0.75;

/// The late calls of an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Late {
    /// The limit that calls run into, seconds.
    pub(super) limit_s: f64,
    /// Calls that ended well in its second half.
    pub(super) finished: u64,
    /// Calls that ran into it.
    pub(super) unfinished: u64,
    /// Of the calls running at half the limit, the share that ends well before it: lower bound.
    pub(super) share: f64,
    /// The slowest calls that ended well, seconds: 99 % of them are faster.
    pub(super) p99_s: f64,
}

impl Late {
    /// Of an operation's durations; `limit_s` where it is known. `None` when too little is known.
    pub(super) fn of(totals: &Cell, limit_s: Option<f64>) -> Option<Self> {
        let counted = totals.sketch.count();
        let unfinished = totals.timeouts;
        // Time-outs need durations of their own, or the limit must be known.
        if unfinished < FEWEST || (limit_s.is_none() && counted < totals.calls) || counted <= unfinished {
            return None;
        }
        let (least, most) = totals.extremes?;
        // Time-outs take the longest of all: the middle one of them ended at the limit.
        let middle = 1.0 - (unfinished as f64 / 2.0) / counted as f64;
        let atom = limit_s.is_none();
        let limit_s = limit_s.or_else(|| Some(totals.sketch.quantile(middle, least, most)? / 1e6))?;
        let limit_us = limit_s * 1e6;
        let count = |from: f64, to: f64| -> u64 {
            let inside =
                |first: u64, next: u64| first as f64 >= from * limit_us && (next as f64) < to * limit_us;
            let buckets = totals.sketch.buckets().filter(|(first, next, _)| inside(*first, *next));
            buckets.map(|(_, _, count)| u64::from(count)).sum()
        };
        // A limit shows: time-outs pile up at it, and next to nothing takes longer. Calls that are told to time out
        // after any time (by another program's limit) say nothing of their own one.
        let piled = count(0.95, 1.05) as f64 - 0.5 * count(0.85, 0.95) as f64 >= PILED * unfinished as f64;
        if (atom && !piled) || count(1.05, f64::INFINITY) as f64 > BEYOND * unfinished as f64 {
            return None;
        }
        let ended = count(0.5, 0.95);
        // Others that failed are among them, in proportion.
        let others = totals.calls.saturating_sub(unfinished).max(1) as f64;
        let failed = totals.errors.saturating_sub(unfinished) as f64 / others;
        let finished = (ended as f64 * (1.0 - failed)).floor() as u64;
        let share = wilson_lower(finished, finished + unfinished, CONFIDENCE).unwrap_or(0.0);
        let rank = 0.99 * (1.0 - unfinished as f64 / counted as f64);
        let p99_s = totals.sketch.quantile(rank, least, most)? / 1e6;
        (limit_s > 0.0).then_some(Self { limit_s, finished, unfinished, share, p99_s })
    }

    /// A longer limit: enough for most of those that run into it, at most twice the old one, in whole seconds from
    /// five on (some programs read whole seconds only).
    pub(super) fn longer_s(&self) -> f64 {
        let factor = if self.share > 0.0 { (1.0 - WANTED).powf(-1.0 / self.exponent()) } else { MOST };
        let wanted = self.limit_s * factor.clamp(LEAST, MOST);
        if wanted >= 5.0 { wanted.ceil().min((self.limit_s * MOST).floor().max(5.0)) } else { wanted }
    }

    /// Of the calls that run into the limit, the share that would end within `limit_s`.
    pub(super) fn recovered(&self, limit_s: f64) -> f64 {
        if self.share <= 0.0 { 0.0 } else { 1.0 - (limit_s / self.limit_s).powf(-self.exponent()) }
    }

    fn exponent(&self) -> f64 {
        -(1.0 - self.share.min(0.999)).log2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(durations_s: &[(f64, u64)], timeouts: u64) -> Cell {
        let mut cell = Cell { timeouts, errors: timeouts, ..Cell::default() };
        for &(seconds, count) in durations_s {
            let us = (seconds * 1e6) as u64;
            for _ in 0..count {
                cell.sketch.add(us);
            }
            cell.calls += count;
            let (least, most) = cell.extremes.unwrap_or((us, us));
            cell.extremes = Some((least.min(us), most.max(us)));
        }
        cell
    }

    #[test]
    fn a_cut_tail_promises_more_and_hanging_calls_nothing() {
        let cut = Late::of(&cell(&[(2.0, 500), (18.0, 60), (24.0, 40), (30.0, 50)], 50), None).unwrap();
        assert!((cut.limit_s - 30.0).abs() < 0.2, "{cut:?}");
        assert_eq!((cut.finished, cut.unfinished), (100, 50));
        assert!(cut.share > 0.6 && cut.share < 0.667, "{cut:?}");
        let longer = cut.longer_s();
        assert!((38.0..=60.0).contains(&longer), "{longer}");
        assert!(cut.recovered(longer) > 0.5 && cut.recovered(longer) < 0.8);
        let hung = Late::of(&cell(&[(2.0, 500), (30.0, 50)], 50), None).unwrap();
        assert_eq!(hung.finished, 0);
        assert_eq!(hung.recovered(60.0), 0.0);
    }

    #[test]
    fn never_beyond_twice_and_never_from_nothing() {
        let slow = Late::of(&cell(&[(2.0, 500), (20.0, 5), (30.0, 50)], 50), None).unwrap();
        assert!(slow.longer_s() <= 2.0 * slow.limit_s);
        assert!(Late::of(&cell(&[(2.0, 500)], 0), None).is_none());
        // Time-outs that take as long as any other call run into no limit of this operation.
        let spread: Vec<(f64, u64)> = (1..=100).map(|step| (f64::from(step) / 10.0, 10)).collect();
        assert!(Late::of(&cell(&spread, 60), None).is_none());
        // Time-outs without durations: the limit is not known.
        let mut unseen = cell(&[(2.0, 500)], 50);
        unseen.calls += 50;
        assert!(Late::of(&unseen, None).is_none());
        assert!(Late::of(&unseen, Some(30.0)).is_some());
    }
}
