//! What a finding says, read by the names of its metadata. A name that is missing is `None`, never a panic.

use crate::pattern::{Pattern, PatternType};

/// A finding and its readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) pattern: &'a Pattern,
}

impl<'a> Facts<'a> {
    pub(super) fn of(pattern: &'a Pattern) -> Self {
        Self { pattern }
    }

    /// The first of these names that holds a finite number.
    pub(super) fn number(self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.pattern.metadata.get(*name)?.as_f64().filter(|n| n.is_finite()))
    }

    /// The first of these names that holds a text.
    pub(super) fn text(self, names: &[&str]) -> Option<&'a str> {
        let metadata = &self.pattern.metadata;
        names.iter().find_map(|name| metadata.get(*name)?.as_str().filter(|text| !text.is_empty()))
    }

    /// Seconds, under this name with `_s`, or in thousandths with `_ms`.
    pub(super) fn seconds(self, stems: &[&str]) -> Option<f64> {
        stems.iter().find_map(|stem| {
            self.number(&[&format!("{stem}_s")])
                .or_else(|| self.number(&[&format!("{stem}_ms")]).map(|ms| ms / 1000.0))
        })
    }

    /// The operation's full name.
    pub(super) fn operation(self) -> Option<&'a str> {
        self.pattern.operation.as_deref().or_else(|| self.text(&["operation"]))
    }

    /// Calls, errors or chains that it is made of.
    pub(super) fn occurrences(self) -> f64 {
        self.pattern.occurrences as f64
    }

    /// True when it is of this kind and about this operation.
    pub(super) fn is(self, kind: PatternType, operation: Option<&str>) -> bool {
        self.pattern.pattern_type == kind && self.operation() == operation
    }
}
