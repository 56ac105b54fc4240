//! The row of a deployment: every transition together with its journal entry.

use nightshift_core::clock::rfc3339;
use nightshift_core::journal::{self, Change};
use nightshift_core::random::new_id;
use nightshift_core::rusqlite::{Transaction, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure};
use serde_json::{Value, json};

use crate::plan::Plan;

/// One transition. What is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step<'a> {
    /// The new state.
    pub(crate) state: &'a str,
    /// The deployment ends with it.
    pub(crate) ends: bool,
    /// The reason, for a person.
    pub(crate) reason: Option<&'a str>,
    /// The gate's verdict.
    pub(crate) verdict: Option<&'a str>,
    /// The gate's counts.
    pub(crate) gate: Option<Value>,
    /// The watch's counts, and the summary beside the live adapter.
    pub(crate) watch: Option<Value>,
}

/// Opens the row; its id.
pub(crate) fn begin(ctx: &Ctx, store: &mut Store, plan: &Plan) -> Result<String, Failure> {
    let now = ctx.clock.now();
    let id = new_id(now);
    let previous = plan.incumbent(ctx);
    store.write(|tx| {
        tx.execute(
            "INSERT INTO deployments (id, target, candidate, previous, state, started_at, pid)
             VALUES (?1, ?2, ?3, ?4, 'validating', ?5, ?6)",
            params![id, ctx.config.target, plan.candidate, previous, rfc3339(now), std::process::id()],
        )?;
        let after = json!({"state": "validating", "candidate": plan.candidate, "previous": previous});
        let change =
            Change { kind: "deployment", subject: &id, before: Value::Null, after, why: "asked for" };
        journal::append(ctx, tx, &change)
    })?;
    Ok(id)
}

/// Makes a transition within `tx`.
pub(crate) fn step(ctx: &Ctx, tx: &Transaction<'_>, id: &str, step: &Step<'_>) -> Result<(), Failure> {
    let before: String =
        tx.query_row("SELECT state FROM deployments WHERE id = ?1", [id], |row| row.get(0))?;
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    tx.execute(
        "UPDATE deployments SET state = ?2, reason = coalesce(?3, reason), verdict = coalesce(?4, verdict),
            gate = coalesce(?5, gate), watch = coalesce(?6, watch), ended_at = coalesce(?7, ended_at) WHERE id = ?1",
        params![
            id,
            step.state,
            step.reason,
            step.verdict,
            text(&step.gate),
            text(&step.watch),
            step.ends.then(|| rfc3339(ctx.clock.now()))
        ],
    )?;
    let change = Change {
        kind: "deployment",
        subject: id,
        before: json!({"state": before}),
        after: json!({"state": step.state, "verdict": step.verdict}),
        why: step.reason.unwrap_or_default(),
    };
    journal::append(ctx, tx, &change).map(|_| ())
}
