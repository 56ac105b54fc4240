//! Going back: which earlier states there are, and making one of them live again.
//!
//! Going back never erases anything. It is a new generation that holds what an earlier one held and names
//! the generation that first brought it, so a return of a return points at the original.

use rusqlite::{Connection, Transaction, params};
use serde::Serialize;

use crate::clock::rfc3339;
use crate::ctx::Ctx;
use crate::error::Failure;
use crate::exchange::{self, Snapshot};
use crate::pointer::{self, Pointer, Switch};
use crate::release;
use crate::store::Store;
use crate::summary::RollbackSummary;

/// Exchanges that a summary's snapshots are made of.
const NEWEST: usize = 500;

/// A state that may be made live again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GoodState {
    /// The generation in which it was last good; 0 is the time before the first deployment.
    pub generation: i64,
    /// What was live; absent for the base model.
    pub adapter_id: Option<String>,
    /// The generation that first brought it: what a return of a return points at.
    pub original: i64,
}

/// The states that may be returned to, newest first: good generations before the present one whose adapter
/// is another one and is neither banned nor cleaned up. The base model alone was there before generation 1.
pub fn good_states(connection: &Connection, target: &str) -> Result<Vec<GoodState>, Failure> {
    let live = pointer::read(connection, target)?;
    let mut statement = connection.prepare(
        "SELECT h.generation, h.adapter_id, (SELECT min(o.generation) FROM pointer_history o
             WHERE o.target = h.target AND o.adapter_id = h.adapter_id AND o.state = 'good')
         FROM pointer_history h LEFT JOIN releases r ON r.adapter_id = h.adapter_id
         WHERE h.target = ?1 AND h.state = 'good' AND h.generation < ?2 AND h.adapter_id IS NOT ?3
             AND (h.adapter_id IS NULL OR r.status IN ('new', 'good'))
         ORDER BY h.generation DESC",
    )?;
    let rows = statement.query_map(params![target, live.generation, live.adapter_id], |row| {
        let original: Option<i64> = row.get(2)?;
        Ok(GoodState { generation: row.get(0)?, adapter_id: row.get(1)?, original: original.unwrap_or(0) })
    })?;
    let mut states: Vec<GoodState> = Vec::new();
    for row in rows {
        let state = row?;
        if states.iter().all(|known| known.adapter_id != state.adapter_id) {
            states.push(state);
        }
    }
    if live.adapter_id.is_some() && states.iter().all(|state| state.adapter_id.is_some()) {
        states.push(GoodState { generation: 0, adapter_id: None, original: 0 });
    }
    Ok(states)
}

/// The newest of [`good_states`] whose adapter is still whole on disk.
pub fn newest_restorable(ctx: &Ctx, store: &Store) -> Result<Option<GoodState>, Failure> {
    for state in good_states(store.read(), &ctx.config.target)? {
        let whole = state.adapter_id.as_ref().map(|id| release::verify(&ctx.paths.loras().join(id)));
        match whole {
            Some(Err(failure)) => {
                tracing::warn!(generation = state.generation, "passed over: {}", failure.chain());
            }
            _ => return Ok(Some(state)),
        }
    }
    Ok(None)
}

/// A wanted return.
#[derive(Debug, Clone)]
pub struct Return<'a> {
    /// The pointer that is left; the return is refused if it moved meanwhile.
    pub from: &'a Pointer,
    /// What becomes live again.
    pub to: &'a GoodState,
    /// What is left did something wrong: its digest is banned and its generation is no good state.
    pub ban: bool,
    /// The deployment that asks.
    pub deployment_id: Option<&'a str>,
    /// The reason, for a person.
    pub why: &'a str,
}

/// Moves the pointer back, within `tx`.
pub fn go_back(ctx: &Ctx, tx: &Transaction<'_>, wanted: &Return<'_>) -> Result<Pointer, Failure> {
    let switch = Switch {
        expected: wanted.from.generation,
        adapter_id: wanted.to.adapter_id.as_deref(),
        lease: None,
        deployment_id: wanted.deployment_id,
        why: wanted.why,
    };
    let pointer = pointer::switch(ctx, tx, &switch)?;
    if wanted.ban {
        pointer::set_history(tx, &ctx.config.target, wanted.from.generation, "bad")?;
        if let Some(adapter) = &wanted.from.adapter_id {
            release::mark(tx, adapter, "bad", Some(wanted.why))?;
        }
    }
    Ok(pointer)
}

/// The summary of a return, before anybody has asked the server.
pub fn summary(ctx: &Ctx, store: &Store, wanted: &Return<'_>) -> Result<RollbackSummary, Failure> {
    let target = &ctx.config.target;
    let seen = |adapter: Option<&str>| exchange::history(&ctx.paths, store, target, adapter, NEWEST);
    let named = |adapter: Option<&str>| adapter.unwrap_or("none").to_owned();
    let (from, to) = (wanted.from.adapter_id.as_deref(), wanted.to.adapter_id.as_deref());
    Ok(RollbackSummary {
        rollback_timestamp: rfc3339(ctx.clock.now()),
        rollback_target: named(to),
        failed_deployment: named(from),
        generation: wanted.from.generation + 1,
        restores_generation: wanted.to.original,
        pre_rollback: Snapshot::over(&seen(from)?),
        post_rollback: Snapshot::over(&seen(to)?),
        rollback_reason: wanted.why.to_owned(),
        service_health: "unknown".into(),
        rollback_status: "completed".into(),
    })
}
