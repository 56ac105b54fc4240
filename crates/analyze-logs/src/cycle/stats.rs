//! `stats`: what came of the changes so far, in numbers.

use std::collections::BTreeMap;

use clap::Args;
use nightshift_core::rusqlite::Connection;
use nightshift_core::{Ctx, Exit, Failure, OrFail, Outcome};
use serde::Serialize;

use super::{queue, record};
use crate::change::{self, Filter, Status};
use crate::learning::{self, Db};
use crate::recommendation::Saving;

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct StatsArguments {
    #[command(flatten)]
    db: Db,
}

#[derive(Debug, Serialize)]
struct Report {
    cycles: u64,
    /// By status.
    changes: BTreeMap<&'static str, usize>,
    kept: usize,
    reverted: usize,
    /// Of those that were judged.
    kept_share: Option<f64>,
    /// What the judgements rest on, and how often.
    verdicts: BTreeMap<String, u64>,
    waiting_for_approval: usize,
    /// Of the changes that were kept, when they were recommended.
    expected_saving: Saving,
    /// Of the changes that were kept, when they were judged.
    measured_saving: Saving,
}

/// Runs `stats`.
pub fn stats(ctx: &Ctx, arguments: StatsArguments) -> Result<Outcome, Failure> {
    let path = learning::locate(ctx, &arguments.db);
    if !path.exists() {
        return Err(Failure::nothing(format!("there is no store at {}", path.display())));
    }
    let store = learning::open(ctx, &arguments.db)?;
    let all = change::list(store.read(), Filter::default())?;
    let mut changes = BTreeMap::new();
    let (mut expected, mut measured) = (Saving::default(), Saving::default());
    for change in &all {
        *changes.entry(change.status.name()).or_default() += 1;
        if change.status == Status::Kept {
            add(&mut expected, &change.recommendation.saving);
            if let Some(saving) = measured_of(store.read(), &change.id)? {
                add(&mut measured, &saving);
            }
        }
    }
    let count = |status: Status| changes.get(status.name()).copied().unwrap_or(0);
    let (kept, reverted) = (count(Status::Kept), count(Status::Reverted));
    let report = Report {
        cycles: record::completed(store.read())?.0,
        kept,
        reverted,
        kept_share: (kept + reverted > 0).then(|| kept as f64 / (kept + reverted) as f64),
        verdicts: verdicts(store.read())?,
        waiting_for_approval: queue::list(store.read(), false)?.len(),
        expected_saving: expected,
        measured_saving: measured,
        changes,
    };
    let exit = if report.cycles == 0 && all.is_empty() { Exit::NothingToDo } else { Exit::Done };
    let text = report.text();
    Ok(Outcome::new(exit, &report, text))
}

fn add(sum: &mut Saving, saving: &Saving) {
    sum.seconds_per_day += saving.seconds_per_day;
    sum.usd_per_day += saving.usd_per_day;
    sum.failures_per_day += saving.failures_per_day;
}

/// What the last look at a change measured.
fn measured_of(connection: &Connection, change: &str) -> Result<Option<Saving>, Failure> {
    let sql = "SELECT json_extract(verdict, '$.saving') FROM judgements WHERE change_id = ?1 ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([change])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let text: Option<String> = row.get(0)?;
    text.map(|text| {
        serde_json::from_str(&text).or_fail(|| format!("the look at change {change} cannot be read"))
    })
    .transpose()
}

fn verdicts(connection: &Connection) -> Result<BTreeMap<String, u64>, Failure> {
    let sql = "SELECT basis, count(*) FROM judgements WHERE decision <> 'wait' GROUP BY basis";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Report {
    fn text(&self) -> String {
        let list =
            |counts: Vec<String>| if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        let changes = list(self.changes.iter().map(|(status, count)| format!("{count} {status}")).collect());
        let verdicts = list(
            self.verdicts
                .iter()
                .map(|(basis, count)| format!("{count} {}", basis.replace('_', " ")))
                .collect(),
        );
        let saving = |saving: &Saving| {
            let Saving { seconds_per_day, usd_per_day, failures_per_day } = saving;
            format!("{seconds_per_day:.1} s, {usd_per_day:.4} USD, {failures_per_day:.1} failures a day")
        };
        format!(
            "cycles: {}\nchanges: {changes}\nverdicts: {verdicts}\nwaiting for approval: {}\n\
             saving of what was kept: measured {}; expected {}",
            self.cycles,
            self.waiting_for_approval,
            saving(&self.measured_saving),
            saving(&self.expected_saving)
        )
    }
}
