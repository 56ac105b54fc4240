//! Export: JSONL that imports again, or CSV.

use std::io::Write;

use nightshift_core::files;
use nightshift_core::interaction::{Interaction, in_window};
use nightshift_core::{Ctx, Failure, OrFail, Outcome};
use serde_json::json;

use crate::query::window;
use crate::{ExportArgs, ExportFormat};

const COLUMNS: [&str; 14] = [
    "id",
    "ts",
    "target",
    "model",
    "adapter_id",
    "query",
    "response",
    "success",
    "success_source",
    "confidence",
    "failure_class",
    "latency_ms",
    "tags",
    "error",
];

pub(crate) fn run(ctx: &Ctx, args: &ExportArgs) -> Result<Outcome, Failure> {
    if ctx.printer.is_json() && args.out.is_none() {
        return Err(Failure::usage("--json and an export to stdout would mix").hint("add --out FILE"));
    }
    let store = ctx.store()?;
    let rows = in_window(store.read(), &ctx.config.target, window(ctx, &args.span)?)?;
    let rows: Vec<Interaction> = rows.into_iter().map(|row| row.interaction).collect();
    if rows.is_empty() {
        return Err(Failure::nothing("there is no interaction to export in this span"));
    }
    let bytes = match args.format {
        ExportFormat::Jsonl => jsonl(&rows),
        ExportFormat::Csv => csv_table(&rows),
    };
    let bytes = bytes.or_fail(|| "the export cannot be written".into())?;
    let Some(out) = &args.out else {
        ctx.printer.data(&String::from_utf8_lossy(&bytes));
        return Ok(Outcome::done(&json!({"rows": rows.len()}), ""));
    };
    if !ctx.dry_run {
        files::write_atomic(out, &bytes)?;
    }
    let text = format!("{} interactions written to {}", rows.len(), out.display());
    Ok(Outcome::done(&json!({"rows": rows.len(), "path": out}), text))
}

fn jsonl(rows: &[Interaction]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)?;
        bytes.write_all(b"\n")?;
    }
    Ok(bytes)
}

fn csv_table(rows: &[Interaction]) -> std::io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for row in rows {
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        writer.write_record([
            row.id.as_str(),
            &row.ts,
            &row.target,
            row.model.as_deref().unwrap_or_default(),
            row.adapter_id.as_deref().unwrap_or_default(),
            &row.query,
            row.response.as_deref().unwrap_or_default(),
            &row.success.map(|success| success.to_string()).unwrap_or_default(),
            row.success_source.as_deref().unwrap_or_default(),
            &number(row.confidence),
            row.failure_class.as_deref().unwrap_or_default(),
            &number(row.latency_ms),
            &row.tags.join(" "),
            row.error.as_deref().unwrap_or_default(),
        ])?;
    }
    writer.into_inner().map_err(|error| std::io::Error::other(error.to_string()))
}
