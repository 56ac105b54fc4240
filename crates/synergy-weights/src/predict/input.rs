//! The two small files that `predict` reads: a series, and known parameters.

use std::path::Path;

use nightshift_core::{Ctx, Exit, Failure, OrFail, files};
use nightshift_stats::forecast::Arima;
use serde::Deserialize;

/// One series, the oldest value first; NaN is missing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// The file, or the metric.
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
    /// Place of each value where it came from: the line of a file, the row id of a history.
    pub(crate) places: Vec<i64>,
}

impl Series {
    /// How many values are there.
    pub(crate) fn observed(&self) -> usize {
        self.values.iter().filter(|y| !y.is_nan()).count()
    }
}

/// (p, d, q).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order(pub(crate) [usize; 3]);

impl std::str::FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not p,d,q; write for example 1,1,1 (d is 0 or 1)");
        let numbers: Result<Vec<usize>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let order: [usize; 3] = numbers.map_err(|_| wrong())?.try_into().map_err(|_| wrong())?;
        if order[1] > 1 || order[0].max(order[2]) > 24 { Err(wrong()) } else { Ok(Self(order)) }
    }
}

/// Reads a series: one value per line; an empty line, `NA` and `NaN` are missing; a first line of letters is a heading.
pub(crate) fn series(file: &Path, ctx: &Ctx) -> Result<Series, Failure> {
    let text = files::read_text(file)?;
    let mut series = Series { name: file.display().to_string(), values: Vec::new(), places: Vec::new() };
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let word = line.trim();
        let value = match word.parse::<f64>() {
            _ if word.is_empty() || word.eq_ignore_ascii_case("na") => f64::NAN,
            Ok(value) if !value.is_infinite() => value,
            Err(_) if number == 1 && word.starts_with(char::is_alphabetic) => {
                ctx.printer.note(&format!("note: {}:1: `{word}` is read as a heading", file.display()));
                continue;
            }
            _ => {
                let shown: String = word.chars().take(40).collect();
                return Err(Failure::refused(format!(
                    "{}:{number}: `{shown}` is not a finite number",
                    file.display()
                ))
                .hint("write one value per line; an empty line is a missing value"));
            }
        };
        series.values.push(value);
        series.places.push(number);
    }
    Ok(series)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(rename = "const", default)]
    constant: Option<f64>,
    #[serde(default)]
    ar: Vec<f64>,
    #[serde(default)]
    ma: Vec<f64>,
    sigma2: f64,
}

/// Reads known parameters of an order.
pub(crate) fn params(file: &Path, order: Option<Order>) -> Result<Arima, Failure> {
    let text = files::read_text(file)?;
    let refused = || format!("{} holds no parameters of this model", file.display());
    let params: Params = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Refused, refused())
            .hint("write {\"const\": 0, \"ar\": [..], \"ma\": [..], \"sigma2\": 1}")
            .because(error)
    })?;
    let Order(order) = order.ok_or_else(|| Failure::usage("--params needs --order"))?;
    Arima::at_fixed(order, params.constant.unwrap_or(0.0), &params.ar, &params.ma, params.sigma2)
        .or_exit(Exit::Refused, refused)
}
