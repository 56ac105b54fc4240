//! One sentence per night.

use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure, Outcome};
use serde_json::json;

use crate::record;

pub(crate) fn run(ctx: &Ctx, limit: usize) -> Result<Outcome, Failure> {
    let nights = match Store::open_read_only(&ctx.paths.store())? {
        Some(store) => record::nights(store.read(), &ctx.config.target, limit)?,
        None => Vec::new(),
    };
    if nights.is_empty() {
        return Err(Failure::nothing("there was no night yet").hint("nightly runs one"));
    }
    let mut text = String::new();
    for night in &nights {
        let sentence = match (night.state.as_str(), &night.summary) {
            ("running", _) => "running, or killed; run again to resume".to_owned(),
            (_, Some(summary)) => summary.clone(),
            (state, None) => state.to_owned(),
        };
        text.push_str(&format!("{}  {sentence}\n", night.date));
    }
    let rows: Vec<_> = nights
        .iter()
        .map(|night| {
            json!({"date": night.date, "state": night.state, "summary": night.summary,
            "started_at": night.started_at, "ended_at": night.ended_at})
        })
        .collect();
    Ok(Outcome::done(&json!({"nights": rows}), text))
}
