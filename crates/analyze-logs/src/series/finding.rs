//! What a detector hands over: a p-value for every test that it made, and a finding where the effect is
//! large enough to tell a person about. Which findings become patterns is decided over all tests at once.

use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::pattern::{Pattern, PatternType};
use crate::tally::HOUR_US;

/// One test.
#[derive(Debug)]
pub(crate) struct Tested {
    /// Already multiplied by the number of places that were looked at for this one.
    pub(crate) p: f64,
    /// What to say if it stands.
    pub(crate) finding: Option<Finding>,
}

impl Tested {
    /// A test that found nothing.
    pub(crate) fn nothing() -> Self {
        Self { p: 1.0, finding: None }
    }

    /// Whether others should leave to it what it found: it is going to stand.
    pub(crate) fn takes(&self) -> bool {
        self.finding.is_some() && self.p <= 0.002
    }

    /// A test of the best of `places`.
    pub(crate) fn new(p: f64, places: usize, finding: Option<Finding>) -> Self {
        Self { p: (p * places.max(1) as f64).min(1.0), finding }
    }
}

/// What may become a pattern.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) kind: PatternType,
    pub(crate) operation: Option<String>,
    /// What was measured, or the other thing that it is about: part of the id.
    pub(crate) about: String,
    /// Plain sentences, without the p-value.
    pub(crate) text: String,
    pub(crate) occurrences: u64,
    pub(crate) impact: f64,
    /// Hours `from..until` since 1970.
    pub(crate) from: i32,
    pub(crate) until: i32,
    pub(crate) metadata: Map<String, Value>,
}

impl Finding {
    /// Adds a number; those that are not finite are left out.
    pub(crate) fn number(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.metadata.insert(name.to_owned(), json!(round(value)));
        }
        self
    }

    /// Adds a text.
    pub(crate) fn word(mut self, name: &str, value: &str) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }

    /// The pattern. `twin` counts findings of the same kind about the same thing on the same day before it.
    pub(crate) fn pattern(self, p: f64, q: f64, twin: usize) -> Pattern {
        let day = self.from.div_euclid(24).to_string();
        let twin = twin.to_string();
        let operation = self.operation.as_deref().unwrap_or_default();
        let mut metadata = self.metadata;
        metadata.insert("metric".into(), self.about.clone().into());
        metadata.insert("p_value".into(), json!(round(p)));
        metadata.insert("q_value".into(), json!(round(q)));
        Pattern {
            pattern_id: Pattern::id(self.kind, &[operation, &self.about, &day, &twin]),
            pattern_type: self.kind,
            description: format!("{} (p {}, q {})", self.text, chance(p), chance(q)),
            occurrences: self.occurrences,
            impact_score: (self.impact.clamp(0.0, 10.0) * 100.0).round() / 100.0,
            first_seen: time(self.from),
            last_seen: time(self.until),
            operation: self.operation,
            template: None,
            metadata,
        }
    }
}

/// 0 to 10: how much worse (`ratio` of at least 1), for how large a `share` of all that happens. Twice as bad for a
/// hundredth of everything is 3.
pub(crate) fn impact(ratio: f64, share: f64) -> f64 {
    let worse = 1.0 - 1.0 / ratio.max(1.0);
    10.0 * worse * (0.5 + 0.5 * share.clamp(0.0, 1.0).sqrt()).min(1.0)
}

/// An hour as RFC 3339; what no calendar holds is left out.
pub(crate) fn time(hour: i32) -> Option<String> {
    Timestamp::from_microsecond(i64::from(hour) * HOUR_US).ok().map(rfc3339)
}

/// An hour for a sentence: `2026-01-08 12:00`.
pub(crate) fn clock(hour: i32) -> String {
    let text = time(hour).unwrap_or_default();
    text.get(..16).map_or_else(String::new, |text| text.replace('T', " "))
}

/// Milliseconds for a sentence.
pub(crate) fn length(ms: f64) -> String {
    if ms >= 1000.0 { format!("{} s", short(ms / 1000.0)) } else { format!("{} ms", short(ms)) }
}

/// Three digits.
pub(crate) fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 8) };
    let text = format!("{value:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share as percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// `< 1e-12`, `3e-5`, `0.004`.
fn chance(p: f64) -> String {
    if p < 1e-12 {
        "< 1e-12".to_owned()
    } else if p < 0.001 {
        format!("{p:.0e}")
    } else {
        format!("{p:.3}")
    }
}

/// Six significant digits: what is beyond them is noise in a report.
fn round(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (short(0.0), short(1234.5), short(0.01234), short(2.5)),
            ("0".into(), "1234".into(), "0.0123".into(), "2.5".into())
        );
        assert_eq!((length(95.04), length(2300.0)), ("95 ms".to_owned(), "2.3 s".to_owned()));
        assert_eq!(
            (chance(1e-30), chance(0.000031), chance(0.0042)),
            ("< 1e-12".into(), "3e-5".into(), "0.004".into())
        );
        assert_eq!(clock(490_932), "2026-01-02 12:00");
        assert_eq!(round(0.123_456_789), 0.123_457);
        assert!(impact(1.0, 1.0) == 0.0 && impact(1e9, 1.0) <= 10.0 && impact(2.0, 0.01) > 2.7);
    }
}
