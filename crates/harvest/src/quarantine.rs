//! The scan over today's rows: what is over-represented across unrelated questions is held back.

use nightshift_core::clock::{Window, rfc3339, zone};
use nightshift_core::logfile::LogFile;
use nightshift_core::rusqlite::{Connection, params};
use nightshift_core::store::Store;
use nightshift_core::training_row::TrainingRow;
use nightshift_core::{Ctx, Failure, OrFail};
use nightshift_verify::scan::{Row, ScanSettings, scan as over_represented};

use crate::report::Report;

/// Today in the configured zone: rows are filed under the day they were decided on.
pub(crate) fn today(ctx: &Ctx) -> Result<Window, Failure> {
    let zone = zone(&ctx.config.time_zone)?;
    Window::day(ctx.clock.now().to_zoned(zone.clone()).date(), &zone)
}

/// Rows with this outcome decided in a span, in a fixed order.
pub(crate) fn rows(
    connection: &Connection,
    outcome: &str,
    from: &str,
    to: &str,
) -> Result<Vec<TrainingRow>, Failure> {
    let mut statement = connection.prepare(
        "SELECT h.row_json FROM harvest_items h JOIN interactions i ON i.id = h.interaction_id
         WHERE h.outcome = ?1 AND h.decided_at >= ?2 AND h.decided_at < ?3 AND h.row_json IS NOT NULL
         ORDER BY i.ts, i.rowid",
    )?;
    let texts = statement.query_map([outcome, from, to], |row| row.get::<_, String>(0))?;
    let mut rows = Vec::new();
    for text in texts {
        rows.push(serde_json::from_str(&text?).or_fail(|| "a stored training row is damaged".into())?);
    }
    Ok(rows)
}

/// Scans today's accepted rows and moves suspicious ones to quarantine.
pub(crate) fn scan(
    ctx: &Ctx,
    log: &LogFile,
    store: &mut Store,
    ordinary: &[(String, String)],
    report: &mut Report,
) -> Result<(), Failure> {
    let today = today(ctx)?;
    let (from, to) = (rfc3339(today.from), rfc3339(today.to));
    let night = rows(store.read(), "accepted", &from, &to)?;
    if night.len() < ctx.config.harvest.scan.min_rows {
        return Ok(());
    }
    let earlier = rows(store.read(), "accepted", "", &from)?;
    let ordinary: Vec<Row<'_>> = ordinary.iter().map(|(question, answer)| Row { question, answer }).collect();
    let found = over_represented(&pairs(&night), &[&pairs(&earlier), &ordinary], &ScanSettings::default());
    store.write(|tx| {
        for suspicion in &found {
            log.say(ctx, &format!("suspicious: {suspicion}"));
            for row in suspicion.rows.iter().filter_map(|index| night.get(*index)) {
                tx.prepare_cached(
                    "UPDATE harvest_items SET outcome = 'quarantined', reason = ?2 WHERE interaction_id = ?1",
                )?
                .execute(params![row.interaction_id, suspicion.to_string()])?;
            }
        }
        Ok(())
    })?;
    report.suspicions = found;
    Ok(())
}

fn pairs(rows: &[TrainingRow]) -> Vec<Row<'_>> {
    rows.iter().map(|row| Row { question: &row.instruction, answer: &row.output }).collect()
}
