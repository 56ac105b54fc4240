//! The picture: report-set success night by night, as SVG and as PNG.
//!
//! The SVG is written by hand; the PNG is that SVG drawn by resvg with a font that comes with a crate, because a bare
//! machine has none. Same figures, same bytes.

use std::fmt::Write;
use std::sync::Arc;

use nightshift_core::{Failure, OrFail};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Width and height of the picture, in SVG units; the PNG has twice as many pixels.
const SIZE: (f64, f64) = (820.0, 460.0);
/// Left, top, right and bottom edge of the plot.
const PLOT: (f64, f64, f64, f64) = (64.0, 92.0, 640.0, 372.0);
const INK: &str = "#1f2933";
const SOFT: &str = "#697586";
const GRID: &str = "#e4e7eb";

/// One line of the picture.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its label.
    pub label: String,
    /// Its colour.
    pub colour: &'static str,
    /// Success (0-1) before the first night and after each.
    pub points: Vec<f64>,
    /// Drawn thick, with its values written beside it.
    pub main: bool,
}

/// What the picture shows.
#[derive(Debug, Clone)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// The line below it.
    pub subtitle: String,
    /// The lines, the most important one last.
    pub lines: Vec<Line>,
    /// What is written below each night but the start: the gate's verdict.
    pub notes: Vec<String>,
}

impl Chart {
    /// The picture as SVG text.
    pub fn svg(&self) -> String {
        let (width, height) = SIZE;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"Ubuntu, 'Segoe UI', Helvetica, Arial, sans-serif\">\n\
             <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            escape(&self.title)
        );
        text(&mut out, (24.0, 40.0), 22.0, INK, "start", &self.title);
        text(&mut out, (24.0, 64.0), 13.0, SOFT, "start", &self.subtitle);
        self.axes(&mut out);
        let ends = self.label_heights();
        for (line, end) in self.lines.iter().zip(ends) {
            self.line(&mut out, line, end);
        }
        out.push_str("</svg>\n");
        out
    }

    /// The picture as PNG.
    pub fn png(&self) -> Result<Vec<u8>, Failure> {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
        fonts.set_sans_serif_family("Ubuntu");
        let options = Options { fontdb: Arc::new(fonts), font_family: "Ubuntu".into(), ..Options::default() };
        let tree = Tree::from_str(&self.svg(), &options).or_fail(|| "the picture cannot be drawn".into())?;
        let (width, height) = (SIZE.0 as u32 * 2, SIZE.1 as u32 * 2);
        let mut pixels =
            Pixmap::new(width, height).ok_or_else(|| Failure::failed("no memory for the picture"))?;
        resvg::render(&tree, Transform::from_scale(2.0, 2.0), &mut pixels.as_mut());
        pixels.encode_png().or_fail(|| "the picture cannot be written as PNG".into())
    }

    fn x(&self, night: usize) -> f64 {
        let last = self.notes.len().max(1) as f64;
        PLOT.0 + 30.0 + (PLOT.2 - PLOT.0 - 60.0) * night as f64 / last
    }

    fn axes(&self, out: &mut String) {
        for percent in [0, 20, 40, 60, 80, 100] {
            let y = height_of(f64::from(percent) / 100.0);
            let _ = writeln!(
                out,
                "<line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{GRID}\"/>",
                PLOT.0, PLOT.2
            );
            text(out, (PLOT.0 - 10.0, y + 4.0), 12.0, SOFT, "end", &format!("{percent} %"));
        }
        let start = [("start".to_owned(), "base model".to_owned())];
        let nights = self.notes.iter().enumerate();
        let nights = nights.map(|(night, note)| (format!("night {}", night + 1), note.clone()));
        for (night, (name, note)) in start.into_iter().chain(nights).enumerate() {
            text(out, (self.x(night), PLOT.3 + 26.0), 14.0, INK, "middle", &name);
            text(out, (self.x(night), PLOT.3 + 45.0), 12.0, SOFT, "middle", &note);
        }
    }

    fn line(&self, out: &mut String, line: &Line, label_height: f64) {
        let place = |(night, value): (usize, &f64)| (self.x(night), height_of(*value));
        let points: Vec<(f64, f64)> = line.points.iter().enumerate().map(place).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (width, radius) = if line.main { (3.5, 5.5) } else { (1.8, 3.5) };
        let colour = line.colour;
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"/>",
            path.join(" ")
        );
        for ((x, y), value) in points.iter().zip(&line.points) {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>");
            if line.main {
                text(out, (*x, y - 14.0), 16.0, INK, "middle", &format!("{:.1} %", 100.0 * value));
            }
        }
        let last = line.points.last().copied().unwrap_or_default();
        let label = format!("{} ({:.1} %)", line.label, 100.0 * last);
        text(out, (PLOT.2 + 6.0, label_height + 5.0), 14.0, colour, "start", &label);
    }

    /// Heights of the labels at the right end, pushed apart where lines end close together.
    fn label_heights(&self) -> Vec<f64> {
        let mut order: Vec<(f64, usize)> = (self.lines.iter().enumerate())
            .map(|(index, line)| (height_of(line.points.last().copied().unwrap_or_default()), index))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut heights = vec![0.0; order.len()];
        let mut above = f64::NEG_INFINITY;
        for (wanted, index) in order {
            let height = wanted.max(above + 20.0);
            heights[index] = height;
            above = height;
        }
        heights
    }
}

fn height_of(share: f64) -> f64 {
    PLOT.3 - (PLOT.3 - PLOT.1) * share.clamp(0.0, 1.0)
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

    fn chart() -> Chart {
        let line = |label: &str, colour, points: [f64; 4], main| Line {
            label: label.into(),
            colour,
            points: points.to_vec(),
            main,
        };
        Chart {
            title: "Success night by night".into(),
            subtitle: "1,500 questions < the loop never sees".into(),
            lines: vec![
                line("known", "#7b8794", [0.99, 0.99, 0.98, 0.99], false),
                line("all", "#0b69a3", [0.61, 0.7, 0.78, 0.83], true),
            ],
            notes: ["PASS", "FAIL", "PASS"].map(String::from).to_vec(),
        }
    }

    #[test]
    fn the_svg_holds_every_figure_and_is_well_formed() {
        let svg = chart().svg();
        for wanted in ["61.0 %", "70.0 %", "83.0 %", "night 3", "FAIL", "questions &lt; the loop"] {
            assert!(svg.contains(wanted), "{wanted}");
        }
        Tree::from_str(&svg, &Options::default()).unwrap();
    }

    #[test]
    fn the_png_has_letters_on_a_machine_without_fonts() {
        let drawn = |title: &str| {
            let chart = Chart { title: title.into(), ..chart() };
            Pixmap::decode_png(&chart.png().unwrap()).unwrap()
        };
        let (with, without) = (drawn("Nightshift"), drawn(" "));
        assert_eq!((with.width(), with.height()), (1640, 920));
        let dark = |pixels: &Pixmap| pixels.pixels().iter().filter(|pixel| pixel.red() < 100).count();
        assert!(dark(&with) > dark(&without) + 200, "the title is drawn");
        assert_eq!(chart().png().unwrap(), chart().png().unwrap(), "same figures, same bytes");
    }
}
