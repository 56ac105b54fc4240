//! What the rules know beside the findings: totals of the operations, days, settings.

use std::collections::BTreeMap;

use nightshift_core::config::AnalyzeLogs;

use crate::tally::{Cell, Findings, Outcome};

/// Microseconds of a day.
const DAY_US: f64 = 86_400e6;

/// What the rules know beside the findings.
#[derive(Debug)]
pub struct Context<'a> {
    /// By full name (`tool:<name>`, ...): the sum of all its hours.
    pub operations: BTreeMap<String, Cell>,
    /// What came of an operation's calls for a task, by the full names of both, where lines name the task.
    pub tasks: BTreeMap<(String, String), Outcome>,
    /// Days that the logs span; at least one, so that an hour is never taken for a twenty-fourth of many.
    pub days: f64,
    /// The section `analyze_logs`.
    pub settings: &'a AnalyzeLogs,
}

impl<'a> Context<'a> {
    /// Of what was read.
    pub fn of(findings: &Findings, settings: &'a AnalyzeLogs) -> Self {
        let used = findings.tally.series.iter().enumerate().filter(|(_, series)| !series.cells.is_empty());
        let operations =
            used.map(|(number, series)| (findings.ops.full_name(number as u32), series.total())).collect();
        let name = |number: u32| findings.ops.full_name(number);
        let outcomes = findings.tally.outcomes.iter();
        let tasks = outcomes.map(|(&(task, op), outcome)| ((name(task), name(op)), *outcome)).collect();
        let days =
            findings.tally.span.map_or(1.0, |(first, last)| last.saturating_sub(first) as f64 / DAY_US);
        Self { operations, tasks, days: days.max(1.0), settings }
    }

    /// The totals of an operation.
    pub(super) fn totals(&self, operation: Option<&str>) -> Option<&Cell> {
        self.operations.get(operation?)
    }

    /// Of so many in the logs, how many a day.
    pub(super) fn daily(&self, amount: f64) -> f64 {
        if amount.is_finite() { amount / self.days } else { 0.0 }
    }
}

/// Failed calls over all; 0 without any.
pub(super) fn error_rate(totals: &Cell) -> f64 {
    if totals.calls == 0 { 0.0 } else { totals.errors as f64 / totals.calls as f64 }
}
