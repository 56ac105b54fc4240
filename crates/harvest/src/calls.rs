//! The table `council_calls`: an answer is stored before it is used, and never paid for twice.
//!
//! The key is the digest of everything that decides the answer: protocol version, endpoint, model,
//! prompt and limits. Only whole answers are reused; failures are asked again.

use std::collections::BTreeMap;

use nightshift_core::clock::rfc3339;
use nightshift_core::config::Member;
use nightshift_core::random::sha256_hex;
use nightshift_core::rusqlite::params;
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure};
use nightshift_net::openai::ChatRequest;
use serde_json::json;

use crate::prompt::PROTOCOL;

/// A stored answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) text: String,
    pub(crate) finish_reason: Option<String>,
    /// Smallest token probability of the answer part, where the endpoint tells.
    pub(crate) min_token_prob: Option<f64>,
}

/// The key of a call.
pub(crate) fn key(member: &Member, interaction_id: &str, request: &ChatRequest) -> String {
    let text = json!({
        "protocol": PROTOCOL, "base_url": member.base_url, "interaction": interaction_id, "request": request,
    });
    sha256_hex(text.to_string().as_bytes())
}

/// Plans calls: all of them are committed as in flight before the first one is sent.
pub(crate) fn plan(ctx: &Ctx, store: &mut Store, calls: &[(&str, &str, &str)]) -> Result<(), Failure> {
    let at = rfc3339(ctx.clock.now());
    store.write(|tx| {
        for (key, interaction_id, member) in calls {
            tx.prepare_cached(
                "INSERT INTO council_calls (key, interaction_id, member, stage, state, sent_at)
                 VALUES (?1, ?2, ?3, 'propose', 'in_flight', ?4)
                 ON CONFLICT (key) DO UPDATE SET state = 'in_flight', error = NULL, sent_at = excluded.sent_at
                 WHERE state <> 'done'",
            )?
            .execute(params![key, interaction_id, member, at])?;
        }
        Ok(())
    })
}

/// What earlier runs were answered.
pub(crate) fn done(store: &Store, keys: &[&str]) -> Result<BTreeMap<String, Stored>, Failure> {
    let mut statement = store.read().prepare(
        "SELECT response, finish_reason, min_token_prob FROM council_calls WHERE key = ?1 AND state = 'done'",
    )?;
    let mut found = BTreeMap::new();
    for key in keys {
        let mut rows = statement.query([key])?;
        if let Some(row) = rows.next()? {
            let stored =
                Stored { text: row.get(0)?, finish_reason: row.get(1)?, min_token_prob: row.get(2)? };
            found.insert((*key).to_owned(), stored);
        }
    }
    Ok(found)
}

/// Stores an answer.
pub(crate) fn answered(
    ctx: &Ctx,
    store: &mut Store,
    key: &str,
    stored: &Stored,
    attempts: u32,
    (prompt_tokens, completion_tokens): (i64, i64),
) -> Result<(), Failure> {
    store.write(|tx| {
        tx.prepare_cached(
            "UPDATE council_calls SET state = 'done', response = ?2, finish_reason = ?3, min_token_prob = ?4,
                attempts = attempts + ?5, http_status = 200, prompt_tokens = ?6, completion_tokens = ?7, done_at = ?8
             WHERE key = ?1",
        )?
        .execute(params![
            key, stored.text, stored.finish_reason, stored.min_token_prob, attempts, prompt_tokens, completion_tokens,
            rfc3339(ctx.clock.now())
        ])?;
        Ok(())
    })
}

/// Stores a failure, with what the provider said.
pub(crate) fn failed(
    ctx: &Ctx,
    store: &mut Store,
    key: &str,
    error: &str,
    status: Option<u16>,
    attempts: u32,
) -> Result<(), Failure> {
    store.write(|tx| {
        tx.prepare_cached(
            "UPDATE council_calls SET state = 'failed', error = ?2, http_status = ?3, attempts = attempts + ?4,
                done_at = ?5 WHERE key = ?1",
        )?
        .execute(params![key, error, status, attempts, rfc3339(ctx.clock.now())])?;
        Ok(())
    })
}
