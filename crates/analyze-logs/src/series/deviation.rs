//! Stretches of hours in which hits are more (or fewer) among their exposure than before and after.

use super::level::{Counts, Segment};

/// Up to so many hours it is something that passed.
const PASSING: usize = 24;
/// At the end of the log so many hours are enough to call it a level.
const SETTLED: usize = 12;
/// A rate counts as another one from this factor on, if chance is below that.
const FACTOR: f64 = 1.5;
const CHANCE: f64 = 1e-3;

/// A stretch that is out of line.
#[derive(Debug)]
pub(crate) struct Deviation {
    pub(crate) hours: Segment,
    /// It is the level from then on, or for more than a day.
    pub(crate) stays: bool,
    /// Rate by the rate of other hours, the usual of each hour allowed for.
    pub(crate) ratio: f64,
    /// Hits and exposure of the hours that it is compared with.
    pub(crate) base: (f64, f64),
    /// One-sided, of this stretch alone.
    pub(crate) p: f64,
}

/// The stretches above (below) the rest, in order.
pub(crate) fn deviations(counts: &Counts, segments: &[Segment], above: bool) -> Vec<Deviation> {
    let rate = |(hits, exposure): (f64, f64)| if exposure > 0.0 { hits / exposure } else { 0.0 };
    let mut found: Vec<Deviation> = Vec::new();
    let mut base: Vec<Segment> = Vec::new();
    for (index, &segment) in segments.iter().enumerate() {
        let ends = index + 1 == segments.len();
        let passing = segment.length() <= if ends { SETTLED - 1 } else { PASSING };
        let (against, first) = match segments.get(index + 1) {
            // A short beginning is compared with what follows.
            Some(_) if base.is_empty() && passing => (segments[index + 1..].to_vec(), true),
            _ => (base.clone(), false),
        };
        if against.is_empty() {
            base.push(segment);
            continue;
        }
        let (mut here, others) = (rate(counts.part(segment)), rate(counts.parts(&against)));
        let mut hours = segment;
        let further = if above { here > FACTOR * others } else { here * FACTOR < others };
        if further && counts.p(segment, &against, above) < CHANCE {
            // Two levels of one stretch, or the hour in which it began.
            if let Some(last) = found.last().filter(|last| !last.stays && last.hours.end == segment.start) {
                hours.start = last.hours.start;
                here = rate(counts.part(hours));
                found.pop();
            }
            let ratio = if above { here / others.max(1e-9) } else { others / here.max(1e-9) };
            let p = counts.p(hours, &against, above);
            found.push(Deviation { hours, stays: !passing, ratio, base: counts.parts(&against), p });
            if passing {
                continue;
            }
            base.clear();
        } else if !passing && (here > FACTOR * others || here * FACTOR < others) {
            base.clear();
        }
        if !first {
            base.push(segment);
        }
    }
    found
}
