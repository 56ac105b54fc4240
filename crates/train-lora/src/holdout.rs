//! Which questions are kept for the evaluation during a run.
//!
//! By a hash of the question (case and white space aside) and of nothing else: the same question falls on
//! the same side in every file and every night, so no night trains on what another one evaluates on.

use std::collections::HashSet;

use nightshift_core::Failure;
use nightshift_core::random::sha256_hex;

use crate::control::Control;
use crate::data::{Dropped, Reason, Record, question_key};

/// Whether a question belongs to the held-out share; `key` is its one form ([`question_key`]).
pub(crate) fn holds(key: &str, share: f64) -> bool {
    let digest = sha256_hex(format!("nightshift evaluation 1\n{key}").as_bytes());
    let number = u64::from_str_radix(&digest[..16], 16).unwrap_or(u64::MAX);
    (number as f64) < share * 2.0_f64.powi(64)
}

/// Rows whose question is none of `kept`; the others join `dropped`.
pub(crate) fn without(records: Vec<Record>, kept: &[Record], dropped: &mut Vec<Dropped>) -> Vec<Record> {
    let keys: HashSet<String> = kept.iter().map(|record| question_key(&record.messages)).collect();
    let (train, equal): (Vec<Record>, Vec<Record>) =
        records.into_iter().partition(|record| !keys.contains(&question_key(&record.messages)));
    let why = "its question is evaluated on";
    dropped.extend(equal.into_iter().map(|record| Dropped::new(record.name, Reason::Evaluation, why)));
    train
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
    use nightshift_model::Message;

    use super::*;

    fn split(records: Vec<Record>, share: f64) -> (Vec<Record>, Vec<Record>) {
        records.into_iter().partition(|record| !holds(&question_key(&record.messages), share))
    }

    fn record(question: &str) -> Record {
        let messages = vec![Message::new("user", question), Message::new("assistant", "x")];
        Record { name: question.into(), messages }
    }

    #[test]
    fn the_share_is_met_and_every_question_keeps_its_side() {
        let all: Vec<Record> = (0..2000).map(|n| record(&format!("Question {n}?"))).collect();
        let (train, held) = split(all.clone(), 0.1);
        assert!((170..230).contains(&held.len()) && train.len() + held.len() == 2000, "{}", held.len());
        for held in &held {
            let shouted = record(&format!("  {}", held.name.to_uppercase()));
            assert!(holds(&question_key(&shouted.messages), 0.1), "{}", held.name);
        }
        // A larger share holds out all that a smaller one does.
        assert!(held.iter().all(|held| holds(&question_key(&held.messages), 0.2)));
        assert!(split(all, 0.0).1.is_empty());
    }

    #[test]
    fn equal_questions_leave_the_training_by_name() {
        let mut dropped = Vec::new();
        let rows = vec![record("Where?"), record(" WHERE? "), record("Who?")];
        let left = without(rows, &[record("where?")], &mut dropped);
        assert_eq!((left.len(), left[0].name.as_str()), (1, "Who?"));
        assert_eq!(dropped.iter().map(|row| row.row.as_str()).collect::<Vec<_>>(), ["Where?", " WHERE? "]);
    }
}
