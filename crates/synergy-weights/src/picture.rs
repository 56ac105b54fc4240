//! The weights over their changes as a picture: SVG, written by hand. Same log, same bytes.

use std::fmt::Write;

use nightshift_core::jiff;
use nightshift_core::synergy::METRICS;
use nightshift_core::synergy::log::Entry;

/// Width and height, in SVG units.
const SIZE: (f64, f64) = (820.0, 440.0);
/// Left, top, right and bottom edge of the plot.
const PLOT: (f64, f64, f64, f64) = (52.0, 84.0, 640.0, 388.0);
/// Points of a line at most; of a longer log every so many-th change is drawn, and the last.
const POINTS: usize = 600;
const INK: &str = "#1f2933";
const SOFT: &str = "#697586";
const GRID: &str = "#e4e7eb";
/// Colours that are told apart by colour-blind readers too (Okabe and Ito 2008), the yellow one darkened.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#4d4d4d"];

/// The picture as SVG text; `entries` is not empty.
pub(crate) fn svg(entries: &[Entry]) -> String {
    let (width, height) = SIZE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Ubuntu, 'Segoe UI', Helvetica, Arial, sans-serif\">\n\
         <title>Synergy weights</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (24.0, 34.0), 18.0, (INK, "start"), "Synergy weights");
    text(&mut out, (24.0, 58.0), 13.0, (SOFT, "start"), &subtitle(entries));
    let top = entries.iter().flat_map(|entry| entry.weights).fold(1.0, f64::max);
    let step = [0.25, 0.5, 1.0, 2.0].into_iter().find(|step| top / step <= 6.0).unwrap_or(2.0);
    let top = (top / step).ceil() * step;
    let place = |at: usize, weight: f64| {
        let along = at as f64 / (entries.len() - 1).max(1) as f64;
        (PLOT.0 + along * (PLOT.2 - PLOT.0), PLOT.3 - weight / top * (PLOT.3 - PLOT.1))
    };
    for tick in 0..=(top / step).round() as usize {
        let weight = tick as f64 * step;
        let (_, y) = place(0, weight);
        let (left, right) = (PLOT.0, PLOT.2);
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>"
        );
        text(&mut out, (left - 8.0, y + 4.0), 12.0, (SOFT, "end"), &format!("{weight}"));
    }
    text(&mut out, (PLOT.2, PLOT.3 + 24.0), 12.0, (SOFT, "end"), "change");
    let every = entries.len().div_ceil(POINTS).max(1);
    let drawn = (0..entries.len()).filter(|at| at % every == 0 || at + 1 == entries.len());
    let drawn: Vec<usize> = drawn.collect();
    let last = &entries[entries.len() - 1].weights;
    let labels = label_heights(&last.map(|weight| place(0, weight).1));
    for (index, (name, colour)) in METRICS.iter().zip(COLOURS).enumerate() {
        let points = drawn.iter().map(|at| place(*at, entries[*at].weights[index]));
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
            points.join(" ")
        );
        let (x, y) = place(entries.len() - 1, last[index]);
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        let label = format!("{name} {:.3}", last[index]);
        text(&mut out, (PLOT.2 + 12.0, labels[index] + 4.5), 13.0, (colour, "start"), &label);
    }
    out.push_str("</svg>\n");
    out
}

fn subtitle(entries: &[Entry]) -> String {
    let day = |entry: &Entry| {
        let at = jiff::Timestamp::from_microsecond((entry.timestamp * 1e6) as i64).unwrap_or_default();
        at.strftime("%Y-%m-%d %H:%M").to_string()
    };
    let (first, last) = (day(&entries[0]), day(&entries[entries.len() - 1]));
    format!("{} log lines, {first} to {last} UTC", entries.len())
}

/// Heights of the labels, pushed apart where lines end close together, and kept inside the picture.
fn label_heights(wanted: &[f64; 7]) -> [f64; 7] {
    const GAP: f64 = 17.0;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut heights = [0.0; 7];
    for (rank, index) in order.iter().enumerate() {
        let above = if rank == 0 { f64::NEG_INFINITY } else { heights[order[rank - 1]] + GAP };
        // The ones that follow need room below.
        let lowest = SIZE.1 - 16.0 - GAP * (order.len() - 1 - rank) as f64;
        heights[*index] = wanted[*index].max(above).min(lowest);
    }
    heights
}

fn text(out: &mut String, (x, y): (f64, f64), size: f64, (colour, anchor): (&str, &str), words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {

    use super::*;

    fn entries(count: usize) -> Vec<Entry> {
        let one = |at: usize| Entry {
            timestamp: 1.75e9 + at as f64,
            weights: std::array::from_fn(|index| (at * index) as f64 / count as f64),
            reason: None,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_point_is_inside_and_labels_do_not_touch() {
        for count in [1, 2, 5000] {
            let picture = svg(&entries(count));
            assert!(
                !picture.contains("NaN") && !picture.contains("inf") && picture.len() < 80_000,
                "{count}"
            );
            for line in picture.lines().filter(|line| line.starts_with("<polyline")) {
                for point in line.split('"').nth(1).unwrap().split(' ') {
                    let (x, y) = point.split_once(',').unwrap();
                    let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                    assert!((PLOT.0..=PLOT.2).contains(&x) && (PLOT.1..=PLOT.3).contains(&y), "{point}");
                }
            }
        }
        let mut heights = label_heights(&[388.0; 7]);
        heights.sort_by(f64::total_cmp);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 16.9) && heights[6] < SIZE.1);
    }
}
