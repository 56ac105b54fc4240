//! Failures of one operation: bursts by the burn rate of the error budget, and level shifts of the error rate.
//!
//! Alerts on burn rates (Google's Site Reliability Workbook, chapter 5) as far as hourly cells carry them:
//! 14.4 times the budget within an hour, 6 times within six, once for longer; confirmed by an exact test
//! against the operation's own other hours, so that few calls neither hide a burst nor make one.

use serde_json::Map;

use super::deviation::{Deviation, deviations};
use super::finding::{Finding, Tested, clock, impact, percent, short};
use super::level::{Counts, Segment};
use super::track::{Hours, Track};
use crate::pattern::PatternType;

/// Fewest failures of a burst.
const FEWEST: u64 = 4;

/// What became of an operation's error rate.
#[derive(Debug)]
pub(crate) struct Failures {
    pub(crate) tests: Vec<Tested>,
    pub(crate) counts: Counts,
    /// Hours of bursts and of new levels.
    pub(crate) unusual: Vec<Segment>,
    /// A line explains the rates better than steps.
    pub(crate) steady: bool,
}

/// Looks for bursts and shifts; `budget` is the share of calls that may fail.
pub(crate) fn failures(track: &Track<'_>, hours: Hours, budget: f64, all: u64) -> Failures {
    let (errors, calls) = (track.numbers(|cell| cell.errors), track.numbers(|cell| cell.calls));
    let counts = Counts::new(hours, errors, calls);
    let segments = counts.segments();
    let steady = counts.is_steady(&segments);
    let mut failures = Failures { tests: Vec::new(), counts, unusual: Vec::new(), steady };
    if !steady {
        for deviation in deviations(&failures.counts, &segments, true) {
            let finding = judged(track, hours, &deviation, budget, all);
            if finding.is_some() {
                failures.unusual.push(deviation.hours);
            }
            let places = if deviation.stays { hours.splits() } else { hours.count };
            failures.tests.push(Tested::new(deviation.p, places, finding));
        }
    }
    if failures.tests.is_empty() {
        failures.tests.push(Tested::nothing());
    }
    failures
}

fn judged(track: &Track<'_>, hours: Hours, deviation: &Deviation, budget: f64, all: u64) -> Option<Finding> {
    let Segment { start, end } = deviation.hours;
    let (errors, calls) =
        (track.sum(start, end, |cell| cell.errors), track.sum(start, end, |cell| cell.calls));
    let rate = errors as f64 / calls.max(1) as f64;
    let before = if deviation.base.0 > 0.0 { rate / deviation.ratio } else { 0.0 };
    let burn = rate / budget;
    let needed = match end - start {
        1 => 14.4,
        2..=6 => 6.0,
        _ => 1.0,
    };
    let kind = if deviation.stays { PatternType::LevelShift } else { PatternType::Burst };
    let enough =
        if deviation.stays { rate - before >= 0.01 } else { burn >= needed && deviation.ratio >= 2.0 };
    if !enough || errors < FEWEST {
        return None;
    }
    let name = &track.name;
    let (from, until) = (hours.hour(start), hours.hour(end));
    let (was, is, many) = (percent(before), percent(rate), format!("{errors} of {calls} calls"));
    let text = if !deviation.stays {
        format!(
            "From {} to {} {many} of {name} failed: {is}, otherwise {was}; {} times the error budget of {}",
            clock(from),
            clock(until),
            short(burn),
            percent(budget)
        )
    } else if end == hours.count {
        format!("Since {} {name} fails more: {many}, {is}, was {was}", clock(from))
    } else {
        format!("From {} to {} {name} failed more: {many}, {is}, was {was}", clock(from), clock(until))
    };
    // All failures of a burst count, of however few calls.
    let share = (calls as f64 / all.max(1) as f64).max(0.01);
    let finding = Finding {
        kind,
        operation: Some(name.clone()),
        about: "error_rate".into(),
        text,
        occurrences: errors,
        impact: impact(deviation.ratio, share) * rate.sqrt().max(0.3),
        from,
        until,
        metadata: Map::new(),
    };
    let finding = finding
        .number("error_rate", rate)
        .number("error_rate_otherwise", before)
        .number("ratio", deviation.ratio)
        .number("errors", errors as f64)
        .number("calls", calls as f64)
        .number("burn_rate", burn)
        .number("error_budget", budget);
    Some(finding)
}
