//! An operation takes longer from an instant on (level shift), or for a few hours (anomaly).

use serde_json::Map;

use super::finding::{Finding, Tested, clock, impact, length, short};
use super::latency::{Histogram, Latency};
use super::level::Segment;
use super::track::{Hours, Track};
use crate::pattern::PatternType;

/// Segments whose medians differ by less than this factor are one.
const LEAST: f64 = 1.2;
/// A few hours count as unusual from this factor on.
const LEAST_HOURS: f64 = 1.5;
/// Up to so many hours it is something that passed.
const PASSING: usize = 24;
/// At the end of the log so many hours are enough to call it a level.
const SETTLED: usize = 6;
/// Stretches of different lengths that begin in an hour, as far as they say different things.
const STRETCHES: usize = 4;
/// Beyond this the neighbours of a boundary are one level.
const CHANCE: f64 = 1e-4;

/// What became of an operation's level.
#[derive(Debug)]
pub(crate) struct Shifts {
    /// The tests.
    pub(crate) tests: Vec<Tested>,
    /// Hours of every level but the usual one.
    pub(crate) unusual: Vec<Segment>,
    /// A straight line explains them better than steps.
    pub(crate) line: bool,
    /// The last test of passing hours, and where those ended.
    passing: Option<(usize, usize)>,
}

/// Looks for levels.
pub(crate) fn shifts(track: &Track<'_>, hours: Hours, latency: &Latency, all: u64) -> Shifts {
    let segments = merged(latency, latency.levels.clone());
    if segments.len() < 2 {
        let tests = vec![Tested::nothing()];
        return Shifts { tests, unusual: Vec::new(), line: false, passing: None };
    }
    let line = latency.medians.is_steady(&segments);
    let mut found = Shifts { tests: Vec::new(), unusual: Vec::new(), line, passing: None };
    if line {
        return found;
    }
    let mut base: Vec<Segment> = Vec::new();
    for (index, &segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        if base.is_empty() {
            // A short beginning above what follows has passed, too.
            match next {
                Some(next)
                    if segment.length() <= PASSING && median(latency, segment) > median(latency, *next) =>
                {
                    base = segments[1..].to_vec();
                    found.judge(track, hours, latency, (segment, &base), (false, all));
                    base.clear();
                }
                _ => base.push(segment),
            }
            continue;
        }
        let moved = moved(&latency.histogram(&base), &latency.histogram(&[segment]));
        let ends = next.is_none();
        let passing = segment.length() <= if ends { SETTLED - 1 } else { PASSING };
        if !passing && moved >= LEAST.ln() {
            // The hour in which it began is a part of it.
            found.passing = found.passing.filter(|(_, end)| *end == segment.start);
            if let Some((index, _)) = found.passing.take() {
                found.tests.remove(index);
            }
        }
        if moved > 0.0 && (passing || moved >= LEAST.ln()) {
            found.judge(track, hours, latency, (segment, &base), (!passing, all));
        }
        if passing {
            continue;
        }
        if moved.abs() >= LEAST.ln() {
            found.unusual.push(segment);
            base.clear();
        }
        base.push(segment);
    }
    found
}

impl Shifts {
    fn judge(
        &mut self,
        track: &Track<'_>,
        hours: Hours,
        latency: &Latency,
        (segment, base): (Segment, &[Segment]),
        (stays, all): (bool, u64),
    ) {
        let test = latency.compare(&[segment], base);
        let (old, new) = (latency.histogram(base), latency.histogram(&[segment]));
        let ratio = new.ms(0.5) / old.ms(0.5).max(1e-6);
        let calls = latency.calls(segment);
        let (from, until) = (hours.hour(segment.start), hours.hour(segment.end));
        let kind = if stays { PatternType::LevelShift } else { PatternType::Anomaly };
        let times = format!("{} times as long", short(ratio));
        let (was, is) = (length(old.ms(0.5)), length(new.ms(0.5)));
        let name = &track.name;
        let text = if !stays {
            format!(
                "From {} to {} {name} took {times} as otherwise: median {is} instead of {was}",
                clock(from),
                clock(until)
            )
        } else if segment.end == hours.count {
            format!("Since {} {name} takes {times} as before: median {is}, was {was}", clock(from))
        } else {
            format!(
                "From {} to {} {name} took {times} as before: median {is}, was {was}",
                clock(from),
                clock(until)
            )
        };
        let enough = calls >= 5 && ratio >= if stays { LEAST } else { LEAST_HOURS };
        let share = calls as f64 / all.max(1) as f64;
        self.passing = (!stays).then_some((self.tests.len(), segment.end));
        let finding = enough.then(|| {
            Finding {
                kind,
                operation: Some(name.clone()),
                about: "latency".into(),
                text,
                occurrences: calls,
                impact: impact(ratio, share),
                from,
                until,
                metadata: Map::new(),
            }
            .number("ratio", ratio)
            .number("before_p50_ms", old.ms(0.5))
            .number("after_p50_ms", new.ms(0.5))
            .number("before_p95_ms", old.ms(0.95))
            .number("after_p95_ms", new.ms(0.95))
            .number("probability_of_longer", test.superiority)
            .number("calls_before", base.iter().map(|s| latency.calls(*s)).sum::<u64>() as f64)
            .number("calls_after", calls as f64)
        });
        let tested = Tested::new(test.p, hours.count * STRETCHES, finding);
        if tested.takes() {
            self.unusual.push(segment);
        }
        self.tests.push(tested);
    }
}

/// By how much all durations have moved, as a logarithm: the median, but no further than twice as far as
/// the fast calls, which a longer tail alone leaves where they are.
fn moved(old: &Histogram, new: &Histogram) -> f64 {
    let by = |q: f64| new.ln_quantile(q) - old.ln_quantile(q);
    let (fast, middle) = (by(0.1), by(0.5));
    if fast * middle > 0.0 { middle.signum() * middle.abs().min(2.0 * fast.abs()) } else { 0.0 }
}

fn median(latency: &Latency, segment: Segment) -> f64 {
    latency.histogram(&[segment]).ln_quantile(0.5)
}

/// Joins neighbours that hardly differ, the least different first.
fn merged(latency: &Latency, mut segments: Vec<Segment>) -> Vec<Segment> {
    loop {
        let weakest = segments
            .windows(2)
            .enumerate()
            .map(|(index, pair)| {
                let gap = (median(latency, pair[0]) - median(latency, pair[1])).abs();
                let p = latency.compare(&pair[1..], &pair[..1]).p;
                (index, if p > CHANCE { 0.0 } else { gap })
            })
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match weakest {
            Some((index, gap)) if gap < LEAST.ln() => {
                segments[index].end = segments[index + 1].end;
                segments.remove(index + 1);
            }
            _ => return segments,
        }
    }
}
