//! The tables `log_scans`, `log_files` and `log_cells`: offsets and counts, moved together.

use std::collections::BTreeSet;

use nightshift_core::clock::rfc3339;
use nightshift_core::jiff::{Timestamp, ToSpan};
use nightshift_core::rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use nightshift_core::{Failure, OrFail};

use super::files::{Known, Stat};
use crate::detect::SavedDetected;
use crate::line::Kind;
use crate::tally::{Cell, Findings, NO_HOUR, Saved, Series, pack, unpack};

/// The day under which the sum of all days lies.
const ALL_DAYS: i32 = i32::MAX;
/// Days whose hours detectors look at: 13 weeks, and the one that has just begun.
const RECENT_DAYS: i32 = 92;
/// Days after which a file that was not seen again is forgotten.
const FORGET_DAYS: i32 = 90;

/// What was read of some paths, as it was left.
pub(super) struct Scan {
    pub(super) id: i64,
    pub(super) files: Vec<Known>,
}

/// The scan of this key.
pub(super) fn scan(connection: &Connection, key: &str) -> Result<Option<Scan>, Failure> {
    let id = connection
        .prepare_cached("SELECT id FROM log_scans WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let mut files = connection.prepare_cached(
        "SELECT id, path, device, inode, size, mtime_ns, head_length, head, \"offset\", tail, torn
         FROM log_files WHERE scan = ?1 ORDER BY id",
    )?;
    let files = files.query_map([id], known)?.collect::<Result<_, _>>()?;
    Ok(Some(Scan { id, files }))
}

/// What a scan has counted: of every operation the sum of all its hours, and apart from them the latest hours.
pub(super) fn load(connection: &Connection, scan: i64) -> Result<(Findings, Recent), Failure> {
    let (totals, detected) = connection
        .prepare_cached("SELECT totals, detected FROM log_scans WHERE id = ?1")?
        .query_row([scan], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let saved: Saved = serde_json::from_str(&totals).or_fail(broken)?;
    let mut findings = saved.restore().or_fail(broken)?;
    let mut totals = connection.prepare_cached(
        "SELECT operation, first_at, last_at, cells FROM log_cells WHERE scan = ?1 AND day = ?2",
    )?;
    let mut rows = totals.query(params![scan, ALL_DAYS])?;
    while let Some(row) = rows.next()? {
        let operation: String = row.get(0)?;
        let (kind, name) = Kind::split(&operation).ok_or_else(|| Failure::failed(broken()))?;
        let span = row.get::<_, Option<i64>>(1)?.zip(row.get::<_, Option<i64>>(2)?);
        let number = findings.ops.number(kind, name);
        findings.tally.extend(number as usize, span, read_cells(row.get_ref(3)?.as_blob().or_fail(broken)?)?);
    }
    let detected: SavedDetected = postcard::from_bytes(&detected).or_fail(broken)?;
    findings.detected = detected.restore(&mut findings.ops);
    Ok((findings, recent(connection, scan)?))
}

/// The hours of the latest days, which detectors look at beside the sums.
#[derive(Default)]
pub(super) struct Recent {
    scan: i64,
    /// The first day that is there.
    since: i32,
    cells: Vec<(String, Vec<Cell>)>,
}

/// Reads the latest days of a scan.
fn recent(connection: &Connection, scan: i64) -> Result<Recent, Failure> {
    let since = connection
        .prepare_cached(
            "SELECT coalesce(min(day), ?2) FROM (SELECT DISTINCT day FROM log_cells
             WHERE scan = ?1 AND day <> ?2 ORDER BY day DESC LIMIT ?3)",
        )?
        .query_row(params![scan, ALL_DAYS, RECENT_DAYS], |row| row.get(0))?;
    let mut recent = Recent { scan, since, cells: Vec::new() };
    recent.read(connection, since, ALL_DAYS)?;
    Ok(recent)
}

impl Recent {
    /// Reads the days from `start` until `end`.
    fn read(&mut self, connection: &Connection, start: i32, end: i32) -> Result<(), Failure> {
        let mut days = connection.prepare_cached(
            "SELECT operation, cells FROM log_cells WHERE scan = ?1 AND day >= ?2 AND day < ?3 ORDER BY day",
        )?;
        let mut rows = days.query(params![self.scan, start, end])?;
        while let Some(row) = rows.next()? {
            self.cells.push((row.get(0)?, read_cells(row.get_ref(1)?.as_blob().or_fail(broken)?)?));
        }
        Ok(())
    }

    /// Puts them beside the sums, and older days that are `touched`, too.
    pub(super) fn add_to(
        mut self,
        findings: &mut Findings,
        connection: &Connection,
        touched: &[Touched],
    ) -> Result<(), Failure> {
        let older = touched.iter().flat_map(|touched| &touched.days).filter(|day| **day < self.since);
        for day in older.copied().collect::<BTreeSet<i32>>() {
            self.read(connection, day, day.saturating_add(1))?;
        }
        findings.tally.recent = vec![Series::default(); findings.tally.series.len()];
        for (operation, cells) in self.cells {
            let (kind, name) = Kind::split(&operation).ok_or_else(|| Failure::failed(broken()))?;
            let number = findings.ops.number(kind, name) as usize;
            if let Some(series) = findings.tally.recent.get_mut(number) {
                series.cells.extend(cells);
            }
        }
        for series in &mut findings.tally.recent {
            if !series.cells.is_sorted_by_key(|cell| cell.hour) {
                series.cells.sort_by_key(|cell| cell.hour);
            }
        }
        Ok(())
    }
}

/// An operation, and the days that a reading adds to, ascending.
pub(super) struct Touched {
    kind: Kind,
    name: String,
    days: Vec<i32>,
}

impl Touched {
    /// By what was read.
    pub(super) fn of(new: &Findings) -> Vec<Self> {
        let series = new.tally.series.iter().enumerate().filter(|(_, series)| !series.cells.is_empty());
        let touched = series.map(|(number, series)| {
            let (kind, name) = new.ops.get(number as u32);
            let mut days: Vec<i32> = series.cells.iter().map(day).collect();
            days.dedup();
            Self { kind, name: name.to_owned(), days }
        });
        touched.collect()
    }
}

fn known(row: &Row<'_>) -> nightshift_core::rusqlite::Result<Known> {
    let natural = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(Known {
        id: row.get(0)?,
        path: row.get(1)?,
        stat: Stat { device: natural(2)?, inode: natural(3)?, size: natural(4)?, mtime_ns: row.get(5)? },
        head_length: natural(6)?,
        head: row.get(7)?,
        offset: natural(8)?,
        tail: row.get(9)?,
        torn: row.get(10)?,
    })
}

/// What a reading changes.
pub(super) struct Change {
    totals: String,
    detected: Vec<u8>,
    rows: Vec<CellsRow>,
    files: Vec<Known>,
}

/// A row of `log_cells`.
struct CellsRow {
    operation: String,
    day: i32,
    span: Option<(i64, i64)>,
    cells: Vec<u8>,
}

impl Change {
    /// `merged` is everything; `files` are the files that the reading looked at.
    pub(super) fn of(merged: &Findings, touched: &[Touched], files: Vec<Known>) -> Result<Self, Failure> {
        let totals =
            serde_json::to_string(&Saved::totals(merged)).or_fail(|| "cannot write the counts".into())?;
        let detected = postcard::to_stdvec(&SavedDetected::of(&merged.detected, &merged.ops))
            .or_fail(|| "cannot write what was detected".into())?;
        let mut rows = Vec::new();
        for Touched { kind, name, days } in touched {
            let Some(number) = merged.ops.find(*kind, name) else { continue };
            let operation = merged.ops.full_name(number);
            let number = number as usize;
            let hours = merged.tally.hourly()[number].cells.chunk_by(|a, b| day(a) == day(b));
            for cells in hours.filter(|cells| days.binary_search(&day(&cells[0])).is_ok()) {
                let (operation, day) = (operation.clone(), day(&cells[0]));
                rows.push(CellsRow { operation, day, span: None, cells: pack(cells) });
            }
            let all = &merged.tally.series[number];
            let cells = pack(&[Cell { hour: NO_HOUR, ..all.total() }]);
            rows.push(CellsRow { operation, day: ALL_DAYS, span: all.span, cells });
        }
        Ok(Self { totals, detected, rows, files })
    }
}

/// Writes a change.
pub(super) fn save(
    tx: &Transaction<'_>,
    now: Timestamp,
    (key, paths): (&str, &str),
    change: &Change,
) -> Result<(), Failure> {
    let Change { totals, detected, rows, files } = change;
    // Other settings have read everything anew.
    tx.execute("DELETE FROM log_scans WHERE paths = ?1 AND key <> ?2", [paths, key])?;
    let scan: i64 = tx.query_row(
        "INSERT INTO log_scans (key, paths, totals, detected, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET totals = excluded.totals, detected = excluded.detected,
            updated_at = excluded.updated_at RETURNING id",
        params![key, paths, totals, detected, rfc3339(now)],
        |row| row.get(0),
    )?;
    for CellsRow { operation, day, span, cells } in rows {
        let (first, last) = span.unzip();
        tx.prepare_cached("INSERT OR REPLACE INTO log_cells VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![scan, operation, day, first, last, cells])?;
    }
    save_files(tx, now, scan, files)
}

fn day(cell: &Cell) -> i32 {
    if cell.hour == NO_HOUR { NO_HOUR } else { cell.hour.div_euclid(24) }
}

fn read_cells(bytes: &[u8]) -> Result<Vec<Cell>, Failure> {
    unpack(bytes).ok_or_else(|| Failure::failed(broken()))
}

fn broken() -> String {
    "the stored counts of logs cannot be read: analyze without --incremental".into()
}

fn save_files(tx: &Transaction<'_>, now: Timestamp, scan: i64, files: &[Known]) -> Result<(), Failure> {
    for file in files {
        let Known { id, path, stat, head_length, head, offset, tail, torn } = file;
        tx.prepare_cached(
            "INSERT OR REPLACE INTO log_files (id, scan, path, device, inode, size, mtime_ns, head_length, head,
                \"offset\", tail, torn, seen_at)
             VALUES (nullif(?1, 0), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            id,
            scan,
            path,
            stat.device.cast_signed(),
            stat.inode.cast_signed(),
            stat.size.cast_signed(),
            stat.mtime_ns,
            head_length.cast_signed(),
            head,
            offset.cast_signed(),
            tail,
            torn,
            rfc3339(now)
        ])?;
    }
    let forget = now.checked_sub((24 * FORGET_DAYS).hours()).map(rfc3339).unwrap_or_default();
    tx.execute("DELETE FROM log_files WHERE scan = ?1 AND seen_at < ?2", params![scan, forget])?;
    Ok(())
}
