//! What a cycle reports; names of steps as in the documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::change::Repaired;
use crate::judge::open::{Judged, Outcome as Ended};
use crate::read::Problem;

/// A cycle.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cycle {
    pub(super) cycle_number: i64,
    pub(super) mode: &'static str,
    pub(super) dry_run: bool,
    pub(super) started_at: String,
    pub(super) steps: Steps,
    pub(super) problems: Vec<Problem>,
    pub(super) completed_at: String,
    /// Seconds.
    pub(super) duration: f64,
    /// Absent when it ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
}

/// What was done, in this order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Steps {
    pub(super) repair: Vec<Repaired>,
    pub(super) judgement: Judgement,
    pub(super) analysis: Analysis,
    pub(super) recommendations: Recommendations,
    pub(super) improvements: Improvements,
    pub(super) metrics: Metrics,
}

/// The changes that waited for a verdict.
#[derive(Debug, Default, Serialize)]
pub(super) struct Judgement {
    pub(super) kept: usize,
    pub(super) reverted: usize,
    pub(super) waiting: usize,
    /// Worse, and still there: `enable_rollback` is off, or it could not be taken back.
    pub(super) harmful: usize,
    pub(super) changes: Vec<Judged>,
}

impl Judgement {
    pub(super) fn of(changes: Vec<Judged>) -> Self {
        let count =
            |wanted: &[Ended]| changes.iter().filter(|judged| wanted.contains(&judged.outcome)).count();
        Self {
            kept: count(&[Ended::Kept]),
            reverted: count(&[Ended::Reverted]),
            waiting: count(&[Ended::Waiting, Ended::WouldKeep]),
            harmful: count(&[Ended::WouldRevert, Ended::NotReverted]),
            changes,
        }
    }

    pub(super) fn needs_a_person(&self) -> bool {
        self.changes.iter().any(|judged| judged.outcome == Ended::NotReverted)
    }
}

/// What the logs held.
#[derive(Debug, Default, Serialize)]
pub(super) struct Analysis {
    pub(super) entries: u64,
    pub(super) bad_lines: u64,
    pub(super) first_seen: Option<String>,
    pub(super) last_seen: Option<String>,
    pub(super) patterns_found: usize,
    pub(super) patterns_by_type: BTreeMap<String, usize>,
}

/// What follows from it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Recommendations {
    pub(super) total: usize,
    pub(super) by_priority: BTreeMap<String, usize>,
    /// Those of at least `min_confidence`.
    pub(super) confident: usize,
}

/// What was done about it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Improvements {
    pub(super) applied: usize,
    pub(super) failed: usize,
    /// Plans that passed their checks.
    pub(super) dry_run: usize,
    pub(super) queued: usize,
    pub(super) reverted: usize,
    pub(super) not_applicable: usize,
    /// Not now: another change first, tried not long ago, or the day's quota is used.
    pub(super) deferred: usize,
    /// What is left of the day's quota.
    pub(super) quota_left: u32,
    pub(super) items: Vec<Item>,
}

/// What became of one recommendation.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    pub(super) recommendation: String,
    pub(super) title: String,
    pub(super) confidence: f64,
    /// `applied`, `queued`, `would_apply`, `would_queue`, `deferred`, `not_applicable`, `failed`, `reverted`.
    pub(super) status: &'static str,
    pub(super) why: String,
    /// The change, or the queued one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) diff: String,
}

/// What was stored.
#[derive(Debug, Default, Serialize)]
pub(super) struct Metrics {
    pub(super) stored: usize,
}

impl Cycle {
    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let Steps { repair, judgement, analysis, recommendations, improvements, .. } = &self.steps;
        let _ = writeln!(text, "cycle {} ({}) in {:.1} s", self.cycle_number, self.mode, self.duration);
        for repaired in repair {
            let _ = writeln!(text, "  repaired: change {} is {}", repaired.id, repaired.status.name());
        }
        for judged in &judgement.changes {
            let word = serde_json::to_value(judged.outcome).unwrap_or_default();
            let word = word.as_str().unwrap_or_default().replace('_', " ");
            let _ = writeln!(text, "  {word}: {} ({})\n    {}", judged.title, judged.key_path, judged.why);
        }
        let _ = writeln!(
            text,
            "  {} entries, {} patterns, {} recommendations, {} of them confident",
            analysis.entries, analysis.patterns_found, recommendations.total, recommendations.confident
        );
        for item in &improvements.items {
            let id = item.id.as_deref().map_or(String::new(), |id| format!(" [{id}]"));
            let _ =
                writeln!(text, "  {}: {}{id}\n    {}", item.status.replace('_', " "), item.title, item.why);
            text += &item.diff;
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  {}: {}", problem.file, problem.reason);
        }
        text
    }
}
