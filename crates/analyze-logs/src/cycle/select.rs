//! What may become of a recommendation: applied, queued, or left alone, and why.

use nightshift_core::Failure;
use nightshift_core::clock::parse_time;
use nightshift_core::config::{Loop, Mode};
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::rusqlite::Connection;

use super::queue;
use crate::change::{self, ConfigChange, Filter, Planned, Status, Verdict};
use crate::judge::ask::entangled;
use crate::judge::open::paid;
use crate::recommendation::Recommendation;

/// What becomes of a planned change.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate {
    /// It may be applied now.
    Apply,
    /// A person has to say yes.
    Queue(&'static str),
    /// Not now, and why.
    Leave(Left, String),
}

/// Why a change is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// No rule maps it to a key, or the key is as it should be.
    NotApplicable,
    /// A check says no.
    Failed,
    /// Another change has to be judged first, or this one was tried not long ago.
    Deferred,
}

/// What is known of changes so far.
pub(super) struct History {
    all: Vec<ConfigChange>,
    since: Timestamp,
}

impl History {
    /// Of the store.
    pub(super) fn read(connection: &Connection, now: Timestamp, settings: &Loop) -> Result<Self, Failure> {
        let all = change::list(connection, Filter::default())?;
        let since =
            now.checked_sub((24 * i64::from(settings.retry_after_days)).hours()).unwrap_or(Timestamp::MIN);
        Ok(Self { all, since })
    }

    /// An applied change that waits for a verdict and is about the same calls.
    fn open_on(&self, advice: &Recommendation) -> Option<&ConfigChange> {
        self.all
            .iter()
            .filter(|change| change.status == Status::Applied)
            .find(|change| entangled(&change.recommendation, advice))
    }

    /// The newest change of the key that is over.
    fn last_of(&self, change: &ConfigChange) -> Option<&ConfigChange> {
        let over = [Status::Kept, Status::Reverted];
        self.all.iter().find(|past| {
            past.file == change.file && past.key_path == change.key_path && over.contains(&past.status)
        })
    }

    fn recent(&self, change: &ConfigChange) -> bool {
        change.ended_at.as_deref().and_then(parse_time).is_some_and(|ended| ended >= self.since)
    }
}

/// The fate of a plan.
pub(super) fn fate(
    connection: &Connection,
    history: &History,
    settings: &Loop,
    planned: &Planned,
) -> Result<Fate, Failure> {
    let leave = |left, why: String| Ok(Fate::Leave(left, why));
    let Some(change) = &planned.change else {
        let left = if planned.verdict == Verdict::Refused { Left::Failed } else { Left::NotApplicable };
        return leave(left, planned.reason.clone());
    };
    let advice = &change.recommendation;
    if let Some(open) = history.open_on(advice) {
        let why = format!(
            "change {} of {} waits for its verdict: effects could not be told apart",
            open.id, open.key_path
        );
        return leave(Left::Deferred, why);
    }
    if let Some(last) = history.last_of(change) {
        let ended = last.ended_at.as_deref().unwrap_or_default();
        if last.status == Status::Reverted
            && history.recent(last)
            && last.recommendation.action == advice.action
        {
            return leave(
                Left::Deferred,
                format!("{} was tried and taken back at {ended}: {}", last.key_path, last.why),
            );
        }
        // A limit that rises because calls still run into it would rise for ever.
        if last.status == Status::Kept
            && advice.action == "raise_timeout"
            && last.recommendation.action == advice.action
            && paid(connection, &last.id)? != Some(true)
        {
            return leave(
                Left::Deferred,
                format!("{} was raised at {ended}, and nothing shows that it paid", last.key_path),
            );
        }
    }
    if queue::rejected_since(connection, &planned.recommendation, history.since)? {
        return leave(Left::Deferred, "a person rejected it".into());
    }
    let word = serde_json::to_value(advice.action_type).unwrap_or_default();
    let safe = settings.safe_actions.iter().any(|action| word == action.as_str());
    Ok(match settings.mode {
        Mode::Manual => Fate::Queue("the mode is manual"),
        Mode::SemiAuto if !safe => Fate::Queue("changes of this kind are not safe"),
        Mode::SemiAuto if advice.confidence < settings.safe_confidence => {
            Fate::Queue("its confidence is below safe_confidence")
        }
        Mode::SemiAuto | Mode::FullAuto => Fate::Apply,
    })
}
