//! Looking things up.

use std::collections::BTreeMap;

use nightshift_core::clock::{Window, parse_bound, rfc3339, zone};
use nightshift_core::interaction::{Feedback, Judged, SELECT, by_id, in_window, read_row};
use nightshift_core::jiff::Timestamp;
use nightshift_core::rusqlite::params;
use nightshift_core::{Ctx, Failure, Outcome};
use nightshift_stats::describe::quantile;

use crate::report::{GroupReport, JudgedRow, ListReport, ShowReport, StatsReport};
use crate::{ListArgs, SpanArgs};

/// The span of time asked for; everything when nothing is said.
pub(crate) fn window(ctx: &Ctx, span: &SpanArgs) -> Result<Window, Failure> {
    let zone = zone(&ctx.config.time_zone)?;
    let bound = |text: &Option<String>, default| match text {
        Some(text) => parse_bound(text, &zone),
        None => Ok(default),
    };
    Ok(Window { from: bound(&span.since, Timestamp::UNIX_EPOCH)?, to: bound(&span.until, Timestamp::MAX)? })
}

fn judged(row: Judged) -> JudgedRow {
    JudgedRow { succeeded: row.success(), feedback: row.feedback, interaction: row.interaction }
}

fn one_line(text: &str, width: usize) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= width { text } else { text.chars().take(width - 1).chain(['…']).collect() }
}

fn table(rows: &[JudgedRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let mark = match row.succeeded {
            Some(true) => "ok    ",
            Some(false) => "failed",
            None => "?     ",
        };
        let item = &row.interaction;
        let answer = item.response.as_deref().unwrap_or("(no answer)");
        text.push_str(&format!(
            "{}  {}  {mark}  {}  ->  {}\n",
            item.id,
            item.ts.get(..19).unwrap_or(&item.ts),
            one_line(&item.query, 60),
            one_line(answer, 40)
        ));
    }
    text
}

fn listed(rows: Vec<JudgedRow>) -> Result<Outcome, Failure> {
    if rows.is_empty() {
        return Err(Failure::nothing("no interaction matches"));
    }
    let text = table(&rows);
    Ok(Outcome::done(&ListReport { interactions: rows }, text))
}

pub(crate) fn list(ctx: &Ctx, args: &ListArgs) -> Result<Outcome, Failure> {
    let store = ctx.store()?;
    let rows = in_window(store.read(), &ctx.config.target, window(ctx, &args.span)?)?;
    let wanted = rows.into_iter().rev().map(judged).filter(|row| {
        (!args.failed || row.succeeded == Some(false))
            && args.tag.as_ref().is_none_or(|tag| row.interaction.tags.contains(tag))
    });
    listed(wanted.take(args.limit).collect())
}

pub(crate) fn search(ctx: &Ctx, words: &[String], limit: usize) -> Result<Outcome, Failure> {
    // Each word quoted: the index's query language stays out of a user's way.
    let words = words.iter().flat_map(|text| text.split_whitespace());
    let phrase: Vec<String> = words.map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    if phrase.is_empty() {
        return Err(Failure::usage("no words to search for"));
    }
    let store = ctx.store()?;
    let mut statement = store.read().prepare(&format!(
        "{SELECT} JOIN interactions_fts s ON s.rowid = i.rowid
         WHERE interactions_fts MATCH ?1 AND i.target = ?2 ORDER BY s.rank, i.rowid DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![phrase.join(" "), ctx.config.target, limit as i64], read_row)?;
    listed(rows.map(|row| row.map(judged)).collect::<Result<_, _>>()?)
}

pub(crate) fn show(ctx: &Ctx, id: &str) -> Result<Outcome, Failure> {
    let store = ctx.store()?;
    let row = by_id(store.read(), id)?
        .ok_or_else(|| Failure::nothing(format!("there is no interaction `{id}`")))?;
    let mut statement = store.read().prepare(
        "SELECT id, interaction_id, ts, source, source_id, value, comment, correction FROM feedback
         WHERE interaction_id = ?1 ORDER BY ts, rowid",
    )?;
    let opinions = statement.query_map([id], |row| {
        Ok(Feedback {
            id: row.get(0)?,
            interaction_id: row.get(1)?,
            ts: row.get(2)?,
            source: row.get(3)?,
            source_id: row.get(4)?,
            value: row.get(5)?,
            comment: row.get(6)?,
            correction: row.get(7)?,
        })
    })?;
    let report = ShowReport { row: judged(row), opinions: opinions.collect::<Result<_, _>>()? };
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    Ok(Outcome::done(&report, text))
}

fn rate(rows: &[&Judged]) -> Option<f64> {
    let known: Vec<bool> = rows.iter().filter_map(|row| row.success()).collect();
    (!known.is_empty()).then(|| known.iter().filter(|success| **success).count() as f64 / known.len() as f64)
}

fn groups<'a>(rows: &'a [Judged], names: impl Fn(&'a Judged) -> Vec<String>) -> Vec<GroupReport> {
    let mut groups: BTreeMap<String, Vec<&Judged>> = BTreeMap::new();
    for row in rows {
        for name in names(row) {
            groups.entry(name).or_default().push(row);
        }
    }
    groups
        .into_iter()
        .map(|(name, rows)| GroupReport { name, interactions: rows.len(), success_rate: rate(&rows) })
        .collect()
}

pub(crate) fn stats(ctx: &Ctx, span: &SpanArgs) -> Result<Outcome, Failure> {
    let store = ctx.store()?;
    let rows = in_window(store.read(), &ctx.config.target, window(ctx, span)?)?;
    if rows.is_empty() {
        return Err(Failure::nothing("no interaction in this span"));
    }
    let latencies: Vec<f64> = rows.iter().filter_map(|row| row.interaction.latency_ms).collect();
    let count = |wanted: Option<bool>| rows.iter().filter(|row| row.success() == wanted).count();
    let report = StatsReport {
        interactions: rows.len(),
        succeeded: count(Some(true)),
        failed: count(Some(false)),
        unknown: count(None),
        success_rate: rate(&rows.iter().collect::<Vec<_>>()),
        with_feedback: rows.iter().filter(|row| row.feedback.is_some()).count(),
        no_train: rows.iter().filter(|row| row.interaction.no_train).count(),
        latency_p50_ms: quantile(&latencies, 0.5).ok(),
        latency_p95_ms: quantile(&latencies, 0.95).ok(),
        tags: groups(&rows, |row| row.interaction.tags.clone()),
        adapters: groups(&rows, |row| {
            vec![row.interaction.adapter_id.clone().unwrap_or_else(|| "none".into())]
        }),
    };
    let percent = |rate: Option<f64>| rate.map_or("unknown".into(), |rate| format!("{:.1} %", rate * 100.0));
    let mut text = format!(
        "{} interactions: {} succeeded, {} failed, {} unknown (success {})\n",
        report.interactions,
        report.succeeded,
        report.failed,
        report.unknown,
        percent(report.success_rate)
    );
    for (title, groups) in [("tag", &report.tags), ("adapter", &report.adapters)] {
        for group in groups {
            let rate = percent(group.success_rate);
            text.push_str(&format!("  {title} {:<32} {:>6}  {rate}\n", group.name, group.interactions));
        }
    }
    text.push_str(&format!(
        "since {}",
        rows.first().map_or(rfc3339(Timestamp::UNIX_EPOCH), |row| row.interaction.ts.clone())
    ));
    Ok(Outcome::done(&report, text))
}
