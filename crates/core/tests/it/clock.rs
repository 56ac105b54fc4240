//! Days, zones and times as people write them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use nightshift_core::clock::{Window, parse_bound, parse_time, zone};
use nightshift_core::jiff;

#[test]
fn yesterday_follows_the_zone() {
    let now: Timestamp = "2026-03-02T01:30:00Z".parse().unwrap();
    let utc = Window::yesterday(now, &TimeZone::UTC).unwrap();
    assert_eq!(utc.from.to_string(), "2026-03-01T00:00:00Z");
    assert_eq!(utc.to.to_string(), "2026-03-02T00:00:00Z");
    let west = Window::yesterday(now, &zone("America/New_York").unwrap()).unwrap();
    assert_eq!(west.from.to_string(), "2026-02-28T05:00:00Z");
}

#[test]
fn a_day_with_a_clock_change_has_23_hours() {
    let date: Date = "2026-03-29".parse().unwrap();
    let day = Window::day(date, &zone("Europe/Berlin").unwrap()).unwrap();
    assert_eq!(day.to.as_second() - day.from.as_second(), 23 * 3600);
}

#[test]
fn naive_times_are_utc_and_nonsense_is_refused() {
    assert_eq!(parse_time("2026-03-01T02:00:00").unwrap().to_string(), "2026-03-01T02:00:00Z");
    assert_eq!(parse_bound("tomorrowish", &TimeZone::UTC).unwrap_err().exit().code(), 2);
}
