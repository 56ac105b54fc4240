//! Lines that show a finding: where they are, and how they begin.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Lines that a finding keeps.
const MOST: usize = 5;
/// Bytes of an excerpt.
const EXCERPT: usize = 160;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What the lines are chosen by, the smallest first.
    pub rank: i64,
    /// Microseconds since 1970; `i64::MIN` without a time.
    pub at: i64,
    /// Its file.
    pub file: Box<str>,
    /// Where it begins in the (decompressed) file.
    pub offset: u64,
    /// The error in it, or its beginning.
    pub excerpt: Box<str>,
}

/// The few lines of the smallest rank, by time, place and file among equals: the same in whatever order
/// and on whatever machines they were met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Few(Vec<Evidence>);

impl Few {
    /// The lines, the smallest rank first.
    pub fn lines(&self) -> &[Evidence] {
        &self.0
    }

    /// Whether a line of this rank and time would be kept.
    #[inline]
    fn wants(&self, rank: i64, at: i64) -> bool {
        self.0.len() < MOST || self.0.last().is_some_and(|last| (rank, at) <= (last.rank, last.at))
    }

    /// Offers a line; its excerpt is cut.
    pub fn offer(&mut self, (rank, at): (i64, i64), file: &str, offset: u64, excerpt: &str) {
        if self.wants(rank, at) {
            let excerpt = excerpt[..excerpt.floor_char_boundary(EXCERPT)].into();
            self.keep(Evidence { rank, at, file: file.into(), offset, excerpt });
        }
    }

    fn keep(&mut self, line: Evidence) {
        let place = self.0.partition_point(|known| order(known, &line) == Ordering::Less);
        if place < MOST {
            self.0.truncate(MOST - 1);
            self.0.insert(place, line);
        }
    }

    /// Adds those of another machine.
    pub fn absorb(&mut self, other: Self) {
        other.0.into_iter().for_each(|line| self.keep(line));
    }
}

fn order(a: &Evidence, b: &Evidence) -> Ordering {
    (a.rank, a.at, a.offset, &a.file).cmp(&(b.rank, b.at, b.offset, &b.file))
}

/// First and last instant of something, microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub Option<(i64, i64)>);

impl Span {
    /// Includes an instant; `i64::MIN` is none.
    #[inline]
    pub fn see(&mut self, at: i64) {
        if at != i64::MIN {
            self.join(Self(Some((at, at))));
        }
    }

    /// Includes another span.
    #[inline]
    pub fn join(&mut self, other: Self) {
        self.0 = match (self.0, other.0) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_offers_does_not_matter() {
        let lines: Vec<(i64, u64)> = (0..40).map(|index| (index * 7 % 13, index as u64)).collect();
        let few = |order: &[(i64, u64)]| {
            let mut few = Few::default();
            for &(rank, offset) in order {
                few.offer((rank, rank), "a.log", offset, "text");
            }
            few
        };
        let reversed: Vec<_> = lines.iter().rev().copied().collect();
        assert_eq!(few(&lines), few(&reversed));
        let mut merged = few(&lines[20..]);
        merged.absorb(few(&lines[..20]));
        assert_eq!(merged, few(&lines));
        assert_eq!(merged.lines().len(), MOST);
        assert_eq!(merged.lines()[0].rank, 0);
    }

    #[test]
    fn a_long_excerpt_is_cut_between_characters() {
        let mut few = Few::default();
        few.offer((0, 0), "a", 0, &"é".repeat(500));
        assert_eq!(few.lines()[0].excerpt.len(), 160);
    }
}
