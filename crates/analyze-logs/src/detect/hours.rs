//! When something happened: counts by hour, by day when they are old.

use serde::{Deserialize, Serialize};

use crate::tally::HOUR_US;

/// Hours before the latest one that are kept apart; older ones are joined to days.
const APART: i32 = 1_000;
/// Hours and days that are kept; in a log with more, which has impossible times, further ones do not count.
const MOST: usize = 50_000;

/// Counts by hour since 1970, ascending; old ones by day, under its first hour. Which ones are days depends on
/// the latest hour alone, so that the order of counting and adding up does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hours(Vec<(i32, u32)>);

impl Hours {
    /// The hours and days that have any.
    pub fn list(&self) -> &[(i32, u32)] {
        &self.0
    }

    /// Counts an instant (microseconds since 1970; `i64::MIN` is none).
    #[inline]
    pub(super) fn see(&mut self, at: i64) {
        if at == i64::MIN {
            return;
        }
        match self.0.last_mut() {
            Some((hour, count)) if i64::from(*hour) == at.div_euclid(HOUR_US) => {
                *count = count.saturating_add(1);
            }
            _ => self.add(at.div_euclid(HOUR_US) as i32, 1),
        }
    }

    fn add(&mut self, hour: i32, count: u32) {
        let last = self.0.last().map_or(hour, |(last, _)| *last);
        let oldest = last.max(hour).saturating_sub(APART);
        let hour = if hour < oldest { hour.div_euclid(24) * 24 } else { hour };
        match self.0.binary_search_by_key(&hour, |(hour, _)| *hour) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(_) if self.0.len() >= MOST => {}
            Err(at) => {
                self.0.insert(at, (hour, count));
                if hour > last && self.0[0].0 < oldest {
                    self.join_days(oldest);
                }
            }
        }
    }

    fn join_days(&mut self, oldest: i32) {
        for (hour, _) in &mut self.0 {
            if *hour < oldest {
                *hour = hour.div_euclid(24) * 24;
            }
        }
        self.0.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
    }

    /// Adds those of another machine.
    pub(super) fn absorb(&mut self, other: &Self) {
        // The latest first: what is older becomes days at once.
        for &(hour, count) in other.0.iter().rev() {
            self.add(hour, count);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<(i32, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_does_not_matter(hours in proptest::collection::vec(0_i64..3_000, 1..200), cut in any::<prop::sample::Index>()) {
            let of = |hours: &[i64]| {
                let mut counts = Hours::default();
                for hour in hours {
                    counts.see(hour * HOUR_US + 5);
                }
                counts
            };
            let whole = of(&hours);
            let (left, right) = hours.split_at(cut.index(hours.len()));
            let mut merged = of(right);
            merged.absorb(&of(left));
            prop_assert_eq!(&merged, &whole);
            let mut sorted = hours.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&of(&sorted), &whole);
            prop_assert_eq!(whole.list().iter().map(|(_, count)| *count as usize).sum::<usize>(), hours.len());
        }
    }
}
