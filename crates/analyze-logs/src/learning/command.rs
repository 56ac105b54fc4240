//! `patterns`, `improvements`, `metrics`, `correlations`, `recommendations`, `store`: what the store holds.

use clap::Args;
use nightshift_core::clock::{parse_bound, zone};
use nightshift_core::jiff::Timestamp;
use nightshift_core::rusqlite::Connection;
use nightshift_core::{Ctx, Exit, Failure, Outcome};
use serde_json::{Map, Value, json};

use super::place::open_existing;
use super::query::{self, Filter};
use super::{Db, Statistics, prune, statistics};
use crate::reports::plain;

/// Rows that are shown unless more are asked for.
const LIMIT: usize = 100;

/// A stretch of time.
#[derive(Debug, Args)]
struct Times {
    /// From this time on (2026-03-01 or 2026-03-01T02:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Times {
    fn bounds(&self, ctx: &Ctx) -> Result<(Option<Timestamp>, Option<Timestamp>), Failure> {
        let zone = zone(&ctx.config.time_zone)?;
        let bound = |text: &Option<String>| text.as_deref().map(|text| parse_bound(text, &zone)).transpose();
        Ok((bound(&self.since)?, bound(&self.until)?))
    }
}

/// Arguments of `patterns`.
#[derive(Debug, Args)]
pub struct PatternsArguments {
    #[command(flatten)]
    db: Db,
    /// Only this type (recurring_error, slow_operation, ...)
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// Only this impact (0-10) or more
    #[arg(long, value_name = "N")]
    min_impact: Option<f64>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
    #[command(flatten)]
    times: Times,
}

/// Runs `patterns`.
pub(crate) fn patterns(ctx: &Ctx, arguments: PatternsArguments) -> Result<Outcome, Failure> {
    let (since, until) = arguments.times.bounds(ctx)?;
    let filter = Filter {
        kind: arguments.r#type,
        least: arguments.min_impact,
        limit: arguments.limit,
        since,
        until,
        ..Filter::default()
    };
    let columns = ["impact_score", "occurrences", "pattern_type", "last_seen", "description"];
    answer(ctx, &arguments.db, "patterns", query::read_patterns, &filter, &columns)
}

/// Arguments of `improvements`.
#[derive(Debug, Args)]
pub struct ImprovementsArguments {
    #[command(flatten)]
    db: Db,
    /// Only with this status (pending, applied, rolled_back, ...)
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only of this type (config_update, model_routing, tool_strategy, error_handling)
    #[arg(long, value_name = "TYPE")]
    action_type: Option<String>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
}

/// Runs `improvements`.
pub(crate) fn improvements(ctx: &Ctx, arguments: ImprovementsArguments) -> Result<Outcome, Failure> {
    let filter = Filter {
        status: arguments.status,
        action_type: arguments.action_type,
        limit: arguments.limit,
        ..Filter::default()
    };
    let columns = ["improvement_id", "status", "action_type", "applied_at", "recommendation_title"];
    answer(ctx, &arguments.db, "improvements", query::read_improvements, &filter, &columns)
}

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub struct MetricsArguments {
    #[command(flatten)]
    db: Db,
    /// Only this type (success_rate, p95_ms, ...)
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// Only of this (tool:web_search, ...)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
    #[command(flatten)]
    times: Times,
}

/// Runs `metrics`.
pub(crate) fn metrics(ctx: &Ctx, arguments: MetricsArguments) -> Result<Outcome, Failure> {
    let (since, until) = arguments.times.bounds(ctx)?;
    let filter = Filter {
        kind: arguments.r#type,
        name: arguments.name,
        limit: arguments.limit,
        since,
        until,
        ..Filter::default()
    };
    let columns = ["metric_type", "metric_name", "value", "period_start", "period_end"];
    answer(ctx, &arguments.db, "metrics", query::read_metrics, &filter, &columns)
}

/// Arguments of `correlations`.
#[derive(Debug, Args)]
pub struct CorrelationsArguments {
    #[command(flatten)]
    db: Db,
    /// Only this type
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// Only with this on either side
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only this score or more, whatever its sign
    #[arg(long, value_name = "N")]
    min_score: Option<f64>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
}

/// Runs `correlations`.
pub(crate) fn correlations(ctx: &Ctx, arguments: CorrelationsArguments) -> Result<Outcome, Failure> {
    let filter = Filter {
        kind: arguments.r#type,
        name: arguments.name,
        least: arguments.min_score,
        limit: arguments.limit,
        ..Filter::default()
    };
    let columns = ["correlation_score", "sample_size", "correlation_type", "entity_a", "entity_b"];
    answer(ctx, &arguments.db, "correlations", query::read_correlations, &filter, &columns)
}

/// Arguments of `recommendations`.
#[derive(Debug, Args)]
pub struct RecommendationsArguments {
    #[command(flatten)]
    db: Db,
    /// Only of this type (config_update, model_routing, tool_strategy, error_handling)
    #[arg(long, value_name = "TYPE")]
    action_type: Option<String>,
    /// Only for this operation (tool:web_search, ...)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only this confidence (0-1) or more
    #[arg(long, value_name = "N")]
    min_confidence: Option<f64>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
    #[command(flatten)]
    times: Times,
}

/// Runs `recommendations`.
pub(crate) fn recommendations(ctx: &Ctx, arguments: RecommendationsArguments) -> Result<Outcome, Failure> {
    let (since, until) = arguments.times.bounds(ctx)?;
    let filter = Filter {
        name: arguments.name,
        action_type: arguments.action_type,
        least: arguments.min_confidence,
        limit: arguments.limit,
        since,
        until,
        ..Filter::default()
    };
    let columns = ["priority", "score", "confidence", "id", "title"];
    answer(ctx, &arguments.db, "recommendations", query::read_recommendations, &filter, &columns)
}

/// Arguments of `store`.
#[derive(Debug, Args)]
pub struct StoreArguments {
    #[command(flatten)]
    db: Db,
    /// Drop what is older than analyze_logs.keep_days
    #[arg(long)]
    prune: bool,
}

/// Runs `store`.
pub(crate) fn store(ctx: &Ctx, arguments: StoreArguments) -> Result<Outcome, Failure> {
    let mut store = open_existing(ctx, &arguments.db)?;
    let keep_days = ctx.config.analyze_logs.keep_days;
    let mut dropped = None;
    if arguments.prune && !ctx.dry_run {
        dropped = Some(store.write(|tx| prune(tx, ctx.clock.now(), keep_days))?);
    }
    let held = statistics(store.read())?;
    let mut text = counts(&held);
    if let Some(dropped) = dropped {
        text.push_str(&format!(
            "\ndropped, older than {keep_days} days: {} patterns, {} recommendations, {} metrics, {} correlations, {} improvements",
            dropped.patterns, dropped.recommendations, dropped.metrics, dropped.correlations, dropped.improvements
        ));
    }
    let report = json!({"db": store.path(), "statistics": held, "dropped": dropped});
    Ok(Outcome::done(&report, text))
}

fn counts(held: &Statistics) -> String {
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if counts.is_empty() { String::new() } else { format!(" ({})", plain(&counts.join(", "))) }
    };
    format!(
        "{} patterns{}\n{} recommendations\n{} improvements{}\n{} metrics\n{} correlations",
        held.total_patterns,
        list(&held.patterns_by_type),
        held.total_recommendations,
        held.total_improvements,
        list(&held.improvements_by_status),
        held.total_metrics,
        held.total_correlations
    )
}

/// Asks, and shows the rows as a table of these columns.
fn answer(
    ctx: &Ctx,
    db: &Db,
    what: &str,
    ask: fn(&Connection, &Filter) -> Result<Vec<Value>, Failure>,
    filter: &Filter,
    columns: &[&str],
) -> Result<Outcome, Failure> {
    let store = open_existing(ctx, db)?;
    let rows = ask(store.read(), filter)?;
    let exit = if rows.is_empty() { Exit::NothingToDo } else { Exit::Done };
    let text = if rows.is_empty() { format!("no {what} there") } else { table(columns, &rows) };
    let mut report = Map::new();
    report.insert("db".into(), json!(store.path()));
    report.insert(what.to_owned(), Value::Array(rows));
    Ok(Outcome::new(exit, &report, text))
}

/// Columns under their names; the last one may be as long as it likes.
fn table(columns: &[&str], rows: &[Value]) -> String {
    let cell = |row: &Value, column: &str| match &row[column] {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text).replace('\n', " "),
        Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or(0.0)),
        other => plain(&other.to_string()),
    };
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (value, width) in line.iter().zip(&widths) {
            row.push_str(&format!("{value:width$}  "));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}
