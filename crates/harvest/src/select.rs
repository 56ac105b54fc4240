//! Which interactions go to the council.

use std::collections::BTreeSet;

use nightshift_core::clock::{Window, parse_bound, rfc3339, zone};
use nightshift_core::evalset::sealed_questions;
use nightshift_core::interaction::{Judged, in_window};
use nightshift_core::rusqlite::{Connection, params};
use nightshift_core::store::Store;
use nightshift_core::{Ctx, Failure};
use nightshift_verify::similarity::EvalGuard;
use nightshift_verify::words::words;

/// What a look at the span gave.
#[derive(Debug)]
pub(crate) struct Selection {
    /// To be asked, failed ones first, then the least sure.
    pub(crate) items: Vec<Judged>,
    /// Not to be asked: id and reason. Known decisions are not repeated here.
    pub(crate) excluded: Vec<(String, &'static str)>,
    /// Ordinary answers of the span, as a background for the scan: question and answer.
    pub(crate) ordinary: Vec<(String, String)>,
    pub(crate) interactions: usize,
    pub(crate) failures: usize,
    pub(crate) flagged: usize,
    pub(crate) left_over: usize,
}

impl Selection {
    pub(crate) fn sentence(&self) -> String {
        format!(
            "{} interactions: {} failed, {} unsure, {} excluded, {} go to the council, {} left for later",
            self.interactions,
            self.failures,
            self.flagged,
            self.excluded.len(),
            self.items.len(),
            self.left_over
        )
    }
}

/// The span asked for, else yesterday.
pub(crate) fn window(ctx: &Ctx, since: Option<&str>, until: Option<&str>) -> Result<Window, Failure> {
    let zone = zone(&ctx.config.time_zone)?;
    let now = ctx.clock.now();
    let window = match (since, until) {
        (None, None) => Window::yesterday(now, &zone)?,
        (since, until) => Window {
            from: since.map_or(Ok(Window::yesterday(now, &zone)?.from), |text| parse_bound(text, &zone))?,
            to: until.map_or(Ok(now), |text| parse_bound(text, &zone))?,
        },
    };
    if window.from >= window.to {
        return Err(Failure::usage(format!(
            "the span from {} to {} is empty",
            rfc3339(window.from),
            rfc3339(window.to)
        )));
    }
    Ok(window)
}

/// How sure the model was: calibrated if possible.
fn confidence(row: &Judged) -> Option<f64> {
    row.interaction.confidence.or(row.interaction.min_token_prob)
}

/// Pure but for reading: what would be asked.
pub(crate) fn select(ctx: &Ctx, connection: &Connection, window: Window) -> Result<Selection, Failure> {
    let rows = in_window(connection, &ctx.config.target, window)?;
    let interactions = rows.len();
    let unsure = least_sure(ctx, &rows);
    let decided = decided(connection)?;
    let guard = EvalGuard::new(sealed_questions(connection)?);
    let mut asked_before = BTreeSet::new();
    let (mut failed, mut flagged) = (Vec::new(), Vec::new());
    let mut selection = Selection {
        items: Vec::new(),
        excluded: Vec::new(),
        ordinary: Vec::new(),
        interactions,
        failures: 0,
        flagged: 0,
        left_over: 0,
    };
    for row in rows {
        let is_failed = row.success() == Some(false);
        if !is_failed && !unsure.contains(&row.interaction.id) {
            if let Some(answer) = &row.interaction.response {
                selection.ordinary.push((row.interaction.query.clone(), answer.clone()));
            }
            continue;
        }
        selection.failures += usize::from(is_failed);
        selection.flagged += usize::from(!is_failed);
        if decided.contains(&row.interaction.id) {
            continue;
        }
        let question = words(&row.interaction.query).join(" ");
        let sealed = guard.check(&row.interaction.query).is_some();
        let reason = if sealed {
            Some("evaluation_item")
        } else if row.interaction.no_train {
            Some("no_train")
        } else if question.is_empty() {
            Some("no_question")
        } else if !asked_before.insert(question) {
            Some("duplicate")
        } else {
            None
        };
        match reason {
            Some(reason) => selection.excluded.push((row.interaction.id.clone(), reason)),
            None if is_failed => failed.push(row),
            None => flagged.push(row),
        }
    }
    flagged.sort_by(|a, b| confidence(a).partial_cmp(&confidence(b)).unwrap_or(std::cmp::Ordering::Equal));
    failed.append(&mut flagged);
    selection.left_over = failed.len().saturating_sub(ctx.config.harvest.max_items);
    failed.truncate(ctx.config.harvest.max_items);
    selection.items = failed;
    Ok(selection)
}

/// Ids that the flag rules name.
fn least_sure(ctx: &Ctx, rows: &[Judged]) -> BTreeSet<String> {
    let settings = &ctx.config.harvest;
    let mut sure: Vec<(f64, &str)> =
        rows.iter().filter_map(|row| Some((confidence(row)?, row.interaction.id.as_str()))).collect();
    sure.sort_by(|a, b| a.0.total_cmp(&b.0));
    let share = settings.flag_share.unwrap_or(0.0);
    let count = (share * rows.len() as f64).round() as usize;
    let below = settings.flag_below.unwrap_or(0.0);
    sure.iter()
        .enumerate()
        .filter(|(rank, (confidence, _))| *rank < count || *confidence < below)
        .map(|(_, (_, id))| (*id).to_owned())
        .collect()
}

/// Interactions that an earlier run has decided on.
fn decided(connection: &Connection) -> Result<BTreeSet<String>, Failure> {
    let mut statement = connection.prepare("SELECT interaction_id FROM harvest_items")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Remembers what was excluded, so that the reason can be looked up.
pub(crate) fn record_excluded(ctx: &Ctx, store: &mut Store, selection: &Selection) -> Result<(), Failure> {
    let at = rfc3339(ctx.clock.now());
    store.write(|tx| {
        for (id, reason) in &selection.excluded {
            tx.prepare_cached(
                "INSERT INTO harvest_items (interaction_id, run_id, decided_at, outcome, reason)
                 VALUES (?1, ?2, ?3, 'excluded', ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![id, ctx.run_id, at, reason])?;
        }
        Ok(())
    })
}
