//! What `--json` prints, and the same in a sentence.

use std::collections::BTreeMap;

use nightshift_core::Ctx;
use nightshift_core::clock::{Window, rfc3339};
use nightshift_verify::scan::Suspicion;
use serde::Serialize;

use crate::select::Selection;

/// The counts of one harvest.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// First instant of the span.
    pub(crate) since: String,
    /// First instant after it.
    pub(crate) until: String,
    /// Interactions in the span.
    pub(crate) interactions: usize,
    /// Failed ones.
    pub(crate) failures: usize,
    /// Taken because they were unsure.
    pub(crate) flagged: usize,
    /// Not taken, by reason.
    pub(crate) excluded: BTreeMap<String, usize>,
    /// Beyond `harvest.max_items`; a later run takes them.
    pub(crate) left_over: usize,
    /// Sent to the council, or about to be.
    pub(crate) asked: usize,
    /// Council calls.
    pub(crate) calls: Calls,
    /// Each member.
    pub(crate) members: Vec<MemberReport>,
    /// Answers agreed on in this run.
    pub(crate) agreed: usize,
    /// Agreed answers, by tier.
    pub(crate) tiers: BTreeMap<String, usize>,
    /// Not agreed on, by reason.
    pub(crate) abstained: BTreeMap<String, usize>,
    /// The council repeated the model's answer.
    pub(crate) false_alarms: usize,
    /// Not decided because members did not answer; a later run asks again.
    pub(crate) undecided: usize,
    /// What the scan found.
    pub(crate) suspicions: Vec<Suspicion>,
    /// Rows of today in quarantine.
    pub(crate) quarantined: usize,
    /// Rows of today in the training file.
    pub(crate) accepted: usize,
    /// Share of the asked interactions that became rows.
    pub(crate) rewrite_success_rate: Option<f64>,
    /// What decided acceptance.
    pub(crate) scorer: String,
    /// The training file, when there is one.
    pub(crate) training_file: Option<String>,
    /// Its digest.
    pub(crate) sha256: Option<String>,
    /// Its manifest.
    pub(crate) manifest: Option<String>,
}

/// Council calls of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Calls {
    /// Sent now.
    pub(crate) sent: usize,
    /// Answered by an earlier run and not sent again.
    pub(crate) reused: usize,
    /// Usable answers, reused ones included.
    pub(crate) answered: usize,
    /// Given up after retries.
    pub(crate) failed: usize,
}

/// One member in one run.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct MemberReport {
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    /// Taken out of this run, and why.
    pub(crate) error: Option<String>,
}

impl Report {
    pub(crate) fn new(ctx: &Ctx, window: Window, selection: &Selection) -> Self {
        let mut excluded = BTreeMap::new();
        for (_, reason) in &selection.excluded {
            *excluded.entry((*reason).to_owned()).or_default() += 1;
        }
        let scorer = match ctx.config.harvest.scorer {
            nightshift_core::config::Scorer::Tiers => "tiers",
            nightshift_core::config::Scorer::Legacy => "legacy",
        };
        Self {
            since: rfc3339(window.from),
            until: rfc3339(window.to),
            interactions: selection.interactions,
            failures: selection.failures,
            flagged: selection.flagged,
            excluded,
            left_over: selection.left_over,
            asked: selection.items.len(),
            scorer: scorer.into(),
            ..Self::default()
        }
    }

    /// The result for a person.
    pub(crate) fn sentence(&self) -> String {
        let mut text = format!(
            "{} of {} answers failed or were unsure; {} asked, {} agreed on, {} abstained, {} false alarms",
            self.failures + self.flagged,
            self.interactions,
            self.asked,
            self.agreed,
            self.abstained.values().sum::<usize>(),
            self.false_alarms
        );
        if self.undecided > 0 {
            text.push_str(&format!(", {} undecided (members missing)", self.undecided));
        }
        if self.quarantined > 0 {
            text.push_str(&format!(", {} rows quarantined", self.quarantined));
        }
        match &self.training_file {
            Some(file) => text.push_str(&format!("; {} rows in {file}", self.accepted)),
            None => text.push_str("; no training rows"),
        }
        text
    }
}
