//! Tags and feedback.

use nightshift_core::clock::rfc3339;
use nightshift_core::interaction::{self, Feedback};
use nightshift_core::random::new_id;
use nightshift_core::rusqlite::params;
use nightshift_core::{Ctx, Failure, Outcome, events};
use serde_json::json;

use crate::FeedbackArgs;

fn unknown(id: &str) -> Failure {
    Failure::nothing(format!("there is no interaction `{id}`")).hint("memory list shows the ids")
}

pub(crate) fn tag(ctx: &Ctx, id: &str, tags: &[String], remove: bool) -> Result<Outcome, Failure> {
    let mut store = ctx.store()?;
    let tags = store.write(|tx| {
        let mut row = interaction::by_id(tx, id)?.ok_or_else(|| unknown(id))?.interaction;
        for tag in tags {
            row.tags.retain(|known| known != tag);
            if !remove {
                row.tags.push(tag.clone());
            }
        }
        let text = json!(row.tags).to_string();
        if !ctx.dry_run {
            tx.execute("UPDATE interactions SET tags = ?2 WHERE id = ?1", params![id, text])?;
        }
        Ok(row.tags)
    })?;
    Ok(Outcome::done(&json!({"id": id, "tags": tags}), tags.join(" ")))
}

/// -1 to 1 from `up`, `down` or a number.
fn value(text: &str) -> Result<f64, Failure> {
    match text {
        "up" | "good" | "+" => Ok(1.0),
        "down" | "bad" | "-" => Ok(-1.0),
        _ => text.parse().ok().filter(|value| (-1.0..=1.0).contains(value)).ok_or_else(|| {
            Failure::usage(format!("`{text}` is no opinion")).hint("say up, down, or a number from -1 to 1")
        }),
    }
}

pub(crate) fn feedback(ctx: &Ctx, args: &FeedbackArgs) -> Result<Outcome, Failure> {
    let now = ctx.clock.now();
    let id = new_id(now);
    let row = Feedback {
        interaction_id: args.id.clone(),
        ts: rfc3339(now),
        source: args.source.clone(),
        source_id: id.clone(),
        id,
        value: value(&args.value)?,
        comment: args.comment.clone(),
        correction: args.correction.clone(),
    };
    let mut store = ctx.store()?;
    let success = store.write(|tx| {
        interaction::by_id(tx, &args.id)?.ok_or_else(|| unknown(&args.id))?;
        if !ctx.dry_run {
            interaction::insert_feedback(tx, &row)?;
            let payload = json!({"value": row.value, "source": row.source});
            events::publish(tx, now, events::MEMORY_FEEDBACK, &args.id, &payload)?;
        }
        Ok(interaction::by_id(tx, &args.id)?.and_then(|row| row.success()))
    })?;
    Ok(Outcome::done(&json!({"id": row.id, "value": row.value, "succeeded": success}), row.id.clone()))
}
