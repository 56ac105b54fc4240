//! Steady rises and falls of latency, error rate and cost per call, and limits that a rise will cross.
//!
//! Blocks of hours (28 or so in all) give one value each; Mann and Kendall's test, corrected for
//! autocorrelation, says whether they rise, Theil and Sen's line by how much.

use std::cell::OnceCell;

use nightshift_core::config::AnalyzeLogs;
use nightshift_stats::change::Sums;
use nightshift_stats::trend::{MannKendall, TheilSen, mann_kendall, theil_sen};
use serde_json::Map;

use super::finding::{Finding, Tested, clock, impact, length, percent, short, time};
use super::latency::Latency;
use super::level::{Means, Segment};
use super::track::{Hours, Track};
use crate::pattern::PatternType;

/// Blocks that the log is cut into, about, and fewest with a value.
const BLOCKS: usize = 28;
const FEWEST_BLOCKS: usize = 12;
/// Fewest calls of a block that has a value.
const FEWEST_CALLS: u64 = 5;
/// Least change over the log: as a factor; of an error rate also in absolute terms.
const FACTOR: f64 = 1.25;
const RATE_FACTOR: f64 = 1.5;
const RATE: f64 = 0.02;
/// Confidence of the interval of a forecast.
const CONFIDENCE: f64 = 0.9;

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    Latency,
    ErrorRate,
    Cost,
}

impl Metric {
    const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::ErrorRate => "error_rate",
            Self::Cost => "cost",
        }
    }

    fn say(self, value: f64) -> String {
        match self {
            Self::Latency => length(value),
            Self::ErrorRate => percent(value),
            Self::Cost => format!("{} USD", short(value)),
        }
    }
}

/// Blocks of hours and a value of each (milliseconds, a share, US dollars).
#[derive(Debug)]
pub(crate) struct Blocks<T = f64> {
    hours: Hours,
    /// Middles, in hours from the first.
    places: Vec<f64>,
    values: Vec<T>,
    line: OnceCell<Option<(MannKendall, TheilSen)>>,
}

impl<T> Blocks<T> {
    /// The same blocks with something of their values.
    fn each<U>(&self, of: impl Fn(&T) -> U) -> Blocks<U> {
        let values = self.values.iter().map(of).collect();
        Blocks { hours: self.hours, places: self.places.clone(), values, line: OnceCell::new() }
    }
}

impl Blocks {
    /// The test for a rise and the line through the values, if they are enough.
    fn line(&self) -> Option<&(MannKendall, TheilSen)> {
        let line = || {
            let test = mann_kendall(&self.values).ok()?;
            Some((test, theil_sen(&self.places, &self.values, CONFIDENCE).ok()?))
        };
        self.line.get_or_init(|| (self.values.len() >= FEWEST_BLOCKS).then(line).flatten()).as_ref()
    }
}

/// Cuts the hours into blocks.
pub(crate) fn blocks<T>(hours: Hours, value: impl Fn(Segment) -> Option<T>) -> Blocks<T> {
    let length = hours.count.div_ceil(BLOCKS).max(1);
    let (mut places, mut values) = (Vec::new(), Vec::new());
    for start in (0..hours.count).step_by(length) {
        let block = Segment { start, end: (start + length).min(hours.count) };
        if let Some(value) = value(block) {
            places.push((block.start + block.end) as f64 / 2.0);
            values.push(value);
        }
    }
    Blocks { hours, places, values, line: OnceCell::new() }
}

/// Quantiles of the latency, without what is usual for an hour.
pub(crate) fn of_latency<const N: usize>(
    hours: Hours,
    latency: &Latency,
    quantiles: [f64; N],
) -> [Blocks; N] {
    let of_block = |block| {
        let histogram = (latency.calls(block) >= FEWEST_CALLS).then(|| latency.histogram(&[block]))?;
        Some(quantiles.map(|q| histogram.ms(q)))
    };
    let all = blocks(hours, of_block);
    std::array::from_fn(|index| all.each(|values| values[index]))
}

/// Error rates.
pub(crate) fn of_errors(track: &Track<'_>, hours: Hours) -> Blocks {
    blocks(hours, |block| {
        let calls = track.sum(block.start, block.end, |cell| cell.calls);
        let errors = track.sum(block.start, block.end, |cell| cell.errors);
        (calls >= FEWEST_CALLS).then(|| errors as f64 / calls as f64)
    })
}

/// Costs per call in US dollars.
pub(crate) fn of_costs(hours: Hours, costs: &Means) -> Blocks {
    blocks(hours, |block| {
        let any = costs.weights[block.start..block.end].iter().any(|weight| *weight > 0.0);
        any.then(|| costs.mean(block).exp() / 1e9)
    })
}

/// The test of a trend; `share` of all calls are of this operation, `counted` the p-value of counts that
/// are known to follow a line, where there is one.
pub(crate) fn trend(
    track: &Track<'_>,
    metric: Metric,
    blocks: &Blocks,
    (share, counted): (f64, Option<f64>),
) -> Tested {
    let Some((test, line)) = blocks.line() else { return Tested::nothing() };
    let Hours { first, count } = blocks.hours;
    let (start, end) = (line.intercept.max(0.0), (line.intercept + line.slope * count as f64).max(0.0));
    let (low, high) = (start.min(end), start.max(end));
    let ratio = high / low.max(high / 1000.0).max(1e-12);
    let enough = match metric {
        Metric::ErrorRate => ratio >= RATE_FACTOR && high - low >= RATE,
        _ => ratio >= FACTOR,
    };
    let enough = enough && (counted.is_some() || rather_line(&blocks.places, &blocks.values));
    let rises = line.slope > 0.0;
    let name = &track.name;
    let what = match metric {
        Metric::Latency => format!("The median duration of {name}"),
        Metric::ErrorRate => format!("The error rate of {name}"),
        Metric::Cost => format!("The cost of a call of {name}"),
    };
    let finding = enough.then(|| {
        let verb = if rises { "rises" } else { "falls" };
        let text = format!(
            "{what} {verb} steadily: from {} on {} to {} on {}",
            metric.say(start),
            clock(first),
            metric.say(end),
            clock(first + count as i32)
        );
        let calls = track.sum(0, count, |cell| cell.calls);
        Finding {
            kind: PatternType::Trend,
            operation: Some(name.clone()),
            about: metric.name().into(),
            text,
            occurrences: calls,
            impact: impact(ratio, share) * if rises { 0.8 } else { 0.2 },
            from: first,
            until: first + count as i32,
            metadata: Map::new(),
        }
        .number("from", start)
        .number("to", end)
        .number("ratio", if start > 0.0 { end / start } else { f64::NAN })
        .number("per_day", line.slope * 24.0)
        .number("per_day_low", line.interval.low * 24.0)
        .number("per_day_high", line.interval.high * 24.0)
        .number("tau", test.tau)
        .number("autocorrelation_correction", test.correction)
        .word(
            "unit",
            if metric == Metric::Latency {
                "ms"
            } else if metric == Metric::Cost {
                "usd"
            } else {
                "share"
            },
        )
        .word("direction", if rises { "up" } else { "down" })
    });
    Tested::new(counted.unwrap_or(test.p), 1, finding)
}

/// Whether a straight line explains the values better than the best single step (Schwarz's criterion).
fn rather_line(places: &[f64], values: &[f64]) -> bool {
    let n = values.len() as f64;
    let sums = Sums::of(values.iter().map(|value| (*value, 1.0)));
    let steps = (1..values.len()).map(|at| sums.squares(0, at) + sums.squares(at, values.len()));
    let step = steps.fold(f64::INFINITY, f64::min);
    let (x, y) = (places.iter().sum::<f64>() / n, sums.mean(0, values.len()));
    let products: f64 = places.iter().zip(values).map(|(a, b)| (a - x) * (b - y)).sum();
    let spread: f64 = places.iter().map(|a| (a - x) * (a - x)).sum();
    let line = sums.squares(0, values.len()) - products * products / spread.max(1e-12);
    // A place of the step is a parameter more.
    n * line.max(1e-300).ln() <= n * step.max(1e-300).ln() + n.ln()
}

/// A limit that a rising line will cross: `limit` in the units of the blocks, its setting, and what is measured.
pub(crate) fn breach(
    track: &Track<'_>,
    settings: &AnalyzeLogs,
    blocks: &Blocks,
    (metric, what, limit, setting): (Metric, &str, f64, &str),
) -> Tested {
    let Some((test, line)) = blocks.line() else { return Tested::nothing() };
    let count = blocks.hours.count as f64;
    let now = line.intercept + line.slope * count;
    let (Some(crossing), true) = (crossing(line, now, limit), now < limit) else {
        return Tested { p: test.p, finding: None };
    };
    let Crossing { expected, soonest, latest } = crossing;
    if expected > settings.forecast_days * 24.0 {
        return Tested { p: test.p, finding: None };
    }
    let end = blocks.hours.first + blocks.hours.count as i32;
    let at = |hours: f64| end.saturating_add(hours.round() as i32);
    let name = &track.name;
    let text = format!(
        "The {what} of {name} ({} now, rising {} a day) will cross {} ({setting}) in {} days, about {}; 90 % interval {} to {}",
        metric.say(now),
        metric.say(line.slope * 24.0),
        metric.say(limit),
        short(expected / 24.0),
        clock(at(expected)),
        clock(at(soonest)),
        latest.map_or_else(|| "never".to_owned(), |hours| clock(at(hours))),
    );
    let finding = Finding {
        kind: PatternType::BreachForecast,
        operation: Some(name.clone()),
        about: format!("{} {setting}", metric.name()),
        text,
        occurrences: track.sum(0, blocks.hours.count, |cell| cell.calls),
        impact: 4.0 + 4.0 / (1.0 + expected / 24.0),
        from: blocks.hours.first,
        until: end,
        metadata: Map::new(),
    }
    .number("now", now)
    .number("limit", limit)
    .number("per_day", line.slope * 24.0)
    .number("days_until", expected / 24.0)
    .number("days_until_soonest", soonest / 24.0)
    .number("days_until_latest", latest.map_or(f64::NAN, |hours| hours / 24.0))
    .word("unit", if metric == Metric::Latency { "ms" } else { "usd" })
    .word("setting", setting)
    .word("crosses_at", &time(at(expected)).unwrap_or_default());
    Tested { p: test.p, finding: Some(finding) }
}

/// Hours from the end of the log.
struct Crossing {
    expected: f64,
    soonest: f64,
    /// `None` when the slope may as well be none.
    latest: Option<f64>,
}

fn crossing(line: &TheilSen, now: f64, limit: f64) -> Option<Crossing> {
    let after = |slope: f64| (slope > 0.0).then(|| (limit - now) / slope);
    Some(Crossing {
        expected: after(line.slope)?,
        soonest: after(line.interval.high)?,
        latest: after(line.interval.low).filter(|hours| *hours < 24.0 * 366.0),
    })
}
