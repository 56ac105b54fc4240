//! CSV: one row a finding, or one row an operation.

use csv::Writer;
use nightshift_core::{Failure, OrFail};
use serde_json::Value;

use super::escape::cell;
use crate::report::AnalyzeReport;

/// The findings.
pub(super) fn patterns(report: &AnalyzeReport) -> Result<String, Failure> {
    let header = [
        "pattern_id",
        "pattern_type",
        "operation",
        "occurrences",
        "impact_score",
        "first_seen",
        "last_seen",
        "description",
        "template",
        "metadata",
    ];
    let rows = report.patterns.iter().map(|pattern| {
        let text = |text: &Option<String>| cell(text.as_deref().unwrap_or_default());
        [
            cell(&pattern.pattern_id),
            word(&serde_json::to_value(pattern.pattern_type).unwrap_or_default()),
            text(&pattern.operation),
            pattern.occurrences.to_string(),
            pattern.impact_score.to_string(),
            text(&pattern.first_seen),
            text(&pattern.last_seen),
            cell(&pattern.description),
            text(&pattern.template),
            cell(&Value::Object(pattern.metadata.clone()).to_string()),
        ]
    });
    write(header, rows)
}

/// The operations.
pub(super) fn operations(report: &AnalyzeReport) -> Result<String, Failure> {
    let header = [
        "name",
        "calls",
        "errors",
        "timeouts",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "max_ms",
        "duration_s",
        "cost_usd",
        "prompt_tokens",
        "completion_tokens",
        "first_seen",
        "last_seen",
    ];
    let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
    let rows = report.operations.iter().map(|op| {
        [
            cell(&op.name),
            op.calls.to_string(),
            op.errors.to_string(),
            op.timeouts.to_string(),
            number(op.p50_ms),
            number(op.p95_ms),
            number(op.p99_ms),
            number(op.max_ms),
            op.duration_s.to_string(),
            op.cost_usd.to_string(),
            op.prompt_tokens.to_string(),
            op.completion_tokens.to_string(),
            op.first_seen.clone().unwrap_or_default(),
            op.last_seen.clone().unwrap_or_default(),
        ]
    });
    write(header, rows)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn write<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<String, Failure> {
    let broken = || "cannot write the table".to_owned();
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(header).or_fail(broken)?;
    for row in rows {
        writer.write_record(&row).or_fail(broken)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::failed(broken()).because(error.into_error()))?;
    String::from_utf8(bytes).or_fail(broken)
}
