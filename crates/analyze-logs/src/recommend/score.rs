//! What a saving is worth, and how urgent that makes it.
//!
//! A point is one US dollar a day. Ten minutes of calls a day, or four failures a day, are worth as much; the setting
//! `objectives` weighs the three. A proposal's score is its points times its confidence.

use nightshift_core::config::Objectives;

use crate::recommendation::{Priority, Saving};

/// Seconds of calls a day that are one point.
const SECONDS: f64 = 600.0;
/// Failures a day that are one point.
const FAILURES: f64 = 4.0;
/// From these scores on it is LOW, MEDIUM, HIGH, CRITICAL.
const LIMITS: [(f64, Priority); 4] =
    [(100.0, Priority::Critical), (10.0, Priority::High), (1.0, Priority::Medium), (0.1, Priority::Low)];

/// The weighted points of a saving; negative when it costs more than it saves.
pub(super) fn points(saving: Saving, objectives: &Objectives) -> f64 {
    let points = objectives.time * saving.seconds_per_day / SECONDS
        + objectives.money * saving.usd_per_day
        + objectives.failures * saving.failures_per_day / FAILURES;
    if points.is_finite() { points } else { 0.0 }
}

/// How urgent a score is.
pub(super) fn priority(score: f64) -> Priority {
    LIMITS.into_iter().find(|(limit, _)| score >= *limit).map_or(Priority::Info, |(_, priority)| priority)
}

/// Two savings side by side.
pub(super) fn sum(a: Saving, b: Saving) -> Saving {
    Saving {
        seconds_per_day: a.seconds_per_day + b.seconds_per_day,
        usd_per_day: a.usd_per_day + b.usd_per_day,
        failures_per_day: a.failures_per_day + b.failures_per_day,
    }
}

/// Two views of one saving: of each the greater amount.
pub(super) fn greatest(a: Saving, b: Saving) -> Saving {
    let greater = |a: f64, b: f64| if b.abs() > a.abs() { b } else { a };
    Saving {
        seconds_per_day: greater(a.seconds_per_day, b.seconds_per_day),
        usd_per_day: greater(a.usd_per_day, b.usd_per_day),
        failures_per_day: greater(a.failures_per_day, b.failures_per_day),
    }
}
