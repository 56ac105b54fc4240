//! `show`, `export`, `import`, `reset`: the weights by hand.

use std::path::{Path, PathBuf};

use clap::Args;
use nightshift_core::config::nearest;
use nightshift_core::synergy::start::read_weights;
use nightshift_core::synergy::weights::Change;
use nightshift_core::synergy::{METRICS, RANGE, UNIT, Values, object};
use nightshift_core::{Ctx, Failure, Outcome, files};
use serde_json::{Map, Value, json};

use crate::place::{Place, say};
use crate::report::{Changed, Shown};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Where to; `-` for stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: String,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// JSON object of weights, any subset of the seven, each from 0 to 10
    file: PathBuf,
    #[command(flatten)]
    why: Why,
}

/// The reason of a change.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Shows the weights that count and where each comes from.
pub(crate) fn show(ctx: &Ctx, place: &Place) -> Result<Outcome, Failure> {
    let loaded = place.load(ctx)?;
    for (name, source) in METRICS.iter().zip(&loaded.sources) {
        ctx.printer.note(&format!("{name}: from the {source}"));
    }
    let sources: Map<String, Value> =
        METRICS.iter().zip(&loaded.sources).map(|(name, source)| ((*name).into(), json!(source))).collect();
    let report = Shown {
        path: place.path.clone(),
        weights: object(&loaded.weights),
        sources,
        notes: loaded.notes.clone(),
    };
    Ok(Outcome::done(&report, pretty(&loaded.weights)))
}

/// Writes the weights that count.
pub(crate) fn export(ctx: &Ctx, place: &Place, arguments: &Export) -> Result<Outcome, Failure> {
    let loaded = place.load(ctx)?;
    let weights = object(&loaded.weights);
    if arguments.out == "-" {
        return Ok(Outcome::done(&json!({"weights": weights, "out": "-"}), pretty(&loaded.weights)));
    }
    let out = Path::new(&arguments.out);
    if !ctx.dry_run {
        files::write_atomic(out, pretty(&loaded.weights).as_bytes())?;
    }
    let text = format!("wrote {}", out.display());
    Ok(Outcome::done(&json!({"weights": weights, "out": out}), text))
}

/// Takes weights over from a file.
pub(crate) fn import(ctx: &Ctx, place: &Place, arguments: &Import) -> Result<Outcome, Failure> {
    let file = &arguments.file;
    let given = read_weights(file, RANGE)?;
    warn_of_unknown(ctx, file);
    let reason = arguments.why.reason.clone().unwrap_or_else(|| format!("import {}", file.display()));
    change(ctx, place, &reason, |before| std::array::from_fn(|index| given[index].unwrap_or(before[index])))
}

/// Keys of an imported file that are no weights: most likely misspelt.
fn warn_of_unknown(ctx: &Ctx, file: &Path) {
    let whole = files::read_text(file).ok().and_then(|text| nightshift_core::synergy::parse(&text).ok());
    let Some(Value::Object(whole)) = whole else { return };
    for key in whole.keys().filter(|key| !METRICS.contains(&key.as_str()) && !key.starts_with('_')) {
        let meant = nearest(key, METRICS).map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        ctx.printer.note(&format!("note: {}: `{key}` is no weight and is left out{meant}", file.display()));
    }
}

/// Sets every weight to 1.
pub(crate) fn reset(ctx: &Ctx, place: &Place, why: &Why) -> Result<Outcome, Failure> {
    let reason = why.reason.clone().unwrap_or_else(|| "reset".into());
    change(ctx, place, &reason, |_| UNIT)
}

/// Changes the file, with its line in the log, under the lock.
fn change(
    ctx: &Ctx,
    place: &Place,
    reason: &str,
    decide: impl FnOnce(&Values) -> Values,
) -> Result<Outcome, Failure> {
    let (before, after) = if ctx.dry_run {
        let before = nightshift_core::synergy::weights::read(&place.path, &place.start)?;
        let after = decide(&before.weights);
        (before, after)
    } else {
        let held = place.hold(ctx)?;
        let before = held.read(&place.start)?;
        let after = decide(&before.weights);
        let change = Change { log: &place.log, at: ctx.clock.now(), reason };
        held.write(&before, &after, &change, &ctx.crash)?;
        (before, after)
    };
    say(ctx, &before);
    for name in place.overridden() {
        ctx.printer.note(&format!("note: {name} is set and stands over what the file says"));
    }
    let report = Changed {
        path: place.path.clone(),
        before: object(&before.weights),
        weights: object(&after),
        reason: reason.to_owned(),
        log: place.log.clone(),
    };
    let outcome = Outcome::done(&report, told(&before.weights, &after));
    Ok(if ctx.dry_run { outcome.status("planned") } else { outcome })
}

/// What moved, a line a weight.
pub(crate) fn told(before: &Values, after: &Values) -> String {
    let moved = METRICS.iter().zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
    let lines: Vec<String> =
        moved.map(|(name, (before, after))| format!("{name:<16}{before:>8.4} -> {after:.4}")).collect();
    if lines.is_empty() { "no weight moved".into() } else { lines.join("\n") }
}

fn pretty(weights: &Values) -> String {
    format!("{:#}", Value::Object(object(weights)))
}
