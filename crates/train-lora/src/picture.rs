//! The loss curve as a picture: SVG, written by hand. Same curves, same bytes.

use std::fmt::Write;

use crate::evals::{self, EvalMetric};
use crate::report::StepMetric;

/// Width and height, in SVG units.
const SIZE: (f64, f64) = (820.0, 440.0);
/// Left, top, right and bottom edge of the plot.
const PLOT: (f64, f64, f64, f64) = (64.0, 84.0, 796.0, 388.0);
/// Points of a line at most; a longer run is averaged.
const POINTS: usize = 600;
/// The smoothed line looks back over one part in so many of the run, and over so many steps at most.
const PARTS: f64 = 30.0;
const LOOK_BACK: f64 = 50.0;
const INK: &str = "#1f2933";
const SOFT: &str = "#697586";
const GRID: &str = "#e4e7eb";
const RAW: &str = "#a9c4e4";
const TRAIN: &str = "#1f6feb";
const EVAL: &str = "#d9480f";

type Point = (f64, f64);

/// The picture of a run; `title` names it.
pub(crate) fn svg(title: &str, steps: &[StepMetric], evals: &[EvalMetric]) -> String {
    let raw: Vec<Point> = steps.iter().map(|step| (step.step as f64, step.loss)).collect();
    let measured: Vec<Point> = evals.iter().filter_map(|eval| Some((eval.step as f64, eval.loss?))).collect();
    let (width, height) = SIZE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Ubuntu, 'Segoe UI', Helvetica, Arial, sans-serif\">\n\
         <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        title = escape(title)
    );
    text(&mut out, (24.0, 34.0), 18.0, (INK, "start"), title);
    legend(&mut out, steps, evals);
    let axes = Axes::around(&raw, &measured);
    axes.draw(&mut out);
    if raw.len() > 1 {
        axes.line(&mut out, &thinned(&raw), RAW, 1.0);
        axes.line(&mut out, &thinned(&smoothed(&raw)), TRAIN, 2.2);
    } else {
        axes.dots(&mut out, &raw, TRAIN, 3.0);
    }
    axes.line(&mut out, &measured, EVAL, 2.2);
    axes.dots(&mut out, &thinned(&measured), EVAL, 3.0);
    if let Some((best, loss)) = evals::best(evals).and_then(|best| Some((best.step as f64, best.loss?))) {
        let (x, y) = axes.place((best, loss));
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\" fill=\"none\" stroke=\"{EVAL}\" stroke-width=\"1.6\"/>"
        );
    }
    out.push_str("</svg>\n");
    out
}

/// What the lines are, with their last values.
fn legend(out: &mut String, steps: &[StepMetric], evals: &[EvalMetric]) {
    let mut x = 24.0;
    let mut entry = |colour: &str, words: String| {
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"57\" x2=\"{}\" y2=\"57\" stroke=\"{colour}\" stroke-width=\"2.6\"/>",
            x + 20.0
        );
        text(out, (x + 26.0, 61.0), 13.0, (SOFT, "start"), &words);
        x += 50.0 + 7.0 * words.len() as f64;
    };
    if let Some(step) = steps.last() {
        entry(TRAIN, format!("training, smoothed: last step {:.3}", step.loss));
    }
    if let Some((best, loss)) = evals::best(evals).and_then(|best| Some((best.step, best.loss?))) {
        entry(EVAL, format!("evaluation: best {loss:.3} after step {best}"));
    } else if !evals.is_empty() {
        entry(EVAL, "evaluation".into());
    }
}

/// Averages neighbours so that a line keeps to [`POINTS`].
fn thinned(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |group: &[Point]| {
        let sum = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    points.chunks(group).map(mean).collect()
}

/// An exponential mean, corrected for its start (as Adam corrects its moments).
fn smoothed(points: &[Point]) -> Vec<Point> {
    let keep = 1.0 - 1.0 / (points.len() as f64 / PARTS).clamp(1.0, LOOK_BACK);
    let (mut mean, mut weight) = (0.0, 0.0);
    let mut next = |&(x, y): &Point| {
        mean = keep * mean + (1.0 - keep) * y;
        weight = keep * weight + (1.0 - keep);
        (x, mean / weight)
    };
    points.iter().map(&mut next).collect()
}

/// The plot's scales.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    x_step: f64,
    y_step: f64,
}

impl Axes {
    fn around(raw: &[Point], measured: &[Point]) -> Self {
        let all = || raw.iter().chain(measured).filter(|point| point.1.is_finite());
        let top = all().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        let low = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let (low, top) = if low <= top { (low, top) } else { (0.0, 1.0) };
        let y_step = nice((top - low).max(1e-3) / 5.0);
        let x_end = all().map(|point| point.0).fold(1.0, f64::max);
        let x_step = nice(x_end / 8.0).max(1.0);
        let y = ((low / y_step).floor() * y_step, (top / y_step).ceil() * y_step);
        let y = if y.1 > y.0 { y } else { (y.0, y.0 + y_step) };
        Self { x: (0.0, x_end), y, x_step, y_step }
    }

    fn place(&self, (x, y): Point) -> Point {
        let (left, top, right, bottom) = PLOT;
        let along = (x - self.x.0) / (self.x.1 - self.x.0);
        let up = (y - self.y.0) / (self.y.1 - self.y.0);
        (left + along * (right - left), bottom - up * (bottom - top))
    }

    fn draw(&self, out: &mut String) {
        let (left, top, right, bottom) = PLOT;
        let decimals = (-self.y_step.log10().floor()).max(0.0) as usize;
        for tick in 0..=((self.y.1 - self.y.0) / self.y_step).round() as usize {
            let value = self.y.0 + tick as f64 * self.y_step;
            let (_, y) = self.place((0.0, value));
            let _ = writeln!(
                out,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>"
            );
            text(out, (left - 8.0, y + 4.0), 12.0, (SOFT, "end"), &format!("{value:.decimals$}"));
        }
        for tick in 0..=(self.x.1 / self.x_step) as usize {
            let value = tick as f64 * self.x_step;
            let (x, _) = self.place((value, self.y.0));
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"{SOFT}\"/>",
                bottom + 4.0
            );
            text(out, (x, bottom + 19.0), 12.0, (SOFT, "middle"), &format!("{value}"));
        }
        let _ = writeln!(out, "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"{SOFT}\"/>");
        text(out, (right, bottom + 38.0), 12.0, (SOFT, "end"), "optimiser step");
        text(out, (left - 40.0, top - 8.0), 12.0, (SOFT, "start"), "nats per answer token");
    }

    fn line(&self, out: &mut String, points: &[Point], colour: &str, width: f64) {
        let mut path = String::new();
        for &point in points.iter().filter(|point| point.1.is_finite()) {
            let (x, y) = self.place(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        }
        if !path.is_empty() {
            let _ = writeln!(
                out,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
                 stroke-linejoin=\"round\"/>"
            );
        }
    }

    fn dots(&self, out: &mut String, points: &[Point], colour: &str, radius: f64) {
        for &point in points.iter().filter(|point| point.1.is_finite()) {
            let (x, y) = self.place(point);
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>");
        }
    }
}

/// 1, 2 or 5 times a power of ten, not far below `step`.
fn nice(step: f64) -> f64 {
    let power = 10.0_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * 0.8);
    factor.unwrap_or(10.0) * power
}

fn text(out: &mut String, (x, y): Point, size: f64, (colour, anchor): (&str, &str), words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{}</text>",
        escape(words)
    );
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_model::Loss;

    fn steps(count: usize) -> Vec<StepMetric> {
        let one = |step| StepMetric { step, loss: 3.0 / step as f64 + 0.2, ..StepMetric::default() };
        (1..=count).map(one).collect()
    }

    #[test]
    fn curves_stay_inside_the_plot_and_long_runs_stay_small() {
        let eval = |step, loss| {
            EvalMetric::new(step, Loss { nll_sum: loss, tokens: 1, ..Loss::default() }, 0.0, 0.0)
        };
        let evals = [eval(0, 4.0), eval(10_000, 0.3), eval(20_000, f64::NAN)];
        let picture = svg("a < b", &steps(20_000), &evals);
        assert!(picture.len() < 60_000, "{}", picture.len());
        assert!(
            picture.contains("<title>a &lt; b</title>") && picture.contains("best 0.300 after step 10000")
        );
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        let (left, top, right, bottom) = PLOT;
        let data = picture.lines().filter(|line| line.contains("stroke-linejoin"));
        for path in data.filter_map(|line| line.split('"').nth(1)) {
            for point in path.split(['M', 'L']).filter(|point| !point.is_empty()) {
                let (x, y) = point.split_once(' ').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((left..=right).contains(&x) && (top..=bottom).contains(&y), "{point}");
            }
        }
    }

    #[test]
    fn a_run_of_one_step_or_none_is_drawn_too() {
        for count in [0, 1, 2] {
            let picture = svg("x", &steps(count), &[]);
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        }
        assert_eq!((nice(0.3), nice(0.07), nice(20.25), nice(1.0)), (0.5, 0.1, 20.0, 1.0));
    }
}
