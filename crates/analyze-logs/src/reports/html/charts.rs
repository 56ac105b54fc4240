//! The charts of the page, as SVG; bars with long labels as plain boxes. Colours are those of the page's style.

use std::fmt::Write;

use nightshift_core::jiff::Timestamp;

use super::super::escape::html as safe;
use super::super::view::{Bar, Hour, Row, Timeline};
use super::{duration, grouped};

/// Width of a chart, in SVG units.
const WIDTH: f64 = 920.0;
/// Where the timeline's plots begin and end, left and right.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 912.0;

/// Calls above, errors below, one column a step.
pub(super) fn timeline(line: &Timeline) -> String {
    if line.steps.is_empty() {
        return String::new();
    }
    let calls = line.steps.iter().map(|step| step.calls).max().unwrap_or(0);
    let errors = line.steps.iter().map(|step| step.errors).max().unwrap_or(0);
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"wide\" viewBox=\"0 0 {WIDTH} 300\" role=\"img\" \
         aria-label=\"calls and errors over time\">\n"
    );
    plot(&mut out, line, "calls", (14.0, 164.0), calls, |step| step.calls);
    plot(&mut out, line, "errors", (190.0, 264.0), errors, |step| step.errors);
    dates(&mut out, line);
    out.push_str("</svg></div>\n");
    let step =
        if line.hours % 24 == 0 { format!("{} days", line.hours / 24) } else { format!("{} h", line.hours) };
    let _ = writeln!(out, "<p class=\"soft\">Each column is {}, UTC.</p>", step.replace("1 days", "a day"));
    out
}

fn plot(
    out: &mut String,
    line: &Timeline,
    name: &str,
    (top, bottom): (f64, f64),
    most: u64,
    of: fn(&super::super::view::Step) -> u64,
) {
    let scale = nice(most);
    let height = |value: u64| (bottom - top) * value as f64 / scale as f64;
    for part in [0, scale / 2, scale] {
        let y = bottom - height(part);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            grouped(part)
        );
    }
    let width = (RIGHT - LEFT) / line.steps.len() as f64;
    let gap = if width > 4.0 { 1.0 } else { 0.0 };
    for (index, step) in line.steps.iter().enumerate().filter(|(_, step)| of(step) > 0) {
        let tall = height(of(step)).max(1.0);
        let when = line.starts(index).map(stamp).unwrap_or_default();
        let _ = writeln!(
            out,
            "<rect class=\"{name}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\">\
             <title>{when}: {} calls, {} errors</title></rect>",
            LEFT + width * index as f64,
            bottom - tall,
            width - gap,
            grouped(step.calls),
            grouped(step.errors)
        );
    }
    let _ = writeln!(out, "<text class=\"label\" x=\"{LEFT}\" y=\"{:.0}\">{name}</text>", top - 3.0);
}

/// A few dates under the columns: midnights, where the log spans days.
fn dates(out: &mut String, line: &Timeline) {
    let count = line.steps.len();
    let midnights =
        (0..count).filter(|step| (line.first_hour + line.hours * *step as i64).rem_euclid(24) == 0);
    let mut places: Vec<usize> = midnights.collect();
    if places.len() < 2 {
        places = (0..count).collect();
    }
    let every = places.len().div_ceil(8).max(1);
    for index in places.into_iter().step_by(every) {
        let Some(at) = line.starts(index) else { continue };
        let x = LEFT + (RIGHT - LEFT) * index as f64 / count as f64;
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"264\" x2=\"{x:.1}\" y2=\"270\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"284\">{}</text>",
            stamp(at)
        );
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%b %-d %H:%M").to_string()
}

/// The next round number, so that half of it is round too.
fn nice(most: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for step in [2, 4, 6, 8, 10, 12, 16] {
            if let Some(scale) = unit.checked_mul(step)
                && scale >= most
            {
                return scale.max(2);
            }
        }
        match unit.checked_mul(10) {
            Some(next) => unit = next,
            None => return most,
        }
    }
}

/// Two maps, operation by hour of the day: share of errors, and p95 against the operation's own median hour.
pub(super) fn heat(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let worst = rows.iter().flat_map(|row| &row.hours).filter_map(Hour::error_rate).fold(0.0, f64::max);
    let errors = map(rows, "errors", |_, hour| {
        let rate = hour.error_rate()?;
        let told = format!("{} of {} calls failed ({:.1} %)", hour.errors, grouped(hour.calls), 100.0 * rate);
        Some((if worst > 0.0 { rate / worst } else { 0.0 }, told))
    });
    let slow = map(rows, "slow", |row, hour| {
        let ms = hour.p95_ms?;
        let usual = usual_ms(row)?;
        let told = format!("95 % within {}, usually {}", duration(ms / 1000.0), duration(usual / 1000.0));
        // White up to the usual, full at four times that.
        Some((((ms / usual).max(1.0).ln() / 4_f64.ln()).min(1.0), told))
    });
    format!(
        "<h3>Share of errors</h3>\n{errors}<p class=\"soft\">Full colour: {:.1} % of calls failed.</p>\n\
         <h3>95th percentile of the time</h3>\n{slow}<p class=\"soft\">Against the median of the operation's own hours; \
         full colour: four times that. No colour: fewer than three calls.</p>\n",
        100.0 * worst
    )
}

/// The middle of an operation's p95 by hour of the day.
fn usual_ms(row: &Row) -> Option<f64> {
    let mut all: Vec<f64> = row.hours.iter().filter_map(|hour| hour.p95_ms).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().filter(|ms| *ms > 0.0)
}

fn map(rows: &[Row], class: &str, of: impl Fn(&Row, &Hour) -> Option<(f64, String)>) -> String {
    let (left, cell, top) = (190.0, 30.0, 6.0);
    let tall = 20.0;
    let height = top + tall * rows.len() as f64 + 24.0;
    let mut out = format!(
        "<div class=\"scroll\"><svg class=\"wide\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
         aria-label=\"{class} by operation and hour of the day\">\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let y = top + tall * index as f64;
        let name: String = row.name.chars().take(26).collect();
        let dots = if name.len() < row.name.len() { "&#8230;" } else { "" };
        let _ = writeln!(
            out,
            "<text class=\"tick ink\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}{dots}</text>",
            left - 8.0,
            y + 14.0,
            safe(&name)
        );
        for (hour, counts) in row.hours.iter().enumerate() {
            let x = left + cell * hour as f64;
            let shade = of(row, counts);
            let (opacity, told) =
                shade.map_or((None, "too few calls".to_owned()), |(s, told)| (Some(s), told));
            let fill = opacity.map_or("none".to_owned(), |opacity| {
                format!("{class}\" style=\"opacity:{:.2}", opacity.max(0.04))
            });
            let _ = writeln!(
                out,
                "<rect class=\"{fill}\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"{:.0}\" height=\"{:.0}\"><title>{}, \
                 {hour:02}:00: {}</title></rect>",
                cell - 2.0,
                tall - 2.0,
                safe(&row.name),
                safe(&told)
            );
        }
    }
    for hour in (0..24).step_by(3) {
        let x = left + cell * f64::from(hour);
        let _ =
            writeln!(out, "<text class=\"tick\" x=\"{x:.0}\" y=\"{:.0}\">{hour:02}:00</text>", height - 8.0);
    }
    out.push_str("</svg></div>\n");
    out
}

/// Templates by how often they came.
pub(super) fn templates(bars: &[Bar]) -> String {
    boxes(bars, "errors", |bar| grouped(bar.amount as u64))
}

/// Chains by the seconds that they cost.
pub(super) fn waste(bars: &[Bar]) -> String {
    boxes(bars, "calls", |bar| {
        if bar.usd > 0.0 {
            format!("{}, {:.2} USD", duration(bar.amount), bar.usd)
        } else {
            duration(bar.amount)
        }
    })
}

fn boxes(bars: &[Bar], class: &str, told: impl Fn(&Bar) -> String) -> String {
    let most = bars.iter().map(|bar| bar.amount).fold(0.0, f64::max);
    let mut out = String::new();
    for bar in bars {
        let width = if most > 0.0 { 100.0 * bar.amount / most } else { 0.0 };
        let _ = writeln!(
            out,
            "<div class=\"bar\"><div class=\"what\"><code>{}</code> <span class=\"soft\">{}</span></div>\
             <div class=\"amount\">{}</div><div class=\"track\"><div class=\"{class}\" style=\"width:{width:.1}%\"></div></div></div>",
            safe(&bar.label),
            safe(&bar.note),
            safe(&told(bar))
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::nice;

    #[test]
    fn scales_are_round_and_reach_the_top() {
        let scales: Vec<u64> = [0, 1, 3, 9, 11, 70, 101, 999, 1001].into_iter().map(nice).collect();
        assert_eq!(scales, [2, 2, 4, 10, 12, 80, 120, 1000, 1200]);
        assert!(nice(u64::MAX) >= u64::MAX / 10);
    }
}
