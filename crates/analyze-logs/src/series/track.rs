//! The hourly cells as arrays over one common range of hours, and which hours are alike.

use crate::line::Kind;
use crate::tally::{Cell, Findings, NO_HOUR};

/// Longest range that is looked at: 13 weeks, the latest.
const MOST_HOURS: i32 = 13 * 7 * 24;
/// Hours of a week.
const WEEK: i32 = 7 * 24;

/// A range of hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hours {
    /// Hours since 1970, UTC.
    pub(crate) first: i32,
    /// How many.
    pub(crate) count: usize,
}

impl Hours {
    /// The hours of the log that have their own cells; `None` without any.
    pub(crate) fn of(findings: &Findings) -> Option<Self> {
        let tally = &findings.tally;
        let cells = tally.hourly().iter().flat_map(|series| &series.cells);
        let mut active: Vec<i32> = cells.map(|cell| cell.hour).filter(|hour| tally.is_hour(*hour)).collect();
        active.sort_unstable();
        active.dedup();
        // A lone stamp in the far future is a broken clock, not the end of the log.
        let settled = |end: usize| end < 3 || active[end].saturating_sub(active[end - 3]) <= WEEK;
        let end = (0..active.len()).rev().find(|end| settled(*end))?;
        let last = active[end];
        let first = *active[..=end].iter().find(|hour| last.saturating_sub(**hour) < MOST_HOURS)?;
        Some(Self { first, count: (last - first) as usize + 1 })
    }

    /// Which of them `hour` is.
    pub(crate) fn index(self, hour: i32) -> Option<usize> {
        usize::try_from(hour.checked_sub(self.first)?).ok().filter(|index| *index < self.count)
    }

    /// The hour of an index.
    pub(crate) fn hour(self, index: usize) -> i32 {
        self.first + index as i32
    }

    /// Whole days, begun ones included.
    pub(crate) fn days(self) -> usize {
        self.count.div_ceil(24)
    }

    /// From two weeks on weekends are told from other days.
    fn knows_weeks(self) -> bool {
        self.days() >= 14
    }

    /// How many kinds of hours there are.
    pub(crate) fn slots(self) -> usize {
        if self.knows_weeks() { 48 } else { 24 }
    }

    /// The kind of an hour: its hour of the day, and whether it is of a weekend.
    pub(crate) fn slot(self, index: usize) -> usize {
        let hour = self.hour(index);
        // 1970-01-01 was a Thursday.
        let weekend = self.knows_weeks() && (hour.div_euclid(24) + 3).rem_euclid(7) >= 5;
        hour.rem_euclid(24) as usize + if weekend { 24 } else { 0 }
    }

    /// How many tests the best of all splits into before and after is worth: the maximum over n of them grows like
    /// that of ln n independent ones (Darling and Erdos 1956).
    pub(crate) fn splits(self) -> usize {
        (4.0 * (self.count.max(2) as f64).ln()).ceil() as usize
    }

    /// Half of the time after which hours are alike again.
    pub(crate) fn half_period(self) -> usize {
        if self.knows_weeks() { 84 } else { 12 }
    }

    /// The hours with half a period on each side.
    pub(crate) fn surrounded(self) -> std::ops::Range<usize> {
        let half = self.half_period();
        half..(self.count + 1).saturating_sub(half).max(half)
    }
}

/// One operation over the hours.
#[derive(Debug)]
pub(crate) struct Track<'a> {
    /// Its full name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// By hour; `None` without calls.
    pub(crate) cells: Vec<Option<&'a Cell>>,
}

impl<'a> Track<'a> {
    /// All operations that have calls in the hours, by name.
    pub(crate) fn all(findings: &'a Findings, hours: Hours) -> Vec<Self> {
        let mut tracks = Vec::new();
        for (number, series) in findings.tally.hourly().iter().enumerate() {
            let mut cells = vec![None; hours.count];
            for cell in series.cells.iter().filter(|cell| findings.tally.is_hour(cell.hour)) {
                if let Some(index) = hours.index(cell.hour) {
                    cells[index] = Some(cell);
                }
            }
            if cells.iter().any(Option::is_some) {
                let op = number as u32;
                let (kind, _) = findings.ops.get(op);
                tracks.push(Self { name: findings.ops.full_name(op), kind, cells });
            }
        }
        tracks.sort_by(|a, b| a.name.cmp(&b.name));
        tracks
    }

    /// A number of each hour, 0 without calls.
    pub(crate) fn numbers(&self, of: impl Fn(&Cell) -> u64) -> Vec<f64> {
        self.cells.iter().map(|cell| cell.map_or(0.0, |cell| of(cell) as f64)).collect()
    }

    /// A sum over some hours.
    pub(crate) fn sum(&self, start: usize, end: usize, of: impl Fn(&Cell) -> u64) -> u64 {
        self.cells[start..end].iter().flatten().map(|cell| of(cell)).sum()
    }
}

/// A time that no hour stands for has no place on the axis.
pub(crate) const fn has_time(cell: &Cell) -> bool {
    cell.hour != NO_HOUR
}
