//! What the commands print.

use std::fmt::Write as _;

use serde::Serialize;

use super::Target;
use super::plan::{Planned, Verdict};
use super::record::ConfigChange;

/// Of `plan` and `apply`: one recommendation.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    pub(super) recommendation: String,
    pub(super) title: String,
    /// `ready`, `applied`, `unchanged`, `not_applicable`, `refused`, `failed`, `reverted`.
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) change: Option<ConfigChange>,
    pub(super) diff: String,
}

impl Item {
    pub(super) fn planned(planned: Planned) -> Self {
        let status = match planned.verdict {
            Verdict::Ready => "ready",
            Verdict::Unchanged => "unchanged",
            Verdict::NotApplicable => "not_applicable",
            Verdict::Refused => "refused",
        };
        Self {
            recommendation: planned.recommendation,
            title: planned.title,
            status: status.into(),
            reason: planned.reason,
            change: planned.change,
            diff: planned.diff,
        }
    }
}

/// Of `plan` and `apply`.
#[derive(Debug, Serialize)]
pub(super) struct PlanReport {
    pub(super) file: String,
    pub(super) rules: String,
    pub(super) items: Vec<Item>,
}

impl PlanReport {
    pub(super) fn new(target: &Target, items: Vec<Item>) -> Self {
        Self { file: target.file.display().to_string(), rules: target.rules.name.clone(), items }
    }

    pub(super) fn count(&self, status: &str) -> usize {
        self.items.iter().filter(|item| item.status == status).count()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let _ = writeln!(text, "{}: {} - {}", item.status, item.title, item.reason);
            if let Some(change) = &item.change {
                let before =
                    change.before.as_ref().map_or_else(|| "(missing)".to_owned(), ToString::to_string);
                let _ = writeln!(text, "  {}: {before} -> {}", change.key_path, change.after);
                if change.applied_at.is_some() {
                    let _ = writeln!(text, "  change {}", change.id);
                }
                if let Some(reload) = &change.reload {
                    let _ = writeln!(text, "  reload {}: {}", reload.state, reload.detail);
                }
            }
            text += &item.diff;
        }
        text
    }
}

/// Of `changes`.
#[derive(Debug, Serialize)]
pub(super) struct ListReport {
    pub(super) changes: Vec<ConfigChange>,
}

impl ListReport {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let at = change.applied_at.as_deref().unwrap_or(&change.planned_at);
            let before = change.before.as_ref().map_or_else(|| "(missing)".to_owned(), ToString::to_string);
            let _ = writeln!(
                text,
                "{}  {at}  {:<9} {}: {before} -> {}  ({})\n    {}",
                change.id,
                change.status.name(),
                change.key_path,
                change.after,
                change.file.display(),
                change.why
            );
        }
        text
    }
}

/// Of `rollback` and `keep`.
#[derive(Debug, Serialize)]
pub(super) struct ChangeReport<'a> {
    pub(super) change: &'a ConfigChange,
}
