//! Writing what an analysis found.

use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::civil::{ISOWeekDate, Weekday};
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::rusqlite::{Transaction, params};
use nightshift_core::{Failure, OrFail};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::pattern::Pattern;
use crate::recommendation::Recommendation;
use crate::report::{AnalyzeReport, Operation};
use crate::series::{Correlation, Skill};

/// How much was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stored {
    /// The file.
    pub(crate) db: String,
    pub(crate) patterns: usize,
    pub(crate) recommendations: usize,
    pub(crate) metrics: usize,
    pub(crate) correlations: usize,
}

/// Writes the findings, proposals and metrics of an analysis.
pub(crate) fn store_analysis(
    tx: &Transaction<'_>,
    now: Timestamp,
    report: &AnalyzeReport,
) -> Result<Stored, Failure> {
    store_patterns(tx, now, &report.patterns)?;
    store_recommendations(tx, now, &report.recommendations)?;
    let stamp = rfc3339(now);
    let start = report.first_seen.as_deref().unwrap_or(&stamp);
    let end = report.last_seen.as_deref().unwrap_or(&stamp);
    let mut metrics = 0;
    for operation in &report.operations {
        for (metric_type, value) in measures(operation) {
            let metric =
                Metric { metric_type, metric_name: &operation.name, value, start, end, metadata: Map::new() };
            store_metric(tx, now, &metric)?;
            metrics += 1;
        }
    }
    for skill in &report.skills {
        metrics += store_skill(tx, now, skill)?;
    }
    for correlation in &report.correlations {
        store_correlation(tx, now, correlation)?;
    }
    Ok(Stored {
        db: String::new(),
        patterns: report.patterns.len(),
        recommendations: report.recommendations.len(),
        metrics,
        correlations: report.correlations.len(),
    })
}

/// How a tool did in one week, as a metric of that week; gives how many were written.
fn store_skill(tx: &Transaction<'_>, now: Timestamp, skill: &Skill) -> Result<usize, Failure> {
    let Some((start, end)) = week(&skill.week) else { return Ok(0) };
    let metadata = serde_json::to_value(skill).or_fail(|| "cannot write a skill".into())?;
    let metric = Metric {
        metric_type: "skill_success_rate",
        metric_name: &skill.operation,
        value: skill.success_rate,
        start: &start,
        end: &end,
        metadata: metadata.as_object().cloned().unwrap_or_default(),
    };
    store_metric(tx, now, &metric).map(|_| 1)
}

/// First and last instant of an ISO week such as `2026-W02`.
fn week(name: &str) -> Option<(String, String)> {
    let (year, week) = name.split_once("-W")?;
    let monday = ISOWeekDate::new(year.parse().ok()?, week.parse().ok()?, Weekday::Monday).ok()?.date();
    let next = monday.checked_add(7.days()).ok()?;
    Some((format!("{monday}T00:00:00Z"), format!("{next}T00:00:00Z")))
}

fn measures(operation: &Operation) -> impl Iterator<Item = (&'static str, f64)> {
    let share = |part: u64| (operation.calls > 0).then(|| part as f64 / operation.calls as f64);
    [
        ("calls", Some(operation.calls as f64)),
        ("success_rate", share(operation.calls.saturating_sub(operation.errors))),
        ("timeout_rate", share(operation.timeouts)),
        ("p50_ms", operation.p50_ms),
        ("p95_ms", operation.p95_ms),
        ("cost_usd", (operation.cost_usd != 0.0).then_some(operation.cost_usd)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// Writes findings. One that is known updates its row: its first and last sighting widen, the rest is as the newest
/// analysis says, and `metadata.analyses` counts how many found it.
pub fn store_patterns(tx: &Transaction<'_>, now: Timestamp, patterns: &[Pattern]) -> Result<(), Failure> {
    let mut write = tx.prepare_cached(
        "INSERT INTO patterns_detected (pattern_id, pattern_type, description, occurrences, impact_score, first_seen,
            last_seen, examples, metadata, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, json_set(?9, '$.analyses', 1), ?10, ?10)
         ON CONFLICT (pattern_id) DO UPDATE SET description = excluded.description,
            occurrences = excluded.occurrences, impact_score = excluded.impact_score,
            first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen),
            examples = excluded.examples, updated_at = excluded.updated_at,
            metadata = json_set(excluded.metadata, '$.analyses', 1 + CASE WHEN json_valid(metadata)
                THEN coalesce(json_extract(metadata, '$.analyses'), 0) ELSE 0 END)",
    )?;
    let stamp = rfc3339(now);
    for pattern in patterns {
        let mut metadata = pattern.metadata.clone();
        let examples = metadata.remove("evidence").unwrap_or_else(|| Value::Array(Vec::new()));
        for (name, value) in [("operation", &pattern.operation), ("template", &pattern.template)] {
            if let Some(value) = value {
                metadata.insert(name.into(), value.as_str().into());
            }
        }
        write.execute(params![
            pattern.pattern_id,
            word(&pattern.pattern_type)?,
            pattern.description,
            i64::try_from(pattern.occurrences).unwrap_or(i64::MAX),
            if pattern.impact_score.is_finite() { pattern.impact_score } else { 0.0 },
            pattern.first_seen.as_deref().unwrap_or(&stamp),
            pattern.last_seen.as_deref().unwrap_or(&stamp),
            examples.to_string(),
            Value::Object(metadata).to_string(),
            stamp
        ])?;
    }
    Ok(())
}

/// Writes proposals; one that is known updates its row.
pub fn store_recommendations(
    tx: &Transaction<'_>,
    now: Timestamp,
    recommendations: &[Recommendation],
) -> Result<(), Failure> {
    let mut write = tx.prepare_cached(
        "INSERT INTO recommendations (id, title, action_type, action, operation, priority, confidence, score, body,
            created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
         ON CONFLICT (id) DO UPDATE SET title = excluded.title, priority = excluded.priority,
            confidence = excluded.confidence, score = excluded.score, body = excluded.body,
            updated_at = excluded.updated_at",
    )?;
    for one in recommendations {
        write.execute(params![
            one.id,
            one.title,
            word(&one.action_type)?,
            one.action,
            one.operation,
            word(&one.priority)?,
            one.confidence,
            one.score,
            serde_json::to_string(one).or_fail(|| format!("cannot write recommendation {}", one.id))?,
            rfc3339(now)
        ])?;
    }
    Ok(())
}

/// A number about a stretch of time.
#[derive(Debug, Clone)]
pub struct Metric<'a> {
    /// What is measured: `success_rate`, `p95_ms`, ...
    pub metric_type: &'a str,
    /// Of what: an operation, a part of the program.
    pub metric_name: &'a str,
    /// In the unit of its type.
    pub value: f64,
    /// From this time (RFC 3339)
    pub start: &'a str,
    /// to this one.
    pub end: &'a str,
    /// Whatever else.
    pub metadata: Map<String, Value>,
}

/// Writes a metric and gives its row. The same metric of the same time updates its row.
pub fn store_metric(tx: &Transaction<'_>, now: Timestamp, metric: &Metric<'_>) -> Result<i64, Failure> {
    let Metric { metric_type, metric_name, value, start, end, metadata } = metric;
    if !value.is_finite() {
        return Err(Failure::failed(format!("metric {metric_type} of {metric_name} is {value}, no number")));
    }
    let metadata = Value::Object(metadata.clone()).to_string();
    let known = tx
        .prepare_cached(
            "UPDATE success_metrics SET value = ?5, metadata = ?6 WHERE id = (SELECT max(id) FROM success_metrics
                WHERE metric_type = ?1 AND metric_name = ?2 AND period_start = ?3 AND period_end = ?4) RETURNING id",
        )?
        .query_map(params![metric_type, metric_name, start, end, value, metadata], |row| row.get(0))?
        .next()
        .transpose()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let id = tx
        .prepare_cached(
            "INSERT INTO success_metrics (metric_type, metric_name, value, period_start, period_end, metadata, created_at)
             VALUES (?1, ?2, ?5, ?3, ?4, ?6, ?7) RETURNING id",
        )?
        .query_row(params![metric_type, metric_name, start, end, value, metadata, rfc3339(now)], |row| row.get(0))?;
    Ok(id)
}

/// Writes how two things go together and gives the row. The same pair of the same kind updates its row.
pub fn store_correlation(
    tx: &Transaction<'_>,
    now: Timestamp,
    correlation: &Correlation,
) -> Result<i64, Failure> {
    let Correlation { correlation_type, entity_a, entity_b, score, sample_size, metadata } = correlation;
    if !score.is_finite() {
        return Err(Failure::failed(format!(
            "correlation of {entity_a} and {entity_b} is {score}, no number"
        )));
    }
    let metadata = Value::Object(metadata.clone()).to_string();
    let size = i64::try_from(*sample_size).unwrap_or(i64::MAX);
    let row = params![correlation_type, entity_a, entity_b, score, size, metadata, rfc3339(now)];
    let known = tx
        .prepare_cached(
            "UPDATE correlations SET correlation_score = ?4, sample_size = ?5, metadata = ?6, updated_at = ?7
             WHERE id = (SELECT max(id) FROM correlations
                WHERE correlation_type = ?1 AND entity_a = ?2 AND entity_b = ?3) RETURNING id",
        )?
        .query_map(row, |row| row.get(0))?
        .next()
        .transpose()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let id = tx
        .prepare_cached(
            "INSERT INTO correlations (correlation_type, entity_a, entity_b, correlation_score, sample_size, metadata,
                created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) RETURNING id",
        )?
        .query_row(row, |row| row.get(0))?;
    Ok(id)
}

/// The word that JSON has for a value of an enumeration.
fn word(value: &impl Serialize) -> Result<String, Failure> {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => Ok(word),
        other => Err(Failure::failed(format!("{other:?} is no word for the store"))),
    }
}
