//! Hours unlike the same hours before: many more or many fewer calls than the rest of the log had, calls
//! that cost more; and levels of the cost per call.

use serde_json::Map;

use super::deviation::deviations;
use super::finding::{Finding, Tested, clock, impact, short};
use super::level::{Counts, Means, Segment, usual_addition};
use super::track::{Hours, Track};
use crate::pattern::PatternType;

/// Calls are unusual from this factor on.
const CALLS: f64 = 2.0;
/// Costs per call: for a few hours, and as a level.
const COST_HOURS: f64 = 1.5;
const COST_LEVEL: f64 = 1.2;
/// Up to so many hours it is something that passed.
const PASSING: usize = 24;
/// An operation with more than this share of all calls is compared with its own hours.
const DOMINANT: f64 = 0.5;
/// An operation goes along with all of them from this factor on.
const ALONG: f64 = 1.4;
/// Stretches of different lengths that begin in an hour, as far as they say different things.
const STRETCHES: usize = 8;
/// Fewest calls that are missing or too many.
const FEWEST: f64 = 10.0;

/// Calls per hour of every operation, and of all together.
pub(crate) fn calls(tracks: &[Track<'_>], hours: Hours, all: u64) -> Vec<Tested> {
    let mut numbers: Vec<Vec<f64>> = tracks.iter().map(|track| track.numbers(|cell| cell.calls)).collect();
    // The first and the last hour are hardly ever whole.
    let whole = 1..hours.count.saturating_sub(1).max(1);
    for calls in &mut numbers {
        calls[0] = 0.0;
        calls[whole.end..].fill(0.0);
    }
    let mut total = vec![0.0; hours.count];
    for (sum, calls) in numbers.iter().flat_map(|calls| calls.iter().enumerate()) {
        total[sum] += calls;
    }
    let mut tests = Vec::new();
    let mut everywhere: Vec<Segment> = Vec::new();
    // A log of less than three days has no hours to compare with.
    if hours.days() >= 3 && tracks.len() > 1 {
        let what = "calls of all operations";
        let even: Vec<f64> = (0..hours.count).map(|hour| f64::from(whole.contains(&hour))).collect();
        let levels = Levels::of(hours, &total, even);
        let found = [true, false].map(|above| one(None, what, hours, &levels, (&total, above, all)));
        let found = found.into_iter().flatten();
        let found: Vec<_> =
            found.map(|(test, segment)| (of_many(test, &numbers, segment), segment)).collect();
        everywhere.extend(found.iter().filter(|(test, _)| test.finding.is_some()).map(|(_, hours)| *hours));
        tests.extend(found.into_iter().map(|(test, _)| test));
    }
    // First those that are called more: without their surplus nobody else is called less.
    let mut levels: Vec<Option<Levels>> = tracks.iter().map(|_| None).collect();
    for above in [true, false] {
        let mut changed = false;
        for ((track, calls), levels) in tracks.iter().zip(&mut numbers).zip(&mut levels) {
            let own: f64 = calls.iter().sum();
            let alone = own > DOMINANT * total.iter().sum::<f64>();
            if alone && tracks.len() > 1 {
                continue;
            }
            let levels = levels.get_or_insert_with(|| {
                let rest = total.iter().zip(&*calls);
                Levels::of(
                    hours,
                    calls,
                    rest.map(|(total, own)| if alone { 1.0 } else { total - own }).collect(),
                )
            });
            let what = format!("calls of {}", track.name);
            for (mut test, hours) in one(Some(track), &what, hours, levels, (calls, above, all)) {
                if everywhere.iter().any(|other| other.start < hours.end && hours.start < other.end) {
                    test.finding = None;
                }
                if let Some(finding) = test.finding.as_ref().filter(|_| above) {
                    let usual = 1.0 / number(finding, "ratio");
                    for hour in hours.start..hours.end {
                        total[hour] -= calls[hour] * (1.0 - usual);
                        calls[hour] *= usual;
                    }
                    changed = true;
                }
                tests.push(test);
            }
        }
        if changed {
            levels.fill_with(|| None);
        }
    }
    tests
}

/// Calls among those of others, and their segments.
struct Levels {
    counts: Counts,
    segments: Vec<Segment>,
}

impl Levels {
    fn of(hours: Hours, calls: &[f64], exposure: Vec<f64>) -> Self {
        let counts = Counts::new(hours, calls.to_vec(), exposure);
        Self { segments: counts.segments(), counts }
    }
}

fn number(finding: &Finding, name: &str) -> f64 {
    finding.metadata.get(name).and_then(serde_json::Value::as_f64).unwrap_or(1.0)
}

/// Takes the finding away when it is the doing of a few operations.
fn of_many(mut test: Tested, numbers: &[Vec<f64>], hours: Segment) -> Tested {
    let Some(finding) = &test.finding else { return test };
    let total: f64 = numbers.iter().flatten().sum();
    let (expected, more) = (number(finding, "expected_calls") / total, number(finding, "ratio") > 1.0);
    let along = numbers.iter().filter(|calls| {
        let share = calls[hours.start..hours.end].iter().sum::<f64>() / calls.iter().sum::<f64>();
        if more { share > expected * ALONG } else { share * ALONG < expected }
    });
    if 2 * along.count() <= numbers.len() {
        test.finding = None;
    }
    test
}

fn one(
    track: Option<&Track<'_>>,
    what: &str,
    hours: Hours,
    Levels { counts, segments }: &Levels,
    (calls, above, all): (&[f64], bool, u64),
) -> Vec<(Tested, Segment)> {
    let mut tests = Vec::new();
    for deviation in deviations(counts, segments, above) {
        let Segment { start, end } = deviation.hours;
        let seen: f64 = calls[start..end].iter().sum();
        let rate = deviation.base.0 / deviation.base.1.max(1e-9);
        let expected = rate * counts.part(deviation.hours).1;
        let enough = !deviation.stays && deviation.ratio >= CALLS && (seen - expected).abs() >= FEWEST;
        let (from, until) = (hours.hour(start), hours.hour(end));
        let finding = enough.then(|| {
            let text = format!(
                "From {} to {} there were {} {what}, where {} were to be expected",
                clock(from),
                clock(until),
                short(seen),
                short(expected)
            );
            Finding {
                kind: PatternType::Anomaly,
                operation: track.map(|track| track.name.clone()),
                about: "calls".into(),
                text,
                occurrences: seen as u64,
                impact: impact(deviation.ratio.min(10.0), (seen - expected).abs() / all.max(1) as f64) * 0.6,
                from,
                until,
                metadata: Map::new(),
            }
            .number("calls", seen)
            .number("expected_calls", expected)
            .number("ratio", seen / expected.max(1e-9))
        });
        tests.push((Tested::new(deviation.p, hours.count * STRETCHES, finding), deviation.hours));
    }
    if tests.is_empty() {
        tests.push((Tested::nothing(), Segment { start: 0, end: 0 }));
    }
    tests
}

/// Logarithms of the cost per call of each hour, and their weights; `None` without costs.
pub(crate) fn costs(track: &Track<'_>, hours: Hours) -> Option<Means> {
    let calls = track.numbers(|cell| if cell.cost_nano > 0 { cell.calls } else { 0 });
    let nano = track.numbers(|cell| cell.cost_nano.max(0) as u64);
    let active = calls.iter().filter(|calls| **calls > 0.0).count();
    if active < 12 {
        return None;
    }
    let mut values: Vec<f64> = nano
        .iter()
        .zip(&calls)
        .map(|(nano, calls)| if *calls > 0.0 { (nano / calls).ln() } else { 0.0 })
        .collect();
    let spread = Means::new(values.clone(), calls.clone(), false, 0.01);
    let heaviest = spread.weights.iter().zip(&calls).map(|(w, n)| w / n.max(1.0)).fold(0.0, f64::max);
    let addition = usual_addition(hours, &values, &calls, (1.0 / heaviest.max(1e-9)).sqrt());
    for (index, value) in values.iter_mut().enumerate() {
        *value -= addition[hours.slot(index)];
    }
    Some(Means::new(values, calls, false, 0.01))
}

/// Levels of the cost per call.
pub(crate) fn dear(track: &Track<'_>, hours: Hours, costs: &Means, all_nano: i64) -> Vec<Tested> {
    let segments = costs.segments();
    let mut tests = Vec::new();
    if segments.len() < 2 || costs.is_steady(&segments) {
        return vec![Tested::nothing()];
    }
    let longest = segments.iter().copied().max_by_key(|segment| segment.length());
    let mut base = if segments[0].length() > PASSING { Some(segments[0]) } else { longest };
    let mut passed = None;
    for &segment in &segments {
        let Some(usual) = base.filter(|usual| *usual != segment) else { continue };
        let ratio = (costs.mean(segment) - costs.mean(usual)).exp();
        let stays = segment.length() > PASSING || (segment.end == hours.count && segment.length() >= 12);
        let enough = ratio >= if stays { COST_LEVEL } else { COST_HOURS };
        let finding = enough.then(|| told(track, hours, segment, (ratio, stays), all_nano));
        if ratio > 1.0 {
            if stays && enough && passed == Some(segment.start) {
                // The hour in which it began is a part of it.
                tests.pop();
            }
            passed = (!stays).then_some(segment.end);
            tests.push(Tested::new(costs.p(segment, usual), hours.count, finding));
        }
        if stays {
            base = Some(segment);
        }
    }
    tests
}

fn told(
    track: &Track<'_>,
    hours: Hours,
    segment: Segment,
    (ratio, stays): (f64, bool),
    all_nano: i64,
) -> Finding {
    let Segment { start, end } = segment;
    let calls = track.sum(start, end, |cell| cell.calls);
    let nano = track.sum(start, end, |cell| cell.cost_nano.max(0) as u64);
    let per_call = nano as f64 / 1e9 / calls.max(1) as f64;
    let (from, until) = (hours.hour(start), hours.hour(end));
    let when = if stays && end == hours.count {
        format!("Since {} a call of {} costs", clock(from), track.name)
    } else {
        format!("From {} to {} a call of {} cost", clock(from), clock(until), track.name)
    };
    let text = format!("{when} {} USD, {} times as much as before", short(per_call), short(ratio));
    let finding = Finding {
        kind: if stays { PatternType::LevelShift } else { PatternType::Anomaly },
        operation: Some(track.name.clone()),
        about: "cost".into(),
        text,
        occurrences: calls,
        impact: impact(ratio, nano as f64 / all_nano.max(1) as f64),
        from,
        until,
        metadata: Map::new(),
    };
    finding
        .number("cost_usd_per_call", per_call)
        .number("before_cost_usd_per_call", per_call / ratio)
        .number("ratio", ratio)
        .number("extra_cost_usd", nano as f64 / 1e9 * (1.0 - 1.0 / ratio))
        .number("calls", calls as f64)
}
