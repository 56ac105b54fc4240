//! A metrics registry in the store: short-lived tools write to it, `/metrics` reads from it.

use rusqlite::{Connection, Transaction, params};

use crate::error::Failure;

/// Counter or gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric that a program may write.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Full name, unit included.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its help line.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*
        /// Every metric kept in the store.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    TRAINING_COMPLETED = "autogen_training_completed_total", Counter, "Training runs that published an adapter.";
    TRAINING_DURATION = "autogen_training_duration_seconds", Gauge, "Seconds of the newest training run.";
    TRAINING_LOSS = "autogen_training_loss", Gauge, "Last loss of the newest training run, nats per answer token.";
    DEPLOYMENT_SUCCESS = "autogen_deployment_success_total", Counter, "Deployments that stayed.";
    ROLLBACK_TRIGGERED = "autogen_rollback_triggered_total", Counter, "Adapters taken back, by the watch or by hand.";
    QUALITY_IMPROVEMENT = "autogen_quality_improvement_ratio", Gauge,
        "Gate items right with the candidate over right with the incumbent, newest gate.";
    REWRITE_SUCCESS = "autogen_agent0_rewrite_success_rate", Gauge,
        "Share of the newest harvest's failures that became training rows.";
    GATE_DECISIONS = "nightshift_gate_decisions_total", Counter, "Gate verdicts, by verdict.";
    POINTER_GENERATION = "nightshift_pointer_generation", Gauge, "Generation of the live pointer.";
    SYNERGY_UPDATES = "synergy_weight_updates_total", Counter, "Trainings that wrote the synergy weights.";
    SYNERGY_UPDATE_FAILURES = "synergy_weight_update_failures_total", Counter,
        "Trainings that failed and left the synergy weights as they were.";
    SYNERGY_UPDATE_ALERTS = "synergy_weight_update_alerts_total", Counter,
        "Alerts sent because a training of the synergy weights failed.";
    NIGHTS = "nightshift_nights_total", Counter, "Nightly runs that ended, by result.";
}

/// Adds to a counter. `labels` is the inner text, for example `verdict="pass"`, or empty.
pub fn add(tx: &Transaction<'_>, metric: Metric, labels: &str, amount: f64) -> Result<(), Failure> {
    debug_assert!(metric.kind == Kind::Counter && amount >= 0.0, "{} is not a counter", metric.name);
    write(tx, metric, labels, amount, "value + excluded.value")
}

/// Sets a gauge.
pub fn set(tx: &Transaction<'_>, metric: Metric, labels: &str, value: f64) -> Result<(), Failure> {
    debug_assert!(metric.kind == Kind::Gauge, "{} is not a gauge", metric.name);
    write(tx, metric, labels, value, "excluded.value")
}

fn write(
    tx: &Transaction<'_>,
    metric: Metric,
    labels: &str,
    value: f64,
    update: &str,
) -> Result<(), Failure> {
    let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
    tx.prepare_cached(&format!(
        "INSERT INTO metrics (name, labels, kind, help, value) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name, labels) DO UPDATE SET value = {update}, help = excluded.help"
    ))?
    .execute(params![metric.name, labels, kind, metric.help, value])?;
    Ok(())
}

/// A label value with the escapes of the exposition format.
pub fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// One family in the text exposition format 0.0.4. Samples are (labels, value).
pub fn family(name: &str, kind: &str, help: &str, samples: &[(String, f64)]) -> String {
    use std::fmt::Write;
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in samples {
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "{name}{braces} {value}");
    }
    text
}

/// Everything in the registry as text exposition; metrics never written yet are shown as zero.
pub fn render(connection: &Connection) -> Result<String, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT labels, value FROM metrics WHERE name = ?1 ORDER BY labels")?;
    let mut text = String::new();
    for metric in METRICS {
        let rows = statement.query_map([metric.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut samples: Vec<(String, f64)> = rows.collect::<Result<_, _>>()?;
        if samples.is_empty() {
            samples.push((String::new(), 0.0));
        }
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        text.push_str(&family(metric.name, kind, metric.help, &samples));
    }
    Ok(text)
}
