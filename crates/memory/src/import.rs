//! Importing files and logging single interactions.

use nightshift_core::clock::{parse_time, rfc3339};
use nightshift_core::interaction::{self, Interaction, Message};
use nightshift_core::random::{derived_id, new_id, sha256_hex};
use nightshift_core::rusqlite::Transaction;
use nightshift_core::{Ctx, Failure, Outcome, events, jsonl};
use serde_json::{Map, Value, json};

use crate::judge::{Seal, settle};
use crate::report::ImportReport;
use crate::{Format, ImportArgs, LogArgs, openai};

/// Rows written in one transaction.
const BATCH: usize = 500;

pub(crate) fn run(ctx: &Ctx, args: &ImportArgs) -> Result<Outcome, Failure> {
    let mut report = ImportReport::default();
    let mut rows = Vec::new();
    for path in &args.files {
        let lines = jsonl::read::<Map<String, Value>>(path)?;
        report.bad_lines.extend(lines.bad.iter().map(ToString::to_string));
        for (line, object) in lines.rows {
            match read_line(ctx, object, args.format) {
                Ok(row) => rows.push(row),
                Err(why) => report.bad_lines.push(format!("{}:{line}: {why}", path.display())),
            }
        }
    }
    if !ctx.dry_run {
        let mut store = ctx.store()?;
        let seal = Seal::new(store.read())?;
        for batch in rows.chunks_mut(BATCH) {
            ctx.stop.check()?;
            store.write(|tx| batch.iter_mut().try_for_each(|row| add(ctx, tx, &seal, row, &mut report)))?;
        }
    }
    for bad in &report.bad_lines {
        ctx.printer.note(&format!("skipped {bad}"));
    }
    let plan =
        if ctx.dry_run { format!("would import {} interactions", rows.len()) } else { summary(&report) };
    if rows.is_empty() && !report.bad_lines.is_empty() {
        return Err(
            Failure::failed("no line could be used").hint(format!("the first: {}", report.bad_lines[0]))
        );
    }
    Ok(Outcome::done(&report, plan))
}

/// What was added, in a sentence.
pub(crate) fn summary(report: &ImportReport) -> String {
    let mut text = format!("{} added, {} known already", report.added, report.known);
    for (count, what) in [
        (report.feedback, "opinions added"),
        (report.sealed, "match an evaluation item and will never train"),
        (report.not_live, "were probes or gate questions"),
        (report.bad_lines.len(), "lines could not be used"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// Writes one row with its event, once.
pub(crate) fn add(
    ctx: &Ctx,
    tx: &Transaction<'_>,
    seal: &Seal,
    row: &mut Interaction,
    report: &mut ImportReport,
) -> Result<(), Failure> {
    settle(row, ctx.config.memory.success_above);
    let sealed = seal.mark(row);
    if interaction::insert(tx, row)? {
        report.added += 1;
        report.sealed += usize::from(sealed);
        let payload = json!({"target": row.target, "success": row.success, "tags": row.tags});
        events::publish(tx, ctx.clock.now(), events::MEMORY_NEW, &row.id, &payload)?;
    } else {
        report.known += 1;
    }
    Ok(())
}

fn read_line(ctx: &Ctx, object: Map<String, Value>, format: Format) -> Result<Interaction, String> {
    let is_openai = openai::recognises(&object);
    match format {
        Format::Openai => openai::read(&object, &ctx.config.target),
        Format::Auto if is_openai => openai::read(&object, &ctx.config.target),
        Format::Auto | Format::Jsonl => read_interaction(object, &ctx.config.target),
    }
}

/// An exported interaction, or one written by hand with the fields that cannot be guessed: `ts`, and
/// `query` or `messages`.
fn read_interaction(mut object: Map<String, Value>, target: &str) -> Result<Interaction, String> {
    let line = Value::Object(object.clone()).to_string();
    let ts = object.get("ts").and_then(Value::as_str).ok_or("the field `ts` is missing")?;
    let at = parse_time(ts).ok_or_else(|| format!("`{ts}` is not a time"))?;
    object.insert("ts".into(), rfc3339(at).into());
    let default = |object: &mut Map<String, Value>, key: &str, value: Value| {
        if object.get(key).is_none_or(Value::is_null) {
            object.insert(key.into(), value);
        }
    };
    default(&mut object, "target", target.into());
    default(&mut object, "source", "jsonl".into());
    default(&mut object, "source_id", sha256_hex(line.as_bytes()).into());
    if object.get("query").is_none_or(Value::is_null) {
        let messages = object.get("messages").cloned().unwrap_or_default();
        let messages: Vec<Message> =
            serde_json::from_value(messages).map_err(|error| format!("messages: {error}"))?;
        let last = messages.iter().rev().find(|message| message.role == "user");
        object
            .insert("query".into(), last.ok_or("neither `query` nor a user message")?.content.clone().into());
    }
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = derived_id(at, &format!("{}\n{}", text("source"), text("source_id")));
    default(&mut object, "id", id.into());
    let mut row: Interaction =
        serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
    if row.messages.is_empty() {
        row.messages.push(Message::user(row.query.clone()));
    }
    check_probabilities(&row)?;
    Ok(row)
}

fn check_probabilities(row: &Interaction) -> Result<(), String> {
    let fields = [
        ("confidence", row.confidence),
        ("min_token_prob", row.min_token_prob),
        ("mean_token_prob", row.mean_token_prob),
    ];
    for (name, value) in fields {
        if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(format!("{name} must be from 0 to 1"));
        }
    }
    Ok(())
}

pub(crate) fn log(ctx: &Ctx, args: LogArgs) -> Result<Outcome, Failure> {
    let now = ctx.clock.now();
    let id = new_id(now);
    let mut row = Interaction {
        ts: rfc3339(now),
        target: ctx.config.target.clone(),
        session_id: args.session,
        user_id: None,
        model: args.model,
        adapter_id: None,
        messages: vec![Message::user(args.query.clone())],
        query: args.query,
        response: args.response,
        success: args.success,
        confidence: args.confidence,
        min_token_prob: None,
        mean_token_prob: None,
        success_source: None,
        failure_class: None,
        finish_reason: None,
        http_status: None,
        latency_ms: args.latency_ms,
        ttft_ms: None,
        prompt_tokens: None,
        completion_tokens: None,
        cost_usd: None,
        error: args.error,
        tags: args.tags,
        no_train: args.no_train,
        source: "log".into(),
        source_id: id.clone(),
        metadata: Value::Null,
        id,
    };
    check_probabilities(&row).map_err(Failure::usage)?;
    let mut report = ImportReport::default();
    if !ctx.dry_run {
        let mut store = ctx.store()?;
        let seal = Seal::new(store.read())?;
        store.write(|tx| add(ctx, tx, &seal, &mut row, &mut report))?;
    }
    Ok(Outcome::done(&json!({"id": row.id, "success": row.success}), row.id.clone()))
}
