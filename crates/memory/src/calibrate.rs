//! P(right) from the smallest token probability, fitted on feedback (Platt 1999: logistic regression
//! on one feature, here the logit of the probability, with a small L2 penalty).

use nightshift_core::clock::Window;
use nightshift_core::interaction::{self, Calibration};
use nightshift_core::jiff::Timestamp;
use nightshift_core::journal::{self, Change};
use nightshift_core::{Ctx, Failure, OrFail, Outcome};
use nightshift_stats::calibrate::{Logistic, auc, brier, expected_calibration_error};
use serde_json::json;

use crate::report::CalibrateReport;

/// Penalty on the slope: keeps a separable day from an infinite one.
const L2: f64 = 0.1;
/// Bins of the expected calibration error.
const BINS: usize = 10;

pub(crate) fn run(ctx: &Ctx) -> Result<Outcome, Failure> {
    let mut store = ctx.store()?;
    let target = &ctx.config.target;
    let everything = Window { from: Timestamp::UNIX_EPOCH, to: Timestamp::MAX };
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for row in interaction::in_window(store.read(), target, everything)? {
        if let (Some(p), Some(value)) =
            (row.interaction.min_token_prob, row.feedback.filter(|value| *value != 0.0))
        {
            features.push([Calibration::feature(p)]);
            labels.push(value > 0.0);
        }
    }
    let (rows, needed) = (labels.len(), ctx.config.memory.calibrate_min);
    let good = labels.iter().filter(|label| **label).count();
    if rows < needed || good == 0 || good == rows {
        return Err(Failure::nothing(format!(
            "{rows} answers with feedback ({good} good), {needed} of both kinds are needed to calibrate"
        ))
        .hint("collect thumbs up as well as down: POST /v1/feedback, or memory feedback ID up"));
    }
    let model =
        Logistic::fit(&features, &labels, L2).or_fail(|| "the calibration cannot be fitted".into())?;
    let fitted =
        Calibration { intercept: model.intercept, slope: model.weights.first().copied().unwrap_or(0.0) };
    if fitted.slope <= 0.0 {
        return Err(Failure::refused(format!(
            "surer answers are not more often right (slope {:.3} on {rows} answers): confidence says nothing here",
            fitted.slope
        )));
    }
    let probabilities: Vec<f64> = features.iter().map(|x| model.predict(x)).collect();
    let fit = || "the calibration cannot be judged".to_owned();
    let quality = (
        auc(&probabilities, &labels).or_fail(fit)?,
        brier(&probabilities, &labels).or_fail(fit)?,
        expected_calibration_error(&probabilities, &labels, BINS).or_fail(fit)?,
    );
    if !ctx.dry_run {
        let before = json!(interaction::calibration(store.read(), target)?);
        store.write(|tx| {
            interaction::store_calibration(tx, ctx.clock.now(), target, fitted, rows, quality)?;
            let why = format!("fitted on {rows} answers with feedback");
            let change =
                Change { kind: "calibration", subject: target, before, after: json!(fitted), why: &why };
            journal::append(ctx, tx, &change)
        })?;
    }
    let report = CalibrateReport {
        target: target.clone(),
        rows,
        intercept: fitted.intercept,
        slope: fitted.slope,
        auc: quality.0,
        brier: quality.1,
        ece: quality.2,
    };
    let text = format!(
        "P(right) = logistic({:.3} + {:.3} logit p) on {rows} answers; AUC {:.3}, Brier {:.3}, ECE {:.3}",
        report.intercept, report.slope, report.auc, report.brier, report.ece
    );
    Ok(Outcome::done(&report, text))
}
