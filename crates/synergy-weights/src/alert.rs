//! Counts and alerts of failed updates.

use nightshift_core::metrics::{self, Metric};
use nightshift_core::{Ctx, Failure};
use nightshift_net::news::tell;
use nightshift_net::webhook::Status;

/// Sends `[kind] message (k=v ...)` to the webhook, and says it on stderr.
pub(crate) fn alert(ctx: &Ctx, kind: &str, severe: bool, message: &str, context: &[(&str, String)]) {
    let context: Vec<String> = context.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = format!("[{kind}] {message} ({})", context.join(" "));
    ctx.printer.error(&text);
    tell(ctx, if severe { Status::Error } else { Status::Warning }, kind, &text);
}

/// An update that failed: counted, and an alert each time. `severe`: not the first time.
pub(crate) fn update_failed(ctx: &Ctx, path: &std::path::Path, failure: &Failure, severe: bool) {
    count(ctx, metrics::SYNERGY_UPDATE_FAILURES);
    let context = [("path", path.display().to_string()), ("error", failure.chain())];
    alert(ctx, "synergy_weight_update_failure", severe, "Weight update failed", &context);
    count(ctx, metrics::SYNERGY_UPDATE_ALERTS);
}

/// Counts in the store, where this home has one: no store is made for a number.
pub(crate) fn count(ctx: &Ctx, metric: Metric) {
    if !ctx.paths.store().exists() {
        return;
    }
    let counted = ctx.store().and_then(|mut store| store.write(|tx| metrics::add(tx, metric, "", 1.0)));
    if let Err(failure) = counted {
        tracing::warn!(error = failure.chain(), metric = metric.name, "the metric was not counted");
    }
}
