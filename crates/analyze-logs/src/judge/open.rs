//! The applied changes that wait for a verdict: judged in one reading of the logs, kept or taken back.
//!
//! A look is in the store before anything follows from it, so that a look that a crash cut short is acted on the
//! next time and not taken twice.

use nightshift_core::clock::rfc3339;
use nightshift_core::config::Split;
use nightshift_core::rusqlite::{Connection, OptionalExtension, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Exit, Failure, OrFail};
use serde::Serialize;

use super::ask::Asking;
use super::collect::{Question, collect};
use super::decide::{Asked, Basis, Decision, Looks, Verdict, decide};
use super::pairs::Pairs;
use super::steady::steady;
use crate::change::{self, ConfigChange, Filter, Status};
use crate::read::{Input, Options, Problem};
use crate::tally::HOUR_US;

/// What became of a change that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It stays.
    Kept,
    /// It is taken back.
    Reverted,
    /// It waits on.
    Waiting,
    /// It is worse, and stays because `enable_rollback` or `--dry-run` says so.
    WouldRevert,
    /// It would stay.
    WouldKeep,
    /// It should have been taken back and could not: a person is needed.
    NotReverted,
}

/// A change and its verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// The change.
    pub change_id: String,
    /// What it is about.
    pub title: String,
    /// The operation that was compared, if it is one.
    pub operation: Option<String>,
    /// The key that was changed.
    pub key_path: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, for a person.
    pub why: String,
    /// The comparison; absent when an earlier look had decided already.
    pub verdict: Option<Verdict>,
}

/// Which logs, and what may be done.
#[derive(Debug)]
pub struct Orders<'a> {
    /// The logs.
    pub inputs: Vec<Input>,
    /// How they are read.
    pub options: Options<'a>,
    /// Arms, instead of the hours before.
    pub split: Option<Split>,
    /// Only the change with this id.
    pub only: Option<String>,
    /// Changes are kept and taken back; else it is only said what would be.
    pub act: bool,
    /// Changes that do harm are taken back.
    pub rollback: bool,
}

/// Judges every applied change.
pub fn open(
    ctx: &Ctx,
    store: &mut Store,
    orders: Orders<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Judged>, Failure> {
    let all = change::list(store.read(), Filter::default())?;
    let waiting: Vec<&ConfigChange> = all
        .iter()
        .filter(|change| change.status == Status::Applied)
        .filter(|change| orders.only.as_ref().is_none_or(|id| change.id == *id))
        .collect();
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let rules = &ctx.config.analyze_logs.judge;
    let now = ctx.clock.now();
    let confirmed = confirmed(store.read())?;
    let asking = Asking { all: &all, confirmed: &confirmed, rules, now, split: orders.split.as_ref() };
    let asked: Vec<(Question, Option<Question>)> =
        waiting.iter().map(|change| asking.about(change)).collect::<Result<_, _>>()?;
    let questions: Vec<Question> =
        asked.iter().flat_map(|(own, anchor)| [Some(own), anchor.as_ref()]).flatten().cloned().collect();
    let unread = problems.len();
    let hours = collect(orders.inputs, &orders.options, &questions, problems)?;
    let blind = problems.len() > unread || hours.iter().all(|hours| hours.0.is_empty());
    let mut hours = hours.into_iter().map(|hours| steady(hours, rules));
    let mut judged = Vec::new();
    for (change, (question, anchor)) in waiting.into_iter().zip(&asked) {
        let own = hours.next().unwrap_or_default();
        let before_all = anchor.as_ref().and_then(|_| hours.next()).unwrap_or_default();
        let looks = last_look(store.read(), &change.id)?;
        if let Some((decision @ (Decision::Keep | Decision::Revert), why)) = looks.decided {
            judged.push(follow(ctx, store, change, (decision, &why), None, (orders.act, orders.rollback))?);
            continue;
        }
        let gone = (now.as_microsecond() - question.at) as f64 / HOUR_US as f64;
        let anchored = anchor.as_ref().map(|question| Pairs::of(&before_all, question));
        let asked = Asked {
            hours_gone: gone,
            late_us: question.late_us,
            looks: looks.looks,
            anchor: anchored.as_ref().filter(|pairs| !pairs.periods.is_empty()),
            ..Asked::default()
        };
        let verdict = decide(&Pairs::of(&own, question), rules, asked);
        if blind && verdict.basis == Basis::Unproven {
            let why = "the logs could not be read: nothing is decided without them".to_owned();
            judged.push(line(change, Outcome::Waiting, why, Some(verdict)));
            continue;
        }
        if orders.act && (verdict.looks != looks.looks || verdict.decision != Decision::Wait) {
            record(ctx, store, &change.id, &verdict)?;
            ctx.crash.reach("cycle.looked", "");
        }
        let (decision, why) = (verdict.decision, verdict.why.clone());
        judged.push(follow(
            ctx,
            store,
            change,
            (decision, &why),
            Some(verdict),
            (orders.act, orders.rollback),
        )?);
    }
    Ok(judged)
}

/// Does what was decided.
fn follow(
    ctx: &Ctx,
    store: &mut Store,
    change: &ConfigChange,
    (decision, why): (Decision, &str),
    verdict: Option<Verdict>,
    (act, rollback): (bool, bool),
) -> Result<Judged, Failure> {
    let mut why = why.to_owned();
    let outcome = match decision {
        Decision::Wait => Outcome::Waiting,
        Decision::Keep if !act => Outcome::WouldKeep,
        Decision::Keep => {
            change::keep(ctx, store, &change.id, &why)?;
            Outcome::Kept
        }
        Decision::Revert if !act || !rollback => Outcome::WouldRevert,
        Decision::Revert => match change::revert(ctx, store, &change.id, &why) {
            Ok(_) => Outcome::Reverted,
            // Somebody edited the key, or the file cannot be written: other changes are judged all the same.
            Err(failure) if matches!(failure.exit(), Exit::Refused | Exit::Failed) => {
                why = format!("{why}; it could not be taken back: {}", failure.chain());
                Outcome::NotReverted
            }
            Err(failure) => return Err(failure),
        },
    };
    Ok(line(change, outcome, why, verdict))
}

fn line(change: &ConfigChange, outcome: Outcome, why: String, verdict: Option<Verdict>) -> Judged {
    Judged {
        change_id: change.id.clone(),
        title: change.recommendation.title.clone(),
        operation: change.recommendation.operation.clone(),
        key_path: change.key_path.to_string(),
        outcome,
        why,
        verdict,
    }
}

/// The changes that a person confirmed: kept, and by no look of ours.
fn confirmed(connection: &Connection) -> Result<Vec<String>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM config_changes WHERE status = 'kept' AND id NOT IN
         (SELECT change_id FROM judgements WHERE decision = 'keep')",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The looks at a change so far, and what the last one decided.
struct LastLook {
    looks: Looks,
    decided: Option<(Decision, String)>,
}

fn last_look(connection: &Connection, change: &str) -> Result<LastLook, Failure> {
    let row = connection
        .prepare_cached(
            "SELECT taken, spent, decision, json_extract(verdict, '$.why') FROM judgements WHERE change_id = ?1
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([change], |row| {
            let decision: String = row.get(2)?;
            Ok((row.get::<_, i64>(0)?, row.get(1)?, decision, row.get::<_, Option<String>>(3)?))
        })
        .optional()?;
    let Some((taken, spent, decision, why)) = row else {
        return Ok(LastLook { looks: Looks::default(), decided: None });
    };
    let decided = match decision.as_str() {
        "keep" => Some(Decision::Keep),
        "revert" => Some(Decision::Revert),
        _ => None,
    };
    let looks = Looks { taken: usize::try_from(taken).unwrap_or_default(), spent };
    Ok(LastLook { looks, decided: decided.map(|decision| (decision, why.unwrap_or_default())) })
}

fn record(ctx: &Ctx, store: &mut Store, change: &str, verdict: &Verdict) -> Result<(), Failure> {
    let told = || format!("cannot record the look at change {change}");
    let text = serde_json::to_string(verdict).or_fail(told)?;
    let word = |value: Result<serde_json::Value, serde_json::Error>| -> Result<String, Failure> {
        Ok(value.or_fail(told)?.as_str().unwrap_or_default().to_owned())
    };
    let (decision, basis) =
        (word(serde_json::to_value(verdict.decision))?, word(serde_json::to_value(verdict.basis))?);
    store.write(|tx| {
        tx.execute(
            "INSERT INTO judgements (change_id, at, taken, spent, decision, basis, verdict)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                change,
                rfc3339(ctx.clock.now()),
                i64::try_from(verdict.looks.taken).unwrap_or(i64::MAX),
                verdict.looks.spent,
                decision,
                basis,
                text
            ],
        )?;
        Ok(())
    })
}

/// Whether the raised limit of a change paid, if a look at it could tell.
pub(crate) fn paid(connection: &Connection, change: &str) -> Result<Option<bool>, Failure> {
    let late = connection
        .prepare_cached(
            "SELECT json_extract(verdict, '$.late.won_s'), json_extract(verdict, '$.late.cost_s') FROM judgements
             WHERE change_id = ?1 ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([change], |row| Ok((row.get::<_, Option<f64>>(0)?, row.get::<_, Option<f64>>(1)?)))
        .optional()?;
    Ok(late.and_then(|(won, cost)| Some(won? > 0.0 && won? >= cost?)))
}
