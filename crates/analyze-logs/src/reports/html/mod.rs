//! The report as one HTML file: no scripts, nothing from elsewhere, light and dark, readable on a phone.
//!
//! Every element is closed, so that the page is well-formed XML too (a test parses it). All text from logs goes
//! through [`html`](super::escape::html).

mod charts;
mod lists;

use std::fmt::Write;

use super::escape::html as safe;
use super::view::View;
use crate::recommendation::Saving;
use crate::report::AnalyzeReport;

const STYLE: &str = include_str!("style.css");

/// The page.
pub(super) fn page(report: &AnalyzeReport, view: &View) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>Log report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    head(&mut out, report, view);
    section(&mut out, "What to do", &lists::recommendations(report));
    section(&mut out, "Calls and errors over time", &charts::timeline(&view.timeline));
    section(&mut out, "Hours of the day", &charts::heat(&view.heat));
    section(&mut out, "Most frequent errors", &charts::templates(&view.templates));
    section(&mut out, "Calls for nothing", &charts::waste(&view.waste));
    section(&mut out, "What stands out", &lists::patterns(report));
    section(&mut out, "Operations", &lists::operations(report));
    section(&mut out, "What could not be read", &lists::bad_lines(report));
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// A part of the page; none when there is nothing in it.
fn section(out: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        let _ = write!(out, "<section>\n<h2>{title}</h2>\n{body}</section>\n");
    }
}

fn head(out: &mut String, report: &AnalyzeReport, view: &View) {
    out.push_str("<header>\n<h1>Log report</h1>\n");
    if let (Some(first), Some(last)) = (&report.first_seen, &report.last_seen) {
        let _ = writeln!(out, "<p class=\"soft\">{} to {} UTC</p>", minute(first), minute(last));
    }
    out.push_str("</header>\n<section class=\"cards\">\n");
    let bad: u64 = report.bad_lines.values().sum();
    let share = 100.0 * view.errors as f64 / view.calls.max(1) as f64;
    card(out, "Entries", &grouped(report.entries), &format!("{:.1} MB", report.bytes as f64 / 1e6));
    card(out, "Calls", &grouped(view.calls), &format!("{} operations", report.operations.len()));
    card(out, "Errors", &grouped(view.errors), &format!("{share:.2} % of calls"));
    card(out, "Time-outs", &grouped(view.timeouts), "among the errors");
    card(out, "Cost", &dollars(view.cost_usd), "US dollars");
    let wasted = format!("and {} US dollars", dollars(view.wasted_usd));
    card(out, "For nothing", &duration(view.wasted_s), &wasted);
    card(out, "Bad lines", &grouped(bad), if bad == 0 { "all were used" } else { "the rest was used" });
    out.push_str("</section>\n");
}

fn card(out: &mut String, name: &str, value: &str, note: &str) {
    let _ = writeln!(
        out,
        "<div class=\"card\"><div class=\"soft\">{name}</div><div class=\"value\">{}</div><div class=\"soft\">{}</div></div>",
        safe(value),
        safe(note)
    );
}

/// An RFC 3339 time to the minute, as people write it.
pub(super) fn minute(time: &str) -> String {
    safe(time.get(..16).unwrap_or(time)).replace('T', " ")
}

/// Thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds with a unit that suits them.
pub(super) fn duration(s: f64) -> String {
    match s.abs() {
        size if size < 1e-6 => "0 s".to_owned(),
        size if size < 0.9995 => format!("{:.0} ms", s * 1000.0),
        size if size < 120.0 => format!("{s:.1} s"),
        size if size < 7200.0 => format!("{:.1} min", s / 60.0),
        _ => format!("{:.1} h", s / 3600.0),
    }
}

/// `2,380.29`.
fn dollars(usd: f64) -> String {
    let cents = (usd.max(0.0) * 100.0).round() as u64;
    format!("{}.{:02}", grouped(cents / 100), cents % 100)
}

/// What a proposal saves a day, and what it costs, in words; empty when that is nothing.
pub(in crate::reports) fn saving(saving: &Saving) -> String {
    let parts = [
        (saving.seconds_per_day, 0.5, duration(saving.seconds_per_day.abs())),
        (saving.usd_per_day, 0.005, format!("{:.2} USD", saving.usd_per_day.abs())),
        (saving.failures_per_day, 0.05, format!("{:.1} failures", saving.failures_per_day.abs())),
    ];
    let told = |verb: &str, sign: f64| {
        let parts: Vec<&str> =
            parts.iter().filter(|part| part.0 * sign >= part.1).map(|part| part.2.as_str()).collect();
        if parts.is_empty() { None } else { Some(format!("{verb} {} a day", parts.join(", "))) }
    };
    [told("saves", 1.0), told("adds", -1.0)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proposal_adds_is_no_saving() {
        let of = |seconds_per_day, usd_per_day, failures_per_day| {
            saving(&Saving { seconds_per_day, usd_per_day, failures_per_day })
        };
        assert_eq!(of(-3102.0, 15.556, 91.6), "saves 15.56 USD, 91.6 failures a day, adds 51.7 min a day");
        assert_eq!((of(90.0, 0.0, 0.0), of(0.1, 0.001, -0.01)), ("saves 90.0 s a day".into(), String::new()));
        assert_eq!((dollars(2380.294), dollars(0.0)), ("2,380.29".to_owned(), "0.00".to_owned()));
    }
}
