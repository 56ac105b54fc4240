//! From findings to what could be done about them, ranked.
//!
//! Each kind of finding has one rule; a rule gives drafts, several of one finding are alternatives. Drafts of the same
//! proposal become one recommendation. What a finding does not say lowers the confidence and never stops the rest.

mod chains;
mod change;
mod confidence;
mod context;
mod cost;
mod draft;
mod errors;
mod facts;
mod late;
mod say;
mod score;
mod slow;
mod timeouts;
mod tools;

use std::collections::BTreeMap;

pub use confidence::{FEATURES, KINDS, confidence, features};
pub use context::Context;
pub use errors::{ErrorClass, classify};

use crate::pattern::{Pattern, PatternType};
use crate::recommendation::Recommendation;
use draft::{Draft, Proposal};
use facts::Facts;

/// What to do about findings, the most worthwhile first.
pub fn recommend(patterns: &[Pattern], context: &Context<'_>) -> Vec<Recommendation> {
    let all: Vec<Facts<'_>> = patterns.iter().map(Facts::of).collect();
    let mut proposals: BTreeMap<String, Proposal> = BTreeMap::new();
    for facts in all.iter().copied() {
        let drafts = drafts(facts, &all, context);
        let ids: Vec<String> = drafts.iter().map(Draft::id).collect();
        for (draft, id) in drafts.into_iter().zip(&ids) {
            let others = ids.iter().filter(|other| *other != id).cloned();
            proposals.entry(id.clone()).or_default().support(facts, draft, others);
        }
    }
    let objectives = &context.settings.objectives;
    let mut ranked: Vec<Recommendation> =
        proposals.into_iter().filter_map(|(id, proposal)| proposal.finish(id, objectives)).collect();
    ranked.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then(b.priority.cmp(&a.priority)).then_with(|| a.id.cmp(&b.id))
    });
    ranked
}

fn drafts(facts: Facts<'_>, all: &[Facts<'_>], context: &Context<'_>) -> Vec<Draft> {
    match facts.pattern.pattern_type {
        PatternType::RecurringError | PatternType::NewTemplate => errors::drafts(facts, all, context),
        PatternType::SlowOperation => slow::drafts(facts, all, context),
        PatternType::TimeoutPattern => timeouts::drafts(facts, context),
        PatternType::InefficientChain => chains::drafts(facts, context),
        PatternType::HighCostOperation => cost::drafts(facts, context),
        PatternType::SuccessfulPattern | PatternType::Skill => tools::drafts(facts, context),
        PatternType::LevelShift
        | PatternType::TailGrowth
        | PatternType::Burst
        | PatternType::Anomaly
        | PatternType::Drift
        | PatternType::Trend
        | PatternType::BreachForecast
        | PatternType::Correlation => change::drafts(facts, context),
        // Good news asks for nothing.
        PatternType::VanishedTemplate => Vec::new(),
    }
}
