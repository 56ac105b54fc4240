//! The report as Markdown.

use std::fmt::Write;

use super::escape::markdown as safe;
use super::view::View;
use crate::report::AnalyzeReport;

/// Findings, proposals and operations that are listed.
const MOST: usize = 50;

/// The page.
pub(super) fn page(report: &AnalyzeReport, view: &View) -> String {
    let mut out = String::from("# Log report\n\n");
    if let (Some(first), Some(last)) = (&report.first_seen, &report.last_seen) {
        let _ = writeln!(out, "From {first} to {last}.\n");
    }
    summary(&mut out, report, view);
    recommendations(&mut out, report);
    patterns(&mut out, report);
    bars(&mut out, view);
    operations(&mut out, report);
    bad_lines(&mut out, report);
    out
}

fn summary(out: &mut String, report: &AnalyzeReport, view: &View) {
    let share = 100.0 * view.errors as f64 / view.calls.max(1) as f64;
    let bad: u64 = report.bad_lines.values().sum();
    let _ = writeln!(out, "| entries | calls | errors | time-outs | cost | for nothing | bad lines |");
    let _ = writeln!(out, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let _ = writeln!(
        out,
        "| {} | {} | {} ({share:.2} %) | {} | {:.2} USD | {:.0} s, {:.2} USD | {bad} |\n",
        report.entries, view.calls, view.errors, view.timeouts, view.cost_usd, view.wasted_s, view.wasted_usd
    );
}

fn recommendations(out: &mut String, report: &AnalyzeReport) {
    out.push_str("## What to do\n\n");
    if report.recommendations.is_empty() {
        out.push_str("Nothing is recommended.\n\n");
    }
    for (index, one) in report.recommendations.iter().take(MOST).enumerate() {
        let saving = super::html::saving(&one.saving);
        let _ = writeln!(
            out,
            "{}. **{}** ({:?}, confidence {:.2}; `{}`){}\n   {}",
            index + 1,
            safe(&one.title),
            one.priority,
            one.confidence,
            one.id,
            if saving.is_empty() { String::new() } else { format!("; {saving}") },
            safe(&one.description)
        );
    }
    out.push('\n');
}

fn patterns(out: &mut String, report: &AnalyzeReport) {
    if report.patterns.is_empty() {
        return;
    }
    out.push_str("## What stands out\n\n| impact | type | times | what |\n| ---: | --- | ---: | --- |\n");
    for pattern in report.patterns.iter().take(MOST) {
        let kind = serde_json::to_value(pattern.pattern_type).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default().replace('_', " ");
        let (impact, times) = (pattern.impact_score, pattern.occurrences);
        let _ = writeln!(out, "| {impact:.1} | {kind} | {times} | {} |", safe(&pattern.description));
    }
    if report.patterns.len() > MOST {
        let _ = writeln!(out, "\nAnd {} more.", report.patterns.len() - MOST);
    }
    out.push('\n');
}

fn bars(out: &mut String, view: &View) {
    if !view.templates.is_empty() {
        out.push_str("## Errors\n\n| times | template | where |\n| ---: | --- | --- |\n");
        for bar in &view.templates {
            let _ = writeln!(out, "| {} | {} | {} |", bar.amount, safe(&bar.label), safe(&bar.note));
        }
        out.push('\n');
    }
    if !view.waste.is_empty() {
        out.push_str(
            "## Calls for nothing\n\n| seconds | USD | chain | kind |\n| ---: | ---: | --- | --- |\n",
        );
        for bar in &view.waste {
            let (seconds, usd) = (bar.amount, bar.usd);
            let _ = writeln!(out, "| {seconds:.1} | {usd:.4} | {} | {} |", safe(&bar.label), safe(&bar.note));
        }
        out.push('\n');
    }
}

fn operations(out: &mut String, report: &AnalyzeReport) {
    if report.operations.is_empty() {
        return;
    }
    out.push_str(
        "## Operations\n\n| name | calls | errors | time-outs | p50 ms | p95 ms | p99 ms | cost USD |\n",
    );
    out.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    for op in &report.operations {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {:.4} |",
            safe(&op.name),
            op.calls,
            op.errors,
            op.timeouts,
            ms(op.p50_ms),
            ms(op.p95_ms),
            ms(op.p99_ms),
            op.cost_usd
        );
    }
    out.push('\n');
}

fn bad_lines(out: &mut String, report: &AnalyzeReport) {
    if report.bad_lines.is_empty() && report.problems.is_empty() {
        return;
    }
    out.push_str("## What could not be read\n\n");
    for (class, count) in &report.bad_lines {
        let _ = writeln!(out, "- {}: {count}", safe(class));
    }
    for line in &report.bad_examples {
        let file = safe(&line.file);
        let _ =
            writeln!(out, "- {file}:{}: {}: {}", line.offset, safe(line.class.name()), safe(&line.excerpt));
    }
    for problem in &report.problems {
        let _ = writeln!(out, "- {}: {}", safe(&problem.file), safe(&problem.reason));
    }
}
