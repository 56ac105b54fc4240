//! Which rows a nightly training run may use: harvest rows and replay, each left-out row named.
//!
//! Owns the rules that keep a run honest: the newest answer to a question wins, nothing sealed and
//! nothing marked `no_train` gets in, and an answer that was corrected is never replayed.

use std::collections::HashSet;
use std::path::Path;

use nightshift_core::interaction::{self, Judged};
use nightshift_core::rusqlite::{Connection, params};
use nightshift_core::training_row::TrainingRow;
use nightshift_core::{Ctx, Failure, files, jsonl};
use nightshift_model::Message;

use crate::data::{self, Dropped, Reason, Record, Teaches};
use crate::seals::Seals;

/// Most answers that are considered for replay, the newest first.
const REPLAY_POOL: usize = 20_000;

/// An accepted row with the date of its harvest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    /// `YYYYMMDD` of the harvest file.
    pub(crate) date: String,
    /// The conversation.
    pub(crate) record: Record,
}

/// Everything a run may use.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Accepted rows, oldest harvest first, in file order.
    pub(crate) accepted: Vec<Accepted>,
    /// Rows that were left out, by name.
    pub(crate) dropped: Vec<Dropped>,
}

impl Candidates {
    /// The date of the newest harvest that still has a row.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.accepted.last().map(|row| row.date.as_str())
    }
}

/// Reads every `training_data/harvest_*.jsonl` of the home.
pub(crate) fn accepted(ctx: &Ctx, seals: &Seals, teaches: Teaches) -> Result<Candidates, Failure> {
    let mut found = Candidates::default();
    for path in files::list(&ctx.paths.training_data())? {
        if let Some(date) = harvest_date(&path) {
            let date = date.to_owned();
            read_harvest(&path, &date, (seals, teaches), &mut found)?;
        }
    }
    keep_newest(&mut found);
    Ok(found)
}

/// Accepted answers among rows some of which may be failed ones.
pub(crate) fn answers<'a>(rows: impl IntoIterator<Item = &'a Accepted>) -> usize {
    rows.into_iter().filter(|row| row.record.wanted != Some(false)).count()
}

/// `YYYYMMDD` of `harvest_YYYYMMDD.jsonl`.
fn harvest_date(path: &Path) -> Option<&str> {
    let date = path.file_name()?.to_str()?.strip_prefix("harvest_")?.strip_suffix(".jsonl")?;
    (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some(date)
}

fn read_harvest(
    path: &Path,
    date: &str,
    (seals, teaches): (&Seals, Teaches),
    found: &mut Candidates,
) -> Result<(), Failure> {
    let bad = jsonl::for_each(path, |line, row: TrainingRow| {
        let records = data::records(&row, &format!("{}:{line}", path.display()), teaches);
        let Some(record) = records.first() else { return Ok(()) };
        let refused = if row.split == "holdout" {
            Some((Reason::Holdout, "kept apart for validation".to_owned()))
        } else if seals.is_no_train(&row.interaction_id) {
            Some((Reason::NoTrain, format!("interaction {} is marked no_train", row.interaction_id)))
        } else if let Some(why) = seals.refuse(&record.messages) {
            Some((Reason::Sealed, why))
        } else {
            let alone = teaches == Teaches::Pairs && record.rejected.is_none();
            alone.then(|| (Reason::NoRejected, "it has no failed answer to prefer this one to".to_owned()))
        };
        if let Some((reason, why)) = refused {
            found.dropped.push(Dropped::new(&record.name, reason, why));
        } else {
            let accepted = |record| Accepted { date: date.to_owned(), record };
            found.accepted.extend(records.into_iter().map(accepted));
        }
        Ok(())
    })?;
    found.dropped.extend(bad.into_iter().map(Dropped::from));
    Ok(())
}

/// Of equal questions the newest stays: the later file, within a file the later line.
fn keep_newest(found: &mut Candidates) {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(found.accepted.len());
    for row in std::mem::take(&mut found.accepted).into_iter().rev() {
        // A failed answer stands beside the accepted one to the same question.
        let unwanted = row.record.wanted == Some(false);
        if seen.insert((data::question_key(&row.record.messages), unwanted)) {
            kept.push(row);
        } else {
            let why = "the same question was harvested later";
            found.dropped.push(Dropped::new(row.record.name, Reason::Duplicate, why));
        }
    }
    kept.reverse();
    found.accepted = kept;
}

/// Answers worth repeating so that training does not unlearn them: sure ones that nobody doubted, and
/// those that the council confirmed. Newest first, one per question, none that was corrected.
pub(crate) fn replay_pool(
    connection: &Connection,
    target: &str,
    above: f64,
    seals: &Seals,
    accepted: &[Accepted],
) -> Result<Vec<Record>, Failure> {
    let mut seen: HashSet<String> =
        accepted.iter().map(|row| data::question_key(&row.record.messages)).collect();
    let mut pool = Vec::new();
    let sure = "h.interaction_id IS NULL AND COALESCE(i.min_token_prob, i.confidence) >= ?2";
    let mut statement = connection.prepare(&format!(
        "{} LEFT JOIN harvest_items h ON h.interaction_id = i.id
         WHERE i.target = ?1 AND i.no_train = 0 AND i.error IS NULL AND i.response IS NOT NULL
           AND ({sure} OR h.outcome = 'false_alarm') ORDER BY i.ts DESC, i.rowid DESC LIMIT ?3",
        interaction::SELECT
    ))?;
    let rows = statement.query_map(params![target, above, REPLAY_POOL as i64], interaction::read_row)?;
    let confirmed = confirmed(connection)?;
    for row in rows {
        let row = row?;
        let confirmed = confirmed.contains(&row.interaction.id);
        let Some(record) = replayable(&row, confirmed) else { continue };
        if seals.refuse(&record.messages).is_none() && seen.insert(data::question_key(&record.messages)) {
            pool.push(record);
        }
    }
    Ok(pool)
}

/// Interactions whose answer the council repeated.
fn confirmed(connection: &Connection) -> Result<HashSet<String>, Failure> {
    let mut statement =
        connection.prepare("SELECT interaction_id FROM harvest_items WHERE outcome = 'false_alarm'")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// The conversation of an answer that was whole and that nobody called wrong. A confirmed answer may have
/// been recorded as failed for its low confidence; one that a person called wrong is not replayed.
fn replayable(row: &Judged, confirmed: bool) -> Option<Record> {
    let answer = row.interaction.response.as_deref().filter(|answer| !answer.trim().is_empty())?;
    let whole = row.interaction.finish_reason.as_deref().is_none_or(|reason| reason == "stop");
    let wrong = row.feedback.is_some_and(|value| value < 0.0) || !confirmed && row.success() == Some(false);
    if !whole || wrong {
        return None;
    }
    let messages = if row.interaction.messages.is_empty() {
        vec![Message::new("user", &row.interaction.query), Message::new("assistant", answer)]
    } else {
        data::turns(&row.interaction.messages, answer)
    };
    Some(Record::new(&row.interaction.id, messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dated_harvest_files_are_read() {
        let date = |name: &str| harvest_date(Path::new(name)).map(str::to_owned);
        assert_eq!(date("training_data/harvest_20260301.jsonl").as_deref(), Some("20260301"));
        for other in ["harvest_20260301.manifest.json", "quarantine_20260301.jsonl", "harvest_x.jsonl"] {
            assert_eq!(date(other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_answer_to_a_question_wins() {
        let row = |date: &str, question: &str, answer: &str| Accepted {
            date: date.into(),
            record: Record::new(
                format!("{date}-{answer}"),
                vec![Message::new("user", question), Message::new("assistant", answer)],
            ),
        };
        let mut found = Candidates {
            accepted: vec![
                row("20260301", "Q1", "a"),
                row("20260301", "Q2", "b"),
                row("20260302", "q1", "c"),
                row("20260302", "Q1 ", "d"),
            ],
            dropped: Vec::new(),
        };
        keep_newest(&mut found);
        let names: Vec<&str> = found.accepted.iter().map(|row| row.record.name.as_str()).collect();
        assert_eq!(names, ["20260301-b", "20260302-d"]);
        assert_eq!(found.dropped.len(), 2);
        assert_eq!(found.newest(), Some("20260302"));
    }
}
