//! The lists of the page: proposals, findings, operations, bad lines.

use std::fmt::Write;

use serde_json::Value;

use super::super::escape::html as safe;
use super::{duration, grouped, minute, saving};
use crate::pattern::Pattern;
use crate::recommendation::Recommendation;
use crate::report::AnalyzeReport;

/// Entries of a list that are shown.
const MOST: usize = 100;
/// Proposals that are shown without asking.
const OPEN: usize = 6;
/// Evidence lines of a finding that are shown.
const EVIDENCE: usize = 3;

fn more(out: &mut String, all: usize) {
    if all > MOST {
        let _ = writeln!(out, "<p class=\"soft\">And {} more.</p>", all - MOST);
    }
}

/// The proposals with their reasons; those after the first few unfold.
pub(super) fn recommendations(report: &AnalyzeReport) -> String {
    let all = &report.recommendations;
    if all.is_empty() {
        return "<p class=\"soft\">Nothing is recommended.</p>\n".into();
    }
    let mut out = String::new();
    let (first, rest) = all.split_at(all.len().min(OPEN));
    list(&mut out, first);
    if !rest.is_empty() {
        let _ = writeln!(out, "<details><summary>And {} more</summary>", rest.len());
        list(&mut out, &rest[..rest.len().min(MOST)]);
        out.push_str("</details>\n");
    }
    out
}

fn list(out: &mut String, recommendations: &[Recommendation]) {
    out.push_str("<ol class=\"plain\">\n");
    for one in recommendations {
        let word = format!("{:?}", one.priority).to_lowercase();
        let saved = saving(&one.saving);
        let saved = if saved.is_empty() { String::new() } else { format!(" &#183; {}", safe(&saved)) };
        let _ = writeln!(
            out,
            "<li class=\"item\"><div><span class=\"badge {word}\">{word}</span> <strong>{}</strong></div>\n\
             <p>{}</p>\n<p class=\"soft\">confidence {:.0} %{saved} &#183; <code>{}</code> <code>{}</code></p></li>",
            safe(&one.title),
            safe(&one.description),
            100.0 * one.confidence,
            safe(&one.action),
            safe(&one.id)
        );
    }
    out.push_str("</ol>\n");
}

/// The findings; numbers and evidence unfold.
pub(super) fn patterns(report: &AnalyzeReport) -> String {
    if report.patterns.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for pattern in report.patterns.iter().take(MOST) {
        let kind = serde_json::to_value(pattern.pattern_type).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default().replace('_', " ");
        let _ = writeln!(
            out,
            "<details class=\"item\"><summary><span class=\"badge info\">{}</span> {} <span class=\"soft\">&#215; {}, \
             impact {:.1}</span></summary>",
            safe(&kind),
            safe(&pattern.description),
            grouped(pattern.occurrences),
            pattern.impact_score
        );
        if let (Some(first), Some(last)) = (&pattern.first_seen, &pattern.last_seen) {
            let _ = writeln!(out, "<p class=\"soft\">{} to {}</p>", minute(first), minute(last));
        }
        numbers(&mut out, pattern);
        evidence(&mut out, pattern);
        out.push_str("</details>\n");
    }
    more(&mut out, report.patterns.len());
    out
}

fn numbers(out: &mut String, pattern: &Pattern) {
    let plain = pattern.metadata.iter().filter(|(_, value)| !value.is_array() && !value.is_object());
    let rows: Vec<String> = plain
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_f64() => {
                    let number = number.as_f64().unwrap_or(0.0);
                    if number != 0.0 && number.abs() < 0.001 {
                        format!("{number:.2e}")
                    } else {
                        format!("{number:.4}")
                    }
                }
                other => other.to_string(),
            };
            format!("<tr><td>{}</td><td>{}</td></tr>", safe(&name.replace('_', " ")), safe(&value))
        })
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(out, "<div class=\"scroll\"><table>{}</table></div>", rows.concat());
    }
}

fn evidence(out: &mut String, pattern: &Pattern) {
    let lines = pattern.metadata.get("evidence").and_then(Value::as_array);
    for line in lines.into_iter().flatten().take(EVIDENCE) {
        let file = line["file"].as_str().unwrap_or_default();
        let text = line["excerpt"].as_str().unwrap_or_default();
        let offset = line["offset"].as_u64().unwrap_or_default();
        let _ = writeln!(out, "<pre>{}:{offset}\n{}</pre>", safe(file), safe(text));
    }
}

/// The operations that took the most time first.
pub(super) fn operations(report: &AnalyzeReport) -> String {
    if report.operations.is_empty() {
        return String::new();
    }
    let mut rows: Vec<_> = report.operations.iter().collect();
    rows.sort_by(|a, b| b.duration_s.total_cmp(&a.duration_s).then_with(|| a.name.cmp(&b.name)));
    let mut out = String::from(
        "<div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>operation</th><th>calls</th><th>errors</th>\
         <th>time-outs</th><th>p50</th><th>p95</th><th>p99</th><th>all</th><th>USD</th></tr></thead><tbody>\n",
    );
    let ms = |value: Option<f64>| value.map_or("&#8211;".to_owned(), |ms| duration(ms / 1000.0));
    for op in rows.iter().take(MOST) {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            safe(&op.name),
            grouped(op.calls),
            grouped(op.errors),
            grouped(op.timeouts),
            ms(op.p50_ms),
            ms(op.p95_ms),
            ms(op.p99_ms),
            duration(op.duration_s),
            if op.cost_usd == 0.0 { "&#8211;".to_owned() } else { format!("{:.4}", op.cost_usd) }
        );
    }
    out.push_str("</tbody></table></div>\n");
    more(&mut out, rows.len());
    out
}

/// Bad lines by class, with examples, and files that could not be read.
pub(super) fn bad_lines(report: &AnalyzeReport) -> String {
    if report.bad_lines.is_empty() && report.problems.is_empty() {
        return String::new();
    }
    let mut out = String::from("<ul>\n");
    for (class, count) in &report.bad_lines {
        let _ = writeln!(out, "<li>{}: {}</li>", safe(&class.replace('_', " ")), grouped(*count));
    }
    for problem in &report.problems {
        let _ = writeln!(out, "<li>{}: {}</li>", safe(&problem.file), safe(&problem.reason));
    }
    out.push_str("</ul>\n");
    for line in &report.bad_examples {
        let _ = writeln!(
            out,
            "<pre>{}:{} ({})\n{}</pre>",
            safe(&line.file),
            line.offset,
            safe(line.class.name()),
            safe(&line.excerpt)
        );
    }
    out
}
