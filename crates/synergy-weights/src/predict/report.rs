//! The `--json` object of `predict` and its text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nightshift_core::Outcome;
use nightshift_stats::forecast::Forecast;
use serde::Serialize;

use super::chart::sparkline;
use super::input::Series;

/// One forecast.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The file, or the metric.
    name: String,
    /// (p, d, q).
    order: [usize; 3],
    /// What decided for the model.
    rule: &'static str,
    /// Its parameters; `const` is the mean of the process, with d = 1 the drift.
    model: Model,
    /// Exact log-likelihood.
    loglik: f64,
    /// Expected values, one step ahead first.
    forecast: Vec<f64>,
    /// Ends of the interval.
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// Share of the values to come that the interval shall cover.
    level: f64,
    /// Values used, and lines or rows without one.
    observed: usize,
    missing: usize,
    /// Lines or rows whose values were taken for outliers.
    outliers: Vec<i64>,
    /// Time of selection and fit.
    seconds: f64,
    #[serde(skip)]
    spark: String,
}

#[derive(Debug, Clone, Serialize)]
struct Model {
    #[serde(rename = "const")]
    constant: f64,
    ar: Vec<f64>,
    ma: Vec<f64>,
    sigma2: f64,
}

#[derive(Debug, Serialize)]
struct One<'a> {
    #[serde(flatten)]
    report: &'a Report,
    picture: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Many<'a> {
    metrics: BTreeMap<&'a str, &'a Report>,
    picture: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(series: &Series, made: &Forecast, level: f64, seconds: f64) -> Self {
        let model = &made.model;
        let observed = made.observed;
        Self {
            name: series.name.clone(),
            order: model.order(),
            rule: made.rule,
            model: Model {
                constant: model.constant,
                ar: model.ar.clone(),
                ma: model.ma.clone(),
                sigma2: model.sigma2,
            },
            loglik: made.log_likelihood,
            forecast: made.mean.clone(),
            lower: made.lower.clone(),
            upper: made.upper.clone(),
            level,
            observed,
            missing: series.values.len() - series.observed(),
            outliers: made.outliers.iter().map(|&at| series.places[at]).collect(),
            seconds,
            spark: sparkline(&series.values, &made.mean),
        }
    }

    /// Name and model in words.
    pub(crate) fn title(&self) -> String {
        let [p, d, q] = self.order;
        let drift = if d == 1 && self.model.constant != 0.0 { " with drift" } else { "" };
        let values = if self.observed == 1 { "value" } else { "values" };
        let odd = match self.outliers.len() {
            0 => String::new(),
            1 => ", 1 outlier left out".into(),
            more => format!(", {more} outliers left out"),
        };
        format!("{}: ARIMA({p},{d},{q}){drift}, {}, {} {values}{odd}", self.name, self.rule, self.observed)
    }

    fn text(&self, plot: bool) -> String {
        let mut text = self.title();
        if plot {
            text.push_str(&format!("\n  {}", self.spark));
        }
        let percent = 100.0 * self.level;
        for (h, mean) in self.forecast.iter().enumerate() {
            let (low, high) = (self.lower[h], self.upper[h]);
            text.push_str(&format!(
                "\n  +{:<3} {:>12}  {percent:.0} % in {} .. {}",
                h + 1,
                short(*mean),
                short(low),
                short(high)
            ));
        }
        if self.observed == 1 {
            text.push_str("\n  one value says nothing about spread: the interval has no width");
        }
        text
    }
}

/// Six significant digits, however large or small.
pub(super) fn short(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 {
        "0".into()
    } else if (1e-4..1e7).contains(&size) {
        let digits = (5 - size.log10().floor() as i32).max(0) as usize;
        let fixed = format!("{x:.digits$}");
        if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').into() } else { fixed }
    } else {
        format!("{x:.5e}")
    }
}

/// A single forecast has its fields at the top, several stand under `metrics`.
pub(crate) fn outcome(reports: Vec<Report>, plot: bool, picture: Option<PathBuf>, single: bool) -> Outcome {
    let mut text: Vec<String> = reports.iter().map(|report| report.text(plot)).collect();
    if let Some(file) = &picture {
        text.push(format!("picture: {}", file.display()));
    }
    let text = text.join("\n");
    match reports.as_slice() {
        [report] if single => Outcome::done(&One { report, picture }, text),
        several => {
            let metrics = several.iter().map(|report| (report.name.as_str(), report)).collect();
            Outcome::done(&Many { metrics, picture }, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn six_digits_are_enough_for_a_person() {
        let cases =
            [(0.0, "0"), (0.0012345678, "0.00123457"), (123.0, "123"), (1e9, "1.00000e9"), (-2.5, "-2.5")];
        for (x, want) in cases {
            assert_eq!(short(x), want);
        }
        assert_eq!(short(9_999_999.0), "9999999");
    }
}
