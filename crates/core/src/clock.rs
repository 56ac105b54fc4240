//! The only place that reads the time.
//!
//! `Clock::now` is the wall clock (UTC). `NIGHTSHIFT_NOW` pins it to one instant for tests
//! and the demo; the monotonic clock, sleeping and leases stay real, so that time limits work.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::Failure;
use crate::signal::Stop;

/// Wall and monotonic time of one process.
#[derive(Debug, Clone)]
pub struct Clock {
    pinned: Option<Timestamp>,
    started: Instant,
}

impl Clock {
    /// The real clock, or one whose wall time is pinned to an instant.
    pub fn new(pinned: Option<Timestamp>) -> Self {
        Self { pinned, started: Instant::now() }
    }

    /// The wall clock, UTC.
    #[expect(clippy::disallowed_methods, reason = "this module is the one reader of the clock")]
    pub fn now(&self) -> Timestamp {
        self.pinned.unwrap_or_else(Timestamp::now)
    }

    /// The wall clock, never pinned: for leases, on which two running processes must agree.
    #[expect(clippy::disallowed_methods, reason = "this module is the one reader of the clock")]
    pub fn real(&self) -> Timestamp {
        Timestamp::now()
    }

    /// True when `NIGHTSHIFT_NOW` pins the wall clock.
    pub const fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// Time since this process started; never goes back.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sleeps for `duration`, waking early (and returning false) when a stop is asked for.
    pub fn sleep(&self, duration: Duration, stop: &Stop) -> bool {
        let end = self.elapsed() + duration;
        loop {
            if stop.requested().is_some() {
                return false;
            }
            let left = end.saturating_sub(self.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// RFC 3339 in UTC with microseconds: the one written form of a time.
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// Reads a time written as RFC 3339, or naive (taken as UTC).
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>().ok().or_else(|| {
        let naive: jiff::civil::DateTime = text.parse().ok()?;
        naive.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

/// A half-open interval of time, `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
}

impl Window {
    /// The calendar day `date` in `zone`; 23 or 25 hours where the clocks change.
    pub fn day(date: Date, zone: &TimeZone) -> Result<Self, Failure> {
        let start = |date: Date| {
            date.to_zoned(zone.clone())
                .map(|zoned| zoned.timestamp())
                .map_err(|error| Failure::usage(format!("no such day: {date}")).because(error))
        };
        let next = date.tomorrow().map_err(|error| Failure::usage("day out of range").because(error))?;
        Ok(Self { from: start(date)?, to: start(next)? })
    }

    /// The day before `now` in `zone`.
    pub fn yesterday(now: Timestamp, zone: &TimeZone) -> Result<Self, Failure> {
        let today = now.to_zoned(zone.clone()).date();
        let date = today.yesterday().map_err(|error| Failure::usage("day out of range").because(error))?;
        Self::day(date, zone)
    }
}

/// Reads a `--since` / `--until` value: a date in `zone`, or a full time.
pub fn parse_bound(text: &str, zone: &TimeZone) -> Result<Timestamp, Failure> {
    if let Ok(date) = text.trim().parse::<Date>()
        && !text.contains(['T', ' ', ':'])
    {
        return Window::day(date, zone).map(|window| window.from);
    }
    parse_time(text).ok_or_else(|| {
        Failure::usage(format!("`{text}` is not a time")).hint("write 2026-03-01 or 2026-03-01T02:00:00Z")
    })
}

/// The time zone named `name` (IANA), or UTC.
pub fn zone(name: &str) -> Result<TimeZone, Failure> {
    // The usual one, without a walk through the system's zones.
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|error| Failure::config(format!("unknown time zone `{name}`")).because(error))
}

/// `YYYYMMDD` of the instant in `zone`, as file names use it.
pub fn compact_date(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y%m%d").to_string()
}

/// `YYYYMMDD_HHMMSS` in UTC, as log file names use it.
pub fn compact_stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%d_%H%M%S").to_string()
}
