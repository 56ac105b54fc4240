//! Durations of one operation, hour by hour, as they compare with all of its durations.
//!
//! Durations are classed by their logarithm (1.6 % wide), what an hour of the day usually adds is taken
//! off, and each hour is summed up by the mean rank of its calls: a robust measure whose variance under no
//! change is known, 1 / (12 n), however few calls there are.

use nightshift_stats::rank::{MannWhitney, mann_whitney};

use super::level::{Means, Segment, usual_addition};
use super::track::{Hours, Track};
use crate::tally::Sketch;

/// Classes for a factor of e.
const CLASSES: f64 = 64.0;
/// Fewest calls and hours with calls that say anything.
const FEWEST_CALLS: f64 = 60.0;
const FEWEST_HOURS: usize = 12;

/// The class of each bucket of a sketch.
#[derive(Debug)]
pub(crate) struct Classes(Vec<i16>);

impl Classes {
    pub(crate) fn new() -> Self {
        Self(Sketch::middles().map(|us| (us.max(0.5).ln() * CLASSES).round() as i16).collect())
    }
}

/// Counts by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Histogram {
    first: i32,
    counts: Vec<u64>,
}

impl Histogram {
    /// The quantile `q` as a logarithm of microseconds, between neighbouring classes.
    pub(crate) fn ln_quantile(&self, q: f64) -> f64 {
        let rank = q * self.counts.iter().sum::<u64>() as f64;
        let mut below = 0.0;
        for (index, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                let part = (rank - below) / count - 0.5;
                return (f64::from(self.first + index as i32) + part) / CLASSES;
            }
            below += count;
        }
        0.0
    }

    /// The quantile in milliseconds.
    pub(crate) fn ms(&self, q: f64) -> f64 {
        self.ln_quantile(q).exp() / 1000.0
    }

    /// The distances from the median, in classes.
    pub(crate) fn around_median(&self) -> Self {
        let middle = (self.ln_quantile(0.5) * CLASSES).round() as i32;
        let mut counts = vec![0; self.counts.len() + middle.abs_diff(self.first) as usize + 1];
        for (class, count) in (self.first..).zip(&self.counts) {
            counts[class.abs_diff(middle) as usize] += count;
        }
        Self { first: 0, counts }
    }

    /// Both as ordered classes with their counts; the second moved up by `shift` classes.
    pub(crate) fn beside(&self, other: &Self, shift: i32) -> Vec<(u64, u64)> {
        let first = self.first.min(other.first + shift);
        let end = |histogram: &Self| histogram.first + histogram.counts.len() as i32;
        let last = end(self).max(end(other) + shift);
        let at = |histogram: &Self, class: i32| {
            usize::try_from(class - histogram.first)
                .ok()
                .and_then(|i| histogram.counts.get(i).copied())
                .unwrap_or(0)
        };
        (first..last).map(|class| (at(self, class), at(other, class - shift))).collect()
    }
}

/// The durations of one operation.
#[derive(Debug)]
pub(crate) struct Latency {
    cells: Cells,
    span: (i32, i32),
    /// Durations of each hour.
    pub(crate) counts: Vec<f64>,
    /// Mean ranks (0-1) of each hour's calls.
    pub(crate) ranks: Means,
    /// The hours of one level of ranks each.
    pub(crate) levels: Vec<Segment>,
    /// Medians of each hour, logarithms of microseconds.
    pub(crate) medians: Means,
}

impl Latency {
    /// `None` when there are too few durations.
    pub(crate) fn of(track: &Track<'_>, hours: Hours, classes: &Classes) -> Option<Self> {
        let mut cells = Cells::of(track, classes);
        let counts: Vec<f64> = cells.hours().map(count).collect();
        let active = counts.iter().filter(|count| **count > 0.0).count();
        if counts.iter().sum::<f64>() < FEWEST_CALLS || active < FEWEST_HOURS {
            return None;
        }
        let mut medians: Vec<f64> = cells.hours().map(median).collect();
        let whole = pool([&*cells.pairs], cells.span());
        let spread = ((whole.ln_quantile(0.75) - whole.ln_quantile(0.25)) / 1.349).max(0.02);
        // The variance of a median is pi / 2 times that of a mean.
        let addition = usual_addition(hours, &medians, &counts, spread * 1.2533);
        for hour in 0..hours.count {
            let shift = (addition[hours.slot(hour)] * CLASSES).round() as i32;
            cells.lower(hour, shift);
            if counts[hour] > 0.0 {
                medians[hour] -= f64::from(shift) / CLASSES;
            }
        }
        let span = cells.span();
        let ranks = ranks(&cells, &pool([&*cells.pairs], span));
        let weights = counts.iter().map(|count| 12.0 * count).collect();
        let ranks = Means::new(ranks, weights, true, 0.0);
        Some(Self {
            levels: ranks.segments(),
            ranks,
            medians: Means::new(medians, counts.clone(), false, 0.01),
            cells,
            span,
            counts,
        })
    }

    /// The durations of some hours, without what is usual for their hours of the day.
    pub(crate) fn histogram(&self, segments: &[Segment]) -> Histogram {
        pool(segments.iter().map(|s| self.cells.of_hours(s.start, s.end)), self.span)
    }

    /// The number of durations of each hour above a class boundary (logarithm of microseconds).
    pub(crate) fn above(&self, ln_us: f64) -> Vec<f64> {
        let class = (ln_us * CLASSES).round() as i32;
        self.cells.hours().map(|cell| count(&cell[cell.partition_point(|(at, _)| *at <= class)..])).collect()
    }

    /// Durations of some hours.
    pub(crate) fn calls(&self, segment: Segment) -> u64 {
        self.counts[segment.start..segment.end].iter().sum::<f64>() as u64
    }

    /// Mann and Whitney's test of some hours against others.
    pub(crate) fn compare(&self, hours: &[Segment], others: &[Segment]) -> MannWhitney {
        mann_whitney(&self.histogram(hours).beside(&self.histogram(others), 0))
    }
}

/// Counts by class, ascending, of one hour after the other.
#[derive(Debug)]
struct Cells {
    pairs: Vec<(i32, u32)>,
    /// Where each hour begins, and the end of the last.
    bounds: Vec<usize>,
}

impl Cells {
    fn of(track: &Track<'_>, Classes(classes): &Classes) -> Self {
        let sketches = || track.cells.iter().map(|cell| cell.map(|cell| &cell.sketch));
        let mut pairs = Vec::with_capacity(sketches().flatten().map(Sketch::len).sum());
        let mut bounds = vec![0];
        for sketch in sketches() {
            let mut last = None;
            for (bucket, count) in sketch.into_iter().flat_map(Sketch::counts) {
                let class = i32::from(classes[usize::from(bucket)]);
                match last {
                    Some((before, all)) if before == class => last = Some((class, all + count)),
                    _ => pairs.extend(last.replace((class, count))),
                }
            }
            pairs.extend(last);
            bounds.push(pairs.len());
        }
        Self { pairs, bounds }
    }

    fn of_hours(&self, start: usize, end: usize) -> &[(i32, u32)] {
        &self.pairs[self.bounds[start]..self.bounds[end]]
    }

    fn hours(&self) -> impl Iterator<Item = &[(i32, u32)]> {
        self.bounds.windows(2).map(|bounds| &self.pairs[bounds[0]..bounds[1]])
    }

    /// Moves an hour down by so many classes.
    fn lower(&mut self, hour: usize, shift: i32) {
        if shift != 0 {
            for (class, _) in &mut self.pairs[self.bounds[hour]..self.bounds[hour + 1]] {
                *class -= shift;
            }
        }
    }

    /// The first class, and the one behind the last.
    fn span(&self) -> (i32, i32) {
        let first = self.hours().filter_map(<[_]>::first).map(|(class, _)| *class).min().unwrap_or(0);
        let last = self.hours().filter_map(<[_]>::last).map(|(class, _)| *class).max().unwrap_or(0);
        (first, last + 1)
    }
}

fn count(cell: &[(i32, u32)]) -> f64 {
    cell.iter().map(|(_, count)| u64::from(*count)).sum::<u64>() as f64
}

fn pool<'a>(cells: impl IntoIterator<Item = &'a [(i32, u32)]>, (first, end): (i32, i32)) -> Histogram {
    let mut counts = vec![0; (end - first) as usize];
    for &(class, count) in cells.into_iter().flatten() {
        counts[(class - first) as usize] += u64::from(count);
    }
    Histogram { first, counts }
}

/// The median class as a logarithm; 0 without durations.
fn median(cell: &[(i32, u32)]) -> f64 {
    let count: u32 = cell.iter().map(|(_, count)| count).sum();
    let at = |rank: u32| {
        let mut seen = 0;
        for (class, count) in cell {
            seen += count;
            if seen > rank {
                return f64::from(*class);
            }
        }
        0.0
    };
    if count == 0 { 0.0 } else { f64::midpoint(at((count - 1) / 2), at(count / 2)) / CLASSES }
}

/// The mean rank of each hour's durations among all, 0 to 1, ties at their middle.
fn ranks(cells: &Cells, whole: &Histogram) -> Vec<f64> {
    let all = whole.counts.iter().sum::<u64>().max(1) as f64;
    let mut below = 0.0;
    let middle: Vec<f64> = whole
        .counts
        .iter()
        .map(|count| {
            let rank = below + *count as f64 / 2.0;
            below += *count as f64;
            rank / all
        })
        .collect();
    cells
        .hours()
        .map(|cell| {
            let (sum, count) = cell.iter().fold((0.0, 0.0), |(sum, all), (class, count)| {
                let count = f64::from(*count);
                (sum + count * middle[(class - whole.first) as usize], all + count)
            });
            if count > 0.0 { sum / count } else { 0.0 }
        })
        .collect()
}
