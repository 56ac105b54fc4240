//! Which questions are kept for the evaluation during a run, and what a night reads besides harvests.
//!
//! By a hash of the question (case and white space aside) and of nothing else: the same question falls on
//! the same side in every file and every night, so no night trains on what another one evaluates on.

use std::path::Path;

use nightshift_core::Failure;
use nightshift_core::config::Overlong;
use nightshift_core::jiff::Timestamp;
use nightshift_core::random::sha256_hex;
use nightshift_model::Message;
use serde::Deserialize;

use crate::args::{Contaminated, LossOn};
use crate::base::TextSource;
use crate::control::Control;
use crate::data::{self, DataSet, Dropped, Reason, Record, Rules, Teaches, question_key};
use crate::gather;
use crate::objective::Objective;
use crate::seals::Seals;
use crate::settings::Settings;

/// Whether a conversation's question belongs to the held-out share.
pub(crate) fn holds(messages: &[Message], share: f64) -> bool {
    holds_key(&question_key(messages), share)
}

/// As [`holds`], for a question in its one form.
pub(crate) fn holds_key(question: &str, share: f64) -> bool {
    let digest = sha256_hex(format!("nightshift evaluation 1\n{question}").as_bytes());
    let number = u64::from_str_radix(&digest[..16], 16).unwrap_or(u64::MAX);
    (number as f64) < share * 2.0_f64.powi(64)
}

/// The rows of `--eval-data` of a night. What a gate or a report set asks is left out by name: the gate must
/// not have chosen the state that it judges.
pub(crate) fn file(
    base: &Path,
    now: Timestamp,
    settings: &Settings,
    seals: &Seals,
) -> Result<Option<DataSet>, Failure> {
    let Some(path) = &settings.control.eval_data else { return Ok(None) };
    let set = read(path, (base, now), settings, (settings.objective.teaches(), Overlong::Drop), seals)?;
    gather::fits(&set, &settings.objective, path)?;
    Ok(Some(set))
}

/// The conversations of `train.replay`, as records: what a night replays is last answers. Rows of another
/// kind are left out by name, as is what a gate or a report set asks.
pub(crate) fn replayed(
    base: &Path,
    now: Timestamp,
    settings: &Settings,
    seals: &Seals,
) -> Result<(Vec<Record>, Vec<Dropped>), Failure> {
    let Some(path) = &settings.train.replay else { return Ok(Default::default()) };
    let set = read(path, (base, now), settings, (Teaches::Answers, settings.train.overlong), seals)?;
    gather::fits(&set, &Objective::Imitate, path)?;
    let DataSet { lessons, mut dropped, .. } = set;
    let mut records = Vec::with_capacity(lessons.len());
    for row in lessons {
        let whole = row.wire.get("tools").is_none();
        let messages = row.wire.get("messages").filter(|_| whole).map(Vec::<Message>::deserialize);
        if let Some(Ok(messages)) = messages {
            records.push(Record::new(row.name, messages));
        } else {
            let why = "a night replays conversations without tools";
            dropped.push(Dropped::new(row.name, Reason::NoAnswer, why));
        }
    }
    Ok((records, dropped))
}

fn read(
    path: &Path,
    (base, now): (&Path, Timestamp),
    settings: &Settings,
    (teaches, overlong): (Teaches, Overlong),
    seals: &Seals,
) -> Result<DataSet, Failure> {
    let rules = Rules {
        loss_on: LossOn::LastAnswer,
        overlong,
        contaminated: Contaminated::Drop,
        dedup: false,
        max_length: settings.train.max_length,
    };
    let text = TextSource { base, template: None, now };
    data::load(path, text, rules, Some(teaches), seals)
}

/// Refuses (exit 3) a run that is to be decided by an evaluation without rows.
pub(crate) fn refuse_empty(control: &Control, rows: usize) -> Result<(), Failure> {
    if rows > 0 || !control.evaluates() {
        return Ok(());
    }
    let failure = Failure::nothing("no row is left to evaluate on");
    Err(match &control.eval_data {
        Some(path) => failure.hint(format!("{} holds no usable row", path.display())),
        None => failure.hint(format!(
            "a share of {} held out no question of so few; raise train.eval_share, or give --eval-data",
            control.eval_share
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(question: &str) -> Record {
        let messages = vec![Message::new("user", question), Message::new("assistant", "x")];
        Record::new(question, messages)
    }

    #[test]
    fn the_share_is_met_and_every_question_keeps_its_side() {
        let all: Vec<Record> = (0..2000).map(|n| record(&format!("Question {n}?"))).collect();
        let held: Vec<&Record> = all.iter().filter(|record| holds(&record.messages, 0.1)).collect();
        assert!((170..230).contains(&held.len()), "{}", held.len());
        for held in &held {
            let shouted = record(&format!("  {}", held.name.to_uppercase()));
            assert!(holds(&shouted.messages, 0.1), "{}", held.name);
        }
        // A larger share holds out all that a smaller one does.
        assert!(held.iter().all(|held| holds(&held.messages, 0.2)));
        assert!(!all.iter().any(|record| holds(&record.messages, 0.0)));
    }
}
