//! What to ask of the logs about a change: whose calls, against which time before.
//!
//! A change is compared with the weeks before it, from the last kept change of the same calls on. Kept changes may
//! each have done harm too small to be seen; so that it cannot add up, the anchor asks the same against the weeks
//! before the first of them. The chain begins anew after `CHAIN_WEEKS`, for a world that slowly changes by itself
//! is no change's fault, and after a change that a person confirmed.

use nightshift_core::Failure;
use nightshift_core::clock::parse_time;
use nightshift_core::config::{Judge, Split};
use nightshift_core::jiff::Timestamp;

use super::collect::{Question, Selector};
use crate::change::{ConfigChange, Status};
use crate::line::Kind;
use crate::recommendation::{ActionType, Recommendation};
use crate::tally::HOUR_US;

/// Microseconds of a week.
const WEEK_US: i64 = 168 * HOUR_US;
/// Changes kept longer ago are part of what is normal.
const CHAIN_WEEKS: i64 = 8;

/// What is known when questions are made.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// All changes there ever were.
    pub all: &'a [ConfigChange],
    /// Ids of those that a person confirmed.
    pub confirmed: &'a [String],
    /// The settings.
    pub rules: &'a Judge,
    /// Now.
    pub now: Timestamp,
    /// Arms, instead of the hours before.
    pub split: Option<&'a Split>,
}

impl Asking<'_> {
    /// The question about a change by itself, and, where other changes of the same calls were kept before, the one
    /// about all of them together.
    pub fn about(&self, change: &ConfigChange) -> Result<(Question, Option<Question>), Failure> {
        let at = time(change.applied_at.as_deref(), &change.id)?;
        let scope = scope(&change.recommendation);
        let (mut kept, mut harmful) = (Vec::new(), Vec::new());
        for other in self.all.iter().filter(|other| other.id != change.id) {
            let Ok(from) = time(other.applied_at.as_deref(), &other.id) else { continue };
            if from >= at || !meets(&self::scope(&other.recommendation), &scope) {
                continue;
            }
            match other.status {
                Status::Reverted => harmful.push((from, time(other.ended_at.as_deref(), &other.id)?)),
                Status::Kept | Status::Applied => kept.push((from, self.confirmed.contains(&other.id))),
                _ => {}
            }
        }
        kept.sort_unstable();
        let weeks = i64::from(self.rules.baseline_weeks) * WEEK_US;
        // What another change of the same calls did before is no baseline, nor is the time in which it did harm.
        let since = |until: i64| {
            let last = kept.iter().map(|(from, _)| *from).take_while(|from| *from < until).last();
            last.map_or(until - weeks, |last| last.max(until - weeks))
        };
        let own = Question {
            scope,
            at,
            baseline_from: since(at),
            without: harmful,
            until: self.now.as_microsecond(),
            late_us: raised_limit(change),
            split: self.split.cloned(),
        };
        let settled = kept.iter().rposition(|(_, confirmed)| *confirmed).map_or(0, |last| last + 1);
        let chain = kept[settled..].iter().map(|(from, _)| *from);
        let first = chain.into_iter().find(|from| *from >= at - CHAIN_WEEKS * WEEK_US);
        let anchor = first.filter(|_| self.split.is_none()).map(|first| {
            let mut anchor = Question { baseline_from: since(first), ..own.clone() };
            anchor.without.push((first, at));
            anchor
        });
        Ok((own, anchor))
    }
}

fn time(text: Option<&str>, id: &str) -> Result<i64, Failure> {
    let time = text.and_then(parse_time).map(Timestamp::as_microsecond);
    time.ok_or_else(|| Failure::failed(format!("the record of change {id} has no readable time")))
}

/// The calls that a change is about.
fn scope(advice: &Recommendation) -> Vec<Selector> {
    // A route moves calls from one model to another: only all of them together can be compared.
    if advice.action_type == ActionType::ModelRouting {
        return vec![Selector::Kind(Kind::Llm)];
    }
    let Some(operation) = &advice.operation else { return vec![Selector::All] };
    let mut scope = vec![Selector::Operation(operation.clone())];
    // So does another tool for the same work.
    if let Some(other) = advice.parameters.get("alternative").and_then(|value| value.as_str()) {
        let prefix = operation.split_once(':').map_or("", |(kind, _)| kind);
        let full = if other.contains(':') { other.to_owned() } else { format!("{prefix}:{other}") };
        scope.push(Selector::Operation(full));
    }
    scope
}

/// Whether two scopes may have calls in common.
fn meets(a: &[Selector], b: &[Selector]) -> bool {
    let kind = |name: &str, kind: Kind| name.starts_with(kind.prefix());
    a.iter().any(|a| {
        b.iter().any(|b| match (a, b) {
            (Selector::All, _) | (_, Selector::All) => true,
            (Selector::Operation(name), Selector::Kind(of))
            | (Selector::Kind(of), Selector::Operation(name)) => kind(name, *of),
            (a, b) => a == b,
        })
    })
}

/// Whether two recommendations are about the same calls: their effects could not be told apart.
pub(crate) fn entangled(a: &Recommendation, b: &Recommendation) -> bool {
    meets(&scope(a), &scope(b))
}

/// The old limit in microseconds, when the change raised one.
fn raised_limit(change: &ConfigChange) -> Option<u64> {
    if change.recommendation.action != "raise_timeout" {
        return None;
    }
    let old = change.before.as_ref()?.as_f64()?;
    let last = change.key_path.keys().last().map(String::as_str).unwrap_or_default();
    let unit = if last.ends_with("_ms") { 1e3 } else { 1e6 };
    (old > 0.0).then_some((old * unit) as u64)
}
