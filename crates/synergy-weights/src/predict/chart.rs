//! The picture of a forecast: history, expected values and their interval, one panel a series.

use std::fmt::Write;

use nightshift_stats::forecast::Forecast;

use super::input::Series;
use super::report::short;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 300.0;
/// Left, top, right and bottom edge of the plot within a panel.
const PLOT: (f64, f64, f64, f64) = (84.0, 46.0, 836.0, 258.0);
/// Points of the history that are drawn; older ones would be narrower than a pixel.
const MOST: usize = 400;
const INK: &str = "#1f2933";
const SOFT: &str = "#697586";
const GRID: &str = "#e4e7eb";
const PAST: &str = "#52606d";
const AHEAD: &str = "#0b69a3";
const BAND: &str = "#cfe3f2";
const ODD: &str = "#ba2525";

/// The whole picture.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

/// One series and what comes after it.
#[derive(Debug)]
pub(crate) struct Panel {
    title: String,
    /// Place and value; NaN is missing.
    history: Vec<(i64, f64)>,
    /// Lower end, mean, upper end.
    ahead: Vec<[f64; 3]>,
    outliers: Vec<i64>,
    level: f64,
}

impl Panel {
    pub(crate) fn new(series: &Series, made: &Forecast, title: String, level: f64) -> Self {
        let from = series.values.len().saturating_sub(MOST);
        let history = series.places.iter().copied().zip(series.values.iter().copied());
        let ends = made.lower.iter().zip(&made.upper);
        Self {
            title,
            history: history.skip(from).collect(),
            ahead: made.mean.iter().zip(ends).map(|(&mean, (&low, &high))| [low, mean, high]).collect(),
            outliers: made.outliers.iter().map(|&at| series.places[at]).collect(),
            level,
        }
    }

    fn draw(&self, out: &mut String, top: f64) {
        let place = Scale::new(self, top);
        text(out, (24.0, top + 28.0), 14.0, INK, "start", &self.title);
        place.axes(out, self);
        let past = self.history.len();
        let last = self.history.iter().rposition(|(_, y)| !y.is_nan());
        // The band starts at the last value, where nothing is uncertain.
        let start = last.map(|at| (place.x(at), place.y(self.history[at].1)));
        let point = |h: usize, side: usize| (place.x(past + h), place.y(self.ahead[h][side]));
        let upper = (0..self.ahead.len()).map(|h| point(h, 2));
        let lower = (0..self.ahead.len()).rev().map(|h| point(h, 0));
        let band: Vec<(f64, f64)> = start.into_iter().chain(upper).chain(lower).collect();
        let _ = writeln!(out, "<polygon points=\"{}\" fill=\"{BAND}\"/>", points(&band));
        for piece in self.history.split(|(_, y)| y.is_nan()).filter(|piece| !piece.is_empty()) {
            self.piece(out, &place, piece);
        }
        let ahead: Vec<(f64, f64)> =
            start.into_iter().chain((0..self.ahead.len()).map(|h| point(h, 1))).collect();
        let dashes = "stroke-dasharray=\"6 4\"";
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{AHEAD}\" stroke-width=\"2.2\" {dashes}/>",
            points(&ahead)
        );
        for (x, y) in &ahead[usize::from(start.is_some())..] {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{AHEAD}\"/>");
        }
    }

    /// A stretch of the history without missing values.
    fn piece(&self, out: &mut String, place: &Scale, piece: &[(i64, f64)]) {
        let first = self.history.iter().position(|(at, _)| *at == piece[0].0).unwrap_or(0);
        let drawn: Vec<(f64, f64)> =
            piece.iter().enumerate().map(|(i, (_, y))| (place.x(first + i), place.y(*y))).collect();
        if drawn.len() > 1 {
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{PAST}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>",
                points(&drawn)
            );
        }
        for ((x, y), (at, _)) in drawn.iter().zip(piece) {
            if self.outliers.contains(at) {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"none\" stroke=\"{ODD}\" stroke-width=\"1.8\"/>"
                );
            } else if piece.len() == 1 || self.history.len() <= 60 {
                let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{PAST}\"/>");
            }
        }
    }
}

impl Chart {
    /// The picture as SVG text.
    pub(crate) fn svg(&self) -> String {
        let height = 56.0 + PANEL * self.panels.len() as f64;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Ubuntu, 'Segoe UI', Helvetica, Arial, sans-serif\">\n\
             <title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            escape(&self.title)
        );
        text(&mut out, (24.0, 38.0), 20.0, INK, "start", &self.title);
        for (at, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut out, 50.0 + PANEL * at as f64);
        }
        out.push_str("</svg>\n");
        out
    }
}

/// From places and values to the picture.
struct Scale {
    top: f64,
    low: f64,
    high: f64,
    step: f64,
    steps: usize,
}

impl Scale {
    fn new(panel: &Panel, top: f64) -> Self {
        let past = panel.history.iter().map(|(_, y)| *y);
        let all = past.chain(panel.ahead.iter().flatten().copied()).filter(|y| y.is_finite());
        // Values near the largest double would overflow in the differences below.
        let all = all.map(|y| y.clamp(-1e300, 1e300));
        let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
        let room = match (high - low, high.abs()) {
            (spread, _) if spread > 0.0 => spread,
            (_, size) if size > 0.0 => size,
            _ => 1.0,
        };
        let step = nice(room / 4.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let high = if high > low { high } else { low + step };
        Self { top, low, high, step, steps: (panel.history.len() + panel.ahead.len()).max(2) - 1 }
    }

    fn x(&self, at: usize) -> f64 {
        PLOT.0 + 8.0 + (PLOT.2 - PLOT.0 - 16.0) * at as f64 / self.steps as f64
    }

    fn y(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.top + PLOT.3 - (PLOT.3 - PLOT.1) * share
    }

    fn axes(&self, out: &mut String, panel: &Panel) {
        for k in 0..=((self.high - self.low) / self.step).round() as usize {
            let value = self.low + self.step * k as f64;
            let y = self.y(value);
            let _ = writeln!(
                out,
                "<line x1=\"{}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>",
                PLOT.0, PLOT.2
            );
            // Rounding leaves 1e-17 where 0 is meant.
            let shown = if value.abs() < 1e-9 * self.step { 0.0 } else { value };
            text(out, (PLOT.0 - 8.0, y + 4.0), 12.0, SOFT, "end", &short(shown));
        }
        let past = panel.history.len();
        let label = self.top + PLOT.3 + 20.0;
        let ends = [panel.history.first().map(|p| (0, p.0)), panel.history.last().map(|p| (past - 1, p.0))];
        let count = usize::from(past > 1) + 1;
        for (at, place) in ends.into_iter().flatten().take(count) {
            text(out, (self.x(at), label), 12.0, SOFT, "middle", &place.to_string());
        }
        let last = panel.ahead.len();
        let words = format!("+{last}, {} % interval", short(100.0 * panel.level));
        text(out, (PLOT.2, label + 16.0), 12.0, AHEAD, "end", &words);
    }
}

/// 1, 2 or 5 times a power of ten, at least this much.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let head = step / power;
    power
        * if head <= 1.0 {
            1.0
        } else if head <= 2.0 {
            2.0
        } else if head <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// History and forecast as one line of the terminal, at most 60 and 20 characters.
pub(super) fn sparkline(history: &[f64], ahead: &[f64]) -> String {
    let history = &history[history.len().saturating_sub(60)..];
    let ahead = &ahead[..ahead.len().min(20)];
    let all = || history.iter().chain(ahead).copied().filter(|y| y.is_finite());
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let bar = |&y: &f64| match (y - low) / (high - low) {
        _ if y.is_nan() => ' ',
        share if share.is_finite() => {
            ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][(share * 7.0).round() as usize]
        }
        _ => '▄',
    };
    let bars = |values: &[f64]| values.iter().map(bar).collect::<String>();
    format!("{} | {}", bars(history), bars(ahead))
}

fn points(all: &[(f64, f64)]) -> String {
    let each: Vec<String> = all.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    each.join(" ")
}

fn text(out: &mut String, (x, y): (f64, f64), size: f64, colour: &str, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_axes_are_round_numbers() {
        for (step, want) in [(0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (0.0012, 0.002), (2.5e9, 5e9)] {
            assert!((nice(step) / want - 1.0).abs() < 1e-12, "{step}: {}", nice(step));
        }
    }

    #[test]
    fn a_sparkline_shows_gaps_and_the_forecast() {
        assert_eq!(sparkline(&[0.0, f64::NAN, 7.0], &[7.0, 0.0]), "▁ █ | █▁");
        assert_eq!(sparkline(&[3.0; 2], &[3.0]), "▄▄ | ▄");
    }
}
