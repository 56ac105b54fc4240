//! When the next cycle is: `daily` (02:00), `weekly` (Monday 02:00), or a cron expression, in a time zone.
//!
//! Where clocks change, as cron has it: a fixed time that does not exist that day runs when the gap is over, one that
//! is there twice runs the first time; intervals (`*/15 * * * *`) go by elapsed time.

use chrono::{DateTime, TimeDelta, Utc};
use croner::parser::{CronParser, Seconds};
use croner::{Cron, JobType};
use nightshift_core::Failure;
use nightshift_core::jiff::civil;
use nightshift_core::jiff::tz::TimeZone;
use nightshift_core::jiff::{Timestamp, ToSpan};

/// A schedule in its zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads `daily`, `weekly` or a cron expression (five fields, or six with seconds first).
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, Failure> {
        let expression = match text.trim() {
            "daily" => "0 2 * * *",
            "weekly" => "0 2 * * 1",
            other => other,
        };
        let cron =
            CronParser::builder().seconds(Seconds::Optional).build().parse(expression).map_err(|error| {
                Failure::config(format!("analysis_frequency: `{text}` is no schedule: {error}"))
                    .hint("write daily, weekly, or a cron expression such as `0 2 * * 1-5`")
            })?;
        Ok(Self { cron, zone })
    }

    /// The first time after `now`; `None` when there is none any more.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self.cron.determine_job_type() {
            JobType::FixedTime => self.next_fixed(now),
            JobType::IntervalWildcard => self.next_interval(now),
        }
    }

    fn next_fixed(&self, now: Timestamp) -> Option<Timestamp> {
        let mut local = local(self.zone.to_datetime(now))?;
        loop {
            local = self.cron.find_next_occurrence(&local, false).ok()?;
            // In the second of two equal hours the local times of the first come up again: they are over.
            let at = self.zone.to_timestamp(civil_of(local)?).ok()?;
            if at > now {
                return Some(at);
            }
        }
    }

    fn next_interval(&self, now: Timestamp) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (now, false);
        loop {
            let offset = self.zone.to_offset(from);
            let found = self.cron.find_next_occurrence(&local(offset.to_datetime(from))?, inclusive).ok()?;
            let at = offset.to_timestamp(civil_of(found)?).ok()?;
            match self.zone.following(from).next() {
                Some(change) if change.timestamp() <= at => {
                    (from, inclusive) = (change.timestamp(), true);
                }
                _ => return Some(at),
            }
        }
    }

    /// The start of the day that `now` lies in.
    pub fn day(&self, now: Timestamp) -> Timestamp {
        let midnight = now.to_zoned(self.zone.clone()).start_of_day();
        midnight.map_or_else(|_| now.saturating_sub(24.hours()).unwrap_or(now), |zoned| zoned.timestamp())
    }
}

/// A local time in the form of the cron library, which is told that it is UTC.
fn local(time: civil::DateTime) -> Option<DateTime<Utc>> {
    let seconds = TimeZone::UTC.to_timestamp(time).ok()?.as_second();
    DateTime::<Utc>::UNIX_EPOCH.checked_add_signed(TimeDelta::try_seconds(seconds)?)
}

fn civil_of(local: DateTime<Utc>) -> Option<civil::DateTime> {
    Some(TimeZone::UTC.to_datetime(Timestamp::from_second(local.timestamp()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_core::clock::parse_time;

    fn next(text: &str, zone: &str, now: &str) -> String {
        let schedule = Schedule::parse(text, nightshift_core::clock::zone(zone).unwrap()).unwrap();
        schedule.next(parse_time(now).unwrap()).unwrap().to_string()
    }

    #[test]
    fn daily_weekly_and_cron() {
        assert_eq!(next("daily", "UTC", "2026-03-01T01:59:59Z"), "2026-03-01T02:00:00Z");
        assert_eq!(next("daily", "UTC", "2026-03-01T02:00:00Z"), "2026-03-02T02:00:00Z");
        assert_eq!(next("weekly", "UTC", "2026-03-01T12:00:00Z"), "2026-03-02T02:00:00Z", "a Monday");
        assert_eq!(next("30 4 1 * *", "Asia/Tokyo", "2026-03-01T00:00:00Z"), "2026-03-31T19:30:00Z");
        assert_eq!(next("*/10 * * * * *", "UTC", "2026-03-01T00:00:05.5Z"), "2026-03-01T00:00:10Z");
        assert!(Schedule::parse("hourly-ish", TimeZone::UTC).unwrap_err().chain().contains("no schedule"));
        let never = Schedule::parse("0 0 30 2 *", TimeZone::UTC);
        assert!(never.is_err() || never.unwrap().next(Timestamp::UNIX_EPOCH).is_none());
    }

    #[test]
    fn a_fixed_time_in_the_gap_runs_when_it_is_over_and_one_that_is_there_twice_runs_once() {
        // Berlin 2026: 29 March 02:00 -> 03:00 (01:00 UTC); 25 October 03:00 -> 02:00 (01:00 UTC).
        let berlin = "Europe/Berlin";
        assert_eq!(
            next("daily", berlin, "2026-03-28T12:00:00Z"),
            "2026-03-29T01:00:00Z",
            "03:00 summer time"
        );
        assert_eq!(next("daily", berlin, "2026-03-29T01:00:00Z"), "2026-03-30T00:00:00Z");
        assert_eq!(next("daily", berlin, "2026-10-24T12:00:00Z"), "2026-10-25T00:00:00Z", "the first 02:00");
        assert_eq!(next("daily", berlin, "2026-10-25T00:00:00Z"), "2026-10-26T01:00:00Z", "not the second");
        assert_eq!(next("30 2 * * *", berlin, "2026-10-25T01:10:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn intervals_go_by_elapsed_time() {
        let berlin = "Europe/Berlin";
        let mut now = "2026-10-24T23:45:00Z".to_owned();
        let mut seen = Vec::new();
        for _ in 0..4 {
            now = next("*/30 * * * *", berlin, &now);
            seen.push(now.clone());
        }
        let want =
            ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
        assert_eq!(seen, want);
        assert_eq!(
            next("*/30 * * * *", berlin, "2026-03-29T00:45:00Z"),
            "2026-03-29T01:00:00Z",
            "over the gap"
        );
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let schedule = Schedule::parse("daily", nightshift_core::clock::zone("Asia/Tokyo").unwrap()).unwrap();
        let day = schedule.day(parse_time("2026-03-01T16:00:00Z").unwrap());
        assert_eq!(day.to_string(), "2026-03-01T15:00:00Z");
    }
}
