//! Time stamps: ISO 8601 in its common spellings, and epochs whose unit their magnitude tells.

use nightshift_core::jiff::civil;
use nightshift_core::jiff::tz::TimeZone;

use super::digits::{self, POWERS};
use super::values::{fixed, integer};

/// Reads stamps into microseconds since 1970, UTC.
#[derive(Debug, Clone)]
pub(super) struct Stamps {
    /// Zone of stamps that name none; `None` is UTC.
    naive: Option<TimeZone>,
    /// The last date and minute read (`2026-02-03T04:05`) and their first microsecond: stamps come in runs.
    minute: ([u8; 16], i64),
}

impl Stamps {
    pub(super) fn new(zone: &TimeZone) -> Self {
        Self { naive: (*zone != TimeZone::UTC).then(|| zone.clone()), minute: ([0; 16], 0) }
    }

    /// A raw JSON value as a time.
    pub(super) fn read(&mut self, raw: &[u8]) -> Option<i64> {
        match raw {
            [b'"', inner @ .., b'"'] => self.text(inner.trim_ascii()).or_else(|| epoch(raw)),
            _ => epoch(raw),
        }
    }

    /// `2026-02-03T04:05:06.789Z` and its relatives: blank for `T`, comma for the point, offset as
    /// `+01:00`, `+0100`, `+01`, ` UTC`, or none.
    fn text(&mut self, text: &[u8]) -> Option<i64> {
        let Some(minute) = text.first_chunk() else {
            return self.local(day_start(text.try_into().ok()?)?);
        };
        if *minute != self.minute.0 {
            self.minute = (*minute, minute_start(*minute)?);
        }
        let (second, rest) = match text[16..] {
            [b':', s1, s2, ref rest @ ..] => (two(s1, s2)?, rest),
            ref rest => (0, rest),
        };
        if second > 60 {
            return None;
        }
        let start = self.minute.1;
        let (fraction, rest) = fraction(rest);
        let clock = second * 1_000_000 + fraction;
        match rest.trim_ascii() {
            b"Z" | b"z" | b"UTC" | b"GMT" => Some(start + clock),
            b"" => self.local(start + clock),
            offset => Some(start + clock - offset_us(offset)?),
        }
    }

    /// A wall-clock time of the zone for naive stamps, as UTC.
    fn local(&self, wall_us: i64) -> Option<i64> {
        let Some(zone) = &self.naive else { return Some(wall_us) };
        let epoch = civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
        let span = nightshift_core::jiff::Span::new().try_microseconds(wall_us).ok()?;
        let wall = epoch.checked_add(span).ok()?;
        Some(zone.to_ambiguous_timestamp(wall).compatible().ok()?.as_microsecond())
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from((tens - b'0') * 10 + (ones - b'0')))
}

/// Microseconds of `.123456789` or `,123`, truncated, and what follows.
fn fraction(text: &[u8]) -> (i64, &[u8]) {
    let [b'.' | b',', digits @ ..] = text else { return (0, text) };
    let count = digits::count(digits);
    let (given, rest) = digits.split_at(count);
    let (micros, count) = digits::append(0, &given[..count.min(6)]);
    ((micros * POWERS[6 - count]) as i64, rest)
}

fn offset_us(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match *rest {
        [h1, h2] => (two(h1, h2)?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (two(h1, h2)?, two(m1, m2)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

/// The first microsecond of `YYYY-MM-DD` or `YYYY/MM/DD`.
fn day_start(date: [u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-' | b'/', m1, m2, b'-' | b'/', d1, d2] = date else { return None };
    let (year, month, day) = (two(y1, y2)? * 100 + two(y3, y4)?, two(m1, m2)?, two(d1, d2)?);
    let date = civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    let days = civil::Date::constant(1970, 1, 1).until(date).ok()?.get_days();
    Some(i64::from(days) * 86_400_000_000)
}

/// The first microsecond of `YYYY-MM-DDThh:mm`.
fn minute_start(text: [u8; 16]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk()?;
    let &[b'T' | b't' | b' ', h1, h2, b':', m1, m2] = rest else { return None };
    let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
    (hour < 24 && minute < 60).then_some(day_start(*date)? + (hour * 60 + minute) * 60_000_000)
}

/// An epoch as seconds, milliseconds, microseconds or nanoseconds: below 10^11 it is seconds (to
/// the year 5138), and each further unit is a thousand times larger.
fn epoch(raw: &[u8]) -> Option<i64> {
    let integer = integer(raw);
    let whole = integer.map_or_else(|| fixed(raw, 0), |whole| i64::try_from(whole).ok())?;
    let scale = match whole.unsigned_abs() {
        0..=99_999_999_999 => 6,
        100_000_000_000..=99_999_999_999_999 => 3,
        100_000_000_000_000..=99_999_999_999_999_999 => 0,
        _ => return integer.map_or_else(|| fixed(raw, -3), |nanos| Some(((nanos + 500) / 1000) as i64)),
    };
    // Whole numbers need not be read again.
    if integer.is_some() { whole.checked_mul(POWERS[scale as usize] as i64) } else { fixed(raw, scale) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Option<i64> {
        Stamps::new(&TimeZone::UTC).read(raw.as_bytes())
    }

    #[test]
    fn every_spelling_of_one_instant() {
        let want = Some(1_770_091_506_789_000);
        for raw in [
            r#""2026-02-03T04:05:06.789Z""#,
            r#""2026-02-03T04:05:06.789""#,
            r#""2026-02-03 04:05:06,789""#,
            r#""2026/02/03 04:05:06.789""#,
            r#""2026-02-03T05:05:06.789+01:00""#,
            r#""2026-02-02T23:05:06.789-0500""#,
            r#""2026-02-03 04:05:06.789 UTC""#,
            r#""2026-02-03T04:05:06.789000000+00""#,
            "1770091506.789",
            "1770091506789",
            "1770091506789000",
            "1770091506789000000",
            r#""1770091506789000000""#,
        ] {
            assert_eq!(read(raw), want, "{raw}");
        }
        assert_eq!(read(r#""2026-02-03""#), Some(1_770_076_800_000_000));
        assert_eq!(read(r#""2026-02-03T04:05""#), Some(1_770_091_500_000_000));
    }

    #[test]
    fn what_is_no_time() {
        for raw in [
            r#""yesterday""#,
            r#""2026-02-30T00:00:00Z""#,
            r#""2026-02-03T25:00:00Z""#,
            r#""2026-02-03Tnoon""#,
            "true",
            "{}",
            r#""2026-02-03T04:05:06 MARS""#,
            r#""""#,
        ] {
            assert_eq!(read(raw), None, "{raw}");
        }
    }

    #[test]
    fn naive_stamps_follow_the_zone_and_others_do_not() {
        let mut stamps = Stamps::new(&TimeZone::get("Europe/Berlin").unwrap());
        assert_eq!(stamps.read(br#""2026-07-01T02:00:00""#), read(r#""2026-07-01T00:00:00Z""#));
        assert_eq!(stamps.read(br#""2026-01-01T01:00:00""#), read(r#""2026-01-01T00:00:00Z""#));
        assert_eq!(stamps.read(br#""2026-07-01T02:00:00Z""#), read(r#""2026-07-01T02:00:00Z""#));
    }
}
