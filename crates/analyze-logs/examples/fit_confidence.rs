//! Fits the curve of `recommend::confidence` on weeks whose planted problems are known, and says how well it holds on
//! others. See scripts/fit-confidence.
//!
//!     fit_confidence FIT_DIR CHECK_DIR      folders with <week>.report.json and <week>.truth.json

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use nightshift_analyze_logs::pattern::{Pattern, PatternType};
use nightshift_analyze_logs::recommend::{FEATURES, KINDS, confidence, features};
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::{Failure, OrFail, files};
use nightshift_stats::calibrate::{Logistic, brier, expected_calibration_error, reliability};
use serde::Deserialize;
use serde_json::json;

/// Of the penalty on the weights.
const L2: f64 = 1.0;
const BINS: usize = 10;

#[derive(Debug, Parser)]
struct Arguments {
    /// Weeks to fit on
    fit: PathBuf,
    /// Other weeks
    check: PathBuf,
}

#[derive(Deserialize)]
struct Report {
    patterns: Vec<Pattern>,
}

#[derive(Deserialize)]
struct Truth {
    planted: Vec<Planted>,
}

#[derive(Deserialize)]
struct Planted {
    pattern_type: PatternType,
    operation: String,
    #[serde(default)]
    other: Option<String>,
    from: Timestamp,
    until: Timestamp,
}

/// The rule of scripts/eval-detection: type, operation (of a correlation both), and time, three hours either way.
fn is_true(pattern: &Pattern, planted: &Planted) -> bool {
    let metric = pattern.metadata.get("metric").and_then(|metric| metric.as_str());
    let same = match (&planted.other, pattern.operation.as_deref()) {
        (None, operation) => operation == Some(&planted.operation),
        (Some(other), Some(operation)) => {
            let theirs = [planted.operation.as_str(), other];
            theirs.contains(&operation)
                && metric.is_some_and(|metric| theirs.contains(&metric))
                && metric != Some(operation)
        }
        (Some(_), None) => false,
    };
    let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let overlaps = match (time(&pattern.first_seen), time(&pattern.last_seen)) {
        (Some(first), Some(last)) => first <= planted.until + 3.hours() && planted.from <= last + 3.hours(),
        _ => true,
    };
    pattern.pattern_type == planted.pattern_type && same && overlaps
}

/// Not learned: success and skill have no truth, and what is above a threshold of time or cost is above it.
const COUNTED: [PatternType; 4] = [
    PatternType::SuccessfulPattern,
    PatternType::Skill,
    PatternType::SlowOperation,
    PatternType::HighCostOperation,
];

/// The findings of all weeks of a folder, and whether each is true.
fn labelled(folder: &Path) -> Result<(Vec<Pattern>, Vec<bool>), Failure> {
    let (mut patterns, mut labels) = (Vec::new(), Vec::new());
    for path in files::list(folder)? {
        let name = path.display().to_string();
        let Some(week) = name.strip_suffix(".report.json") else { continue };
        let told = || format!("cannot use week {week}");
        let report: Report = serde_json::from_slice(&files::read(&path)?).or_fail(told)?;
        let truth = files::read(Path::new(&format!("{week}.truth.json")))?;
        let truth: Truth = serde_json::from_slice(&truth).or_fail(told)?;
        for pattern in report.patterns {
            if !COUNTED.contains(&pattern.pattern_type) {
                labels.push(truth.planted.iter().any(|planted| is_true(&pattern, planted)));
                patterns.push(pattern);
            }
        }
    }
    Ok((patterns, labels))
}

/// The features and one switch a kind.
fn row(pattern: &Pattern) -> Vec<f64> {
    let kinds = KINDS.iter().map(|kind| f64::from(u8::from(*kind == pattern.pattern_type)));
    features(pattern).into_iter().chain(kinds).collect()
}

fn run(arguments: &Arguments) -> Result<String, Failure> {
    let failed = || "cannot fit".to_owned();
    let (patterns, labels) = labelled(&arguments.fit)?;
    let rows: Vec<Vec<f64>> = patterns.iter().map(row).collect();
    let fitted = Logistic::fit(&rows, &labels, L2).or_fail(failed)?;
    let mut out = format!(
        "const INTERCEPT: f64 = {:.3};\nconst WEIGHTS: [f64; {}] = [",
        fitted.intercept,
        FEATURES.len()
    );
    let numbers = |weights: &[f64]| weights.iter().map(|w| format!("{w:.3}")).collect::<Vec<_>>().join(", ");
    out.push_str(&format!("{}];\n", numbers(&fitted.weights[..FEATURES.len()])));
    for (kind, weight) in KINDS.iter().zip(&fitted.weights[FEATURES.len()..]) {
        let of: Vec<bool> =
            patterns.iter().zip(&labels).filter(|(p, _)| p.pattern_type == *kind).map(|(_, l)| *l).collect();
        let right = of.iter().filter(|label| **label).count();
        out.push_str(&format!("{kind:?}: {weight:.3} ({right} of {} true)\n", of.len()));
    }
    let (others, truth) = labelled(&arguments.check)?;
    let new: Vec<f64> = others.iter().map(|pattern| fitted.predict(&row(pattern))).collect();
    let built: Vec<f64> = others.iter().map(confidence).collect();
    for (name, probabilities) in [("as fitted now", &new), ("as built in", &built)] {
        let ece = expected_calibration_error(probabilities, &truth, BINS).or_fail(failed)?;
        out.push_str(&format!(
            "{name}, on {} findings of other weeks: ECE {ece:.4}, Brier {:.4}\n",
            truth.len(),
            brier(probabilities, &truth).or_fail(failed)?
        ));
        for bin in reliability(probabilities, &truth, BINS).or_fail(failed)? {
            out.push_str(&format!("  {}\n", json!(bin)));
        }
    }
    let ece = expected_calibration_error(&built, &truth, BINS).or_fail(failed)?;
    out.push_str(
        &json!({"name": "fit-confidence", "fit": labels.len(), "checked": truth.len(), "ece": ece})
            .to_string(),
    );
    Ok(out)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "fit_confidence: {}", failure.chain());
            ExitCode::FAILURE
        }
    }
}
