//! Questions to the store, with the documents' filters.

use nightshift_core::Failure;
use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::Timestamp;
use nightshift_core::rusqlite::types::ValueRef;
use nightshift_core::rusqlite::{Connection, Row, ToSql};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What is wanted; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Type of pattern, metric or correlation; any case, and the original's names too.
    pub kind: Option<String>,
    /// Name of a metric; of a recommendation or correlation, an operation or entity.
    pub name: Option<String>,
    /// Status of an improvement.
    pub status: Option<String>,
    /// Type of action.
    pub action_type: Option<String>,
    /// Least impact, absolute score or confidence.
    pub least: Option<f64>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// At most so many rows; 0 is all.
    pub limit: usize,
}

/// A list of conditions and their values.
#[derive(Default)]
struct Where {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Where {
    /// `sql` has one `?`.
    fn and(&mut self, sql: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.conditions.push(sql.replacen('?', &format!("?{}", self.values.len()), 1));
        }
    }

    /// The rows as objects, columns by name.
    fn rows(
        self,
        connection: &Connection,
        select: &str,
        order: &str,
        limit: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut sql = select.to_owned();
        if !self.conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&self.conditions.join(" AND "));
        }
        sql.push_str(&format!(" ORDER BY {order}"));
        if limit > 0 {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        let mut statement = connection.prepare(&sql)?;
        let values: Vec<&dyn ToSql> = self.values.iter().map(AsRef::as_ref).collect();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map(values.as_slice(), |row| object(row, &names))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Columns that hold JSON as text.
const JSON: [&str; 4] = ["examples", "metadata", "changes", "body"];

fn object(row: &Row<'_>, names: &[String]) -> nightshift_core::rusqlite::Result<Value> {
    let mut object = Map::new();
    for (index, name) in names.iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) => {
                let text = String::from_utf8_lossy(text);
                // Text that should be JSON and is not stays text.
                let parsed =
                    JSON.contains(&name.as_str()).then(|| serde_json::from_str(&text).ok()).flatten();
                parsed.unwrap_or_else(|| Value::from(text.as_ref()))
            }
            ValueRef::Blob(bytes) => Value::from(String::from_utf8_lossy(bytes).as_ref()),
        };
        object.insert(name.clone(), value);
    }
    Ok(Value::Object(object))
}

/// The name of a type as it is stored: `INEFFICIENT_TOOL_CHAIN` and `Inefficient-Chain` are one.
fn canonical(kind: &str) -> String {
    let kind = kind.trim().to_lowercase().replace(['-', ' '], "_");
    if kind == "inefficient_tool_chain" { "inefficient_chain".into() } else { kind }
}

/// Findings by impact: columns of `patterns_detected`.
pub fn read_patterns(connection: &Connection, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let mut which = Where::default();
    which.and(
        "replace(lower(pattern_type), 'inefficient_tool_chain', 'inefficient_chain') = ?",
        filter.kind.as_deref().map(canonical),
    );
    which.and("impact_score >= ?", filter.least);
    times(&mut which, "last_seen", filter);
    which.rows(
        connection,
        "SELECT * FROM patterns_detected",
        "impact_score DESC, occurrences DESC, id",
        filter.limit,
    )
}

/// Improvements, the newest first: columns of `improvements_applied`.
pub fn read_improvements(connection: &Connection, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let mut which = Where::default();
    which.and("lower(status) = ?", filter.status.as_deref().map(canonical));
    which.and("lower(action_type) = ?", filter.action_type.as_deref().map(canonical));
    times(&mut which, "coalesce(applied_at, created_at)", filter);
    which.rows(
        connection,
        "SELECT * FROM improvements_applied",
        "julianday(coalesce(applied_at, created_at)) DESC, id DESC",
        filter.limit,
    )
}

/// Metrics, the newest time first: columns of `success_metrics`.
pub fn read_metrics(connection: &Connection, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let mut which = Where::default();
    which.and("metric_type = ?", filter.kind.clone());
    which.and("metric_name = ?", filter.name.clone());
    which.and("julianday(period_end) >= julianday(?)", filter.since.map(rfc3339));
    which.and("julianday(period_start) < julianday(?)", filter.until.map(rfc3339));
    which.rows(
        connection,
        "SELECT * FROM success_metrics",
        "julianday(period_end) DESC, metric_type, metric_name, id DESC",
        filter.limit,
    )
}

/// Correlations by their absolute score: columns of `correlations`.
pub fn read_correlations(connection: &Connection, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let mut which = Where::default();
    which.and("correlation_type = ?", filter.kind.clone());
    which.and("abs(correlation_score) >= ?", filter.least);
    if let Some(name) = &filter.name {
        which.and("? IN (entity_a, entity_b)", Some(name.clone()));
    }
    which.rows(connection, "SELECT * FROM correlations", "abs(correlation_score) DESC, id", filter.limit)
}

/// Proposals by score: the whole recommendation, with `created_at` and `updated_at` (when it was made last).
pub fn read_recommendations(connection: &Connection, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let mut which = Where::default();
    which.and("action_type = ?", filter.action_type.as_deref().map(canonical));
    which.and("operation = ?", filter.name.clone());
    which.and("confidence >= ?", filter.least);
    times(&mut which, "updated_at", filter);
    let rows = which.rows(
        connection,
        "SELECT body, created_at, updated_at FROM recommendations",
        "score DESC, id",
        filter.limit,
    )?;
    Ok(rows.into_iter().map(whole).collect())
}

fn whole(row: Value) -> Value {
    let Value::Object(mut row) = row else { return row };
    match row.remove("body") {
        Some(Value::Object(mut body)) => {
            body.extend(row);
            Value::Object(body)
        }
        _ => Value::Object(row),
    }
}

fn times(which: &mut Where, column: &str, filter: &Filter) {
    which.and(&format!("julianday({column}) >= julianday(?)"), filter.since.map(rfc3339));
    which.and(&format!("julianday({column}) < julianday(?)"), filter.until.map(rfc3339));
}

/// What the store holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Findings.
    pub total_patterns: u64,
    /// By type.
    pub patterns_by_type: BTreeMap<String, u64>,
    /// Proposals.
    pub total_recommendations: u64,
    /// Improvements.
    pub total_improvements: u64,
    /// By status.
    pub improvements_by_status: BTreeMap<String, u64>,
    /// Metrics.
    pub total_metrics: u64,
    /// Correlations.
    pub total_correlations: u64,
}

/// Counts what the store holds.
pub fn statistics(connection: &Connection) -> Result<Statistics, Failure> {
    let count = |table: &str| -> Result<u64, Failure> {
        let rows: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(rows.cast_unsigned())
    };
    let by = |table: &str, column: &str| -> Result<BTreeMap<String, u64>, Failure> {
        let sql = format!("SELECT {column}, count(*) FROM {table} GROUP BY {column}");
        let mut statement = connection.prepare(&sql)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    Ok(Statistics {
        total_patterns: count("patterns_detected")?,
        patterns_by_type: by("patterns_detected", "pattern_type")?,
        total_recommendations: count("recommendations")?,
        total_improvements: count("improvements_applied")?,
        improvements_by_status: by("improvements_applied", "status")?,
        total_metrics: count("success_metrics")?,
        total_correlations: count("correlations")?,
    })
}
