//! Costly models: a cheaper one that does as well on the same tasks, and where there is none, that is said.

use serde_json::json;

use super::context::Context;
use super::draft::Draft;
use super::facts::Facts;
use super::say::{bare, percent, short, usd};
use super::tools::{MARGIN, models_like, success};
use crate::recommendation::{ActionType, Saving};
use crate::tally::Cell;

/// A cheaper model costs at most this share.
const CHEAPER: f64 = 0.8;
/// Of the calls, the share that is simple enough to be routed away.
const SIMPLE: f64 = 0.5;

/// A model that could do the work.
struct Cheaper {
    name: String,
    /// Its price over that of the costly one.
    ratio: f64,
    /// Seen on the same tasks.
    same_tasks: bool,
}

pub(super) fn drafts(facts: Facts<'_>, context: &Context<'_>) -> Vec<Draft> {
    let operation = facts.operation();
    let Some(name) = operation else { return Vec::new() };
    let totals = context.totals(operation);
    let all_usd = totals.map(|totals| totals.cost_nano as f64 / 1e9);
    let spent = facts.number(&["total_cost_usd", "total_usd", "cost_usd", "dear_usd"]).or(all_usd);
    let daily = context.daily(spent.unwrap_or(0.0));
    let what = format!("{name} costs {} a day.", usd(daily));
    if !name.starts_with("llm:") {
        let mut draft = Draft::new(ActionType::ConfigUpdate, "set_budget", operation).saying(
            format!("Set a budget for {name}"),
            format!("{what} A limit per call stops the dearest ones."),
        );
        draft.certainty = if spent.is_some() { 0.9 } else { 0.7 };
        return vec![draft];
    }
    let cheaper = totals.and_then(|own| cheaper(name, own, context));
    let mut draft = if let Some(cheaper) = &cheaper {
        let where_seen = if cheaper.same_tasks {
            "does as well on the same tasks"
        } else {
            "fails as rarely over all (whether on the same tasks, the logs do not say)"
        };
        let mut draft = Draft::new(ActionType::ModelRouting, "route_to_cheaper_model", operation).saying(
            format!("Send simple tasks from {name} to llm:{}", cheaper.name),
            format!("{what} llm:{} costs {} of it and {where_seen}.", cheaper.name, percent(cheaper.ratio)),
        );
        draft.saving = Saving { usd_per_day: SIMPLE * daily * (1.0 - cheaper.ratio), ..Saving::default() };
        draft.certainty = if cheaper.same_tasks { 1.0 } else { 0.8 };
        draft.with(json!({"alternative": cheaper.name, "price_ratio": cheaper.ratio}))
    } else {
        let mut draft = Draft::new(ActionType::ModelRouting, "select_model_by_task", operation).saying(
                format!("Choose the model by task instead of {name} for all"),
                format!(
                    "{what} No other model in these logs is cheaper and shown to do as well, so what a change saves is not known."
                ),
            );
        draft.certainty = 0.9;
        draft
    };
    if spent.is_none() {
        draft.certainty *= 0.7;
    }
    draft = draft.with(json!({
        "suggested_action": "use_cheaper_model_for_simple_tasks", "usd_per_day": daily,
        "dear_calls_per_day": short(context.daily(facts.occurrences())).parse::<f64>().ok(),
    }));
    vec![draft]
}

/// Dollars a token, or a call where tokens are not known.
fn price(own: &Cell, other: &Cell) -> Option<f64> {
    let tokens = |cell: &Cell| cell.tokens.0 + cell.tokens.1;
    let each = |cell: &Cell, per: u64| (per > 0).then(|| cell.cost_nano as f64 / per as f64);
    let ratio = if tokens(own) > 0 && tokens(other) > 0 {
        each(other, tokens(other))? / each(own, tokens(own))?
    } else {
        each(other, other.calls)? / each(own, own.calls)?
    };
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// The cheapest model that does as well: one compared on the same tasks, else one by all its calls.
fn cheaper(name: &str, own: &Cell, context: &Context<'_>) -> Option<Cheaper> {
    let alike: Vec<&str> = models_like(name, own, context).into_iter().map(|(other, _)| other).collect();
    let models = context.operations.iter().filter(|(other, _)| other.starts_with("llm:") && *other != name);
    models
        .filter_map(|(other, cell)| {
            let ratio = price(own, cell).filter(|ratio| *ratio <= CHEAPER)?;
            let same_tasks = match on_same_tasks(name, other, context) {
                Some(as_well) => as_well.then_some(true)?,
                None => alike.contains(&bare(other)).then_some(false)?,
            };
            Some(Cheaper { name: bare(other).to_owned(), ratio, same_tasks })
        })
        .min_by(|a, b| b.same_tasks.cmp(&a.same_tasks).then(a.ratio.total_cmp(&b.ratio)))
}

/// Whether another model does as well on every task that both have worked on; `None` when there is no such task.
fn on_same_tasks(name: &str, other: &str, context: &Context<'_>) -> Option<bool> {
    let ours = context.tasks.iter().filter(|((_, op), _)| op == name);
    let both = ours.filter_map(|((task, _), ours)| {
        let theirs = context.tasks.get(&(task.clone(), other.to_owned()))?;
        Some((success(ours.calls, ours.errors)?, success(theirs.calls, theirs.errors)?))
    });
    both.map(|(ours, theirs)| theirs >= ours - MARGIN).reduce(|a, b| a && b)
}
