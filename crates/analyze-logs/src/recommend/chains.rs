//! Calls for nothing: repeats, ping-pong, retry storms.

use serde_json::json;

use super::context::Context;
use super::draft::Draft;
use super::facts::Facts;
use super::say::{seconds, short, usd};
use crate::recommendation::{ActionType, Saving};

pub(super) fn drafts(facts: Facts<'_>, context: &Context<'_>) -> Vec<Draft> {
    let kind = facts.text(&["kind", "chain_kind", "waste"]).unwrap_or_default().replace(['-', ' '], "_");
    let wasted_s = facts.seconds(&["wasted", "waste"]);
    let wasted_usd = facts.number(&["wasted_usd", "waste_usd"]);
    let known = wasted_s.is_some() || wasted_usd.is_some();
    let saving = |share: f64| Saving {
        seconds_per_day: share * context.daily(wasted_s.unwrap_or(0.0)),
        usd_per_day: share * context.daily(wasted_usd.unwrap_or(0.0)),
        failures_per_day: 0.0,
    };
    let first = facts.operation().unwrap_or("a chain of calls");
    let chain = &match facts.text(&["with"]) {
        Some(second) => format!("{first} and {second}"),
        None => first.to_owned(),
    };
    let what = format!(
        "{chain}: {} times a day, which costs {}{} a day.",
        short(context.daily(facts.occurrences())),
        seconds(context.daily(wasted_s.unwrap_or(0.0))),
        wasted_usd
            .filter(|usd| *usd > 0.0)
            .map_or(String::new(), |wasted| format!(" and {}", usd(context.daily(wasted))))
    );
    let new = |action| Draft::new(ActionType::ToolStrategy, action, facts.operation());
    let mut drafts = if kind.contains("repeat") {
        let mut cache = new("cache_calls").with(json!({"ttl_s": 300})).saying(
            format!("Keep the answers of {chain}"),
            format!("{what} The same call with the same arguments comes again: its answer can be kept."),
        );
        cache.saving = saving(1.0);
        let mut limit = new("limit_repeats").with(json!({"max_identical_calls": 2})).saying(
            format!("Refuse the third identical call of {chain}"),
            format!("{what} An agent that repeats itself needs to be told."),
        );
        limit.saving = saving(0.5);
        vec![cache, limit]
    } else if kind.contains("ping") {
        let mut draft = new("break_ping_pong").with(json!({"max_alternations": 3})).saying(
            format!("Stop going to and fro: {chain}"),
            format!("{what} Two tools answer each other without getting on: stop after three rounds."),
        );
        draft.saving = saving(0.7);
        draft.about.clone_from(chain);
        vec![draft]
    } else if kind.contains("storm") || kind.contains("retr") {
        let mut draft = new("back_off")
            .with(json!({"max_retries": 3, "initial_backoff_s": 2.0, "backoff_factor": 2.0, "jitter": true}))
            .saying(
                format!("Wait longer between attempts of {chain}"),
                format!(
                    "{what} It fails and is called again at once: wait, and give up after three attempts."
                ),
            );
        draft.saving = saving(0.7);
        vec![draft]
    } else {
        let mut draft = new("limit_chain").saying(
            format!("Look at what {chain} is for"),
            format!("{what} It takes more calls than other ways to the same end."),
        );
        draft.saving = saving(0.5);
        draft.about.clone_from(chain);
        draft.certainty = 0.9;
        vec![draft]
    };
    if !known {
        for draft in &mut drafts {
            draft.certainty *= 0.8;
        }
    }
    drafts
}
