//! The tables `log_scans`, `log_files` and `log_cells`: offsets and counts, moved together.

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

/// A scan as it was left: of every operation the sum of all its hours.
pub(super) struct Scan {
    pub(super) findings: Findings,
    pub(super) files: Vec<Known>,
}

/// The scan of this key.
pub(super) fn load(connection: &Connection, key: &str) -> Result<Option<Scan>, Failure> {
    let row = connection
        .prepare_cached("SELECT id, totals, detected FROM log_scans WHERE key = ?1")?
        .query_row([key], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
        })
        .optional()?;
    let Some((scan, totals, detected)) = row else { return Ok(None) };
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
    let mut files = connection.prepare_cached(
        "SELECT id, path, device, inode, size, mtime_ns, head_length, head, \"offset\", tail, torn
         FROM log_files WHERE scan = ?1 ORDER BY id",
    )?;
    let files = files.query_map([scan], known)?.collect::<Result<_, _>>()?;
    Ok(Some(Scan { findings, files }))
}

/// Adds the hours of the latest days, which detectors look at beside the sums.
pub(super) fn load_recent(
    connection: &Connection,
    key: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut recent = connection.prepare_cached(
        "SELECT operation, cells FROM log_cells JOIN log_scans ON log_scans.id = scan WHERE key = ?1 AND day IN (
            SELECT DISTINCT day FROM log_cells JOIN log_scans ON log_scans.id = scan
            WHERE key = ?1 AND day <> ?2 ORDER BY day DESC LIMIT ?3)
         ORDER BY day",
    )?;
    let mut rows = recent.query(params![key, ALL_DAYS, RECENT_DAYS])?;
    findings.tally.recent = vec![Series::default(); findings.tally.series.len()];
    while let Some(row) = rows.next()? {
        let operation: String = row.get(0)?;
        let (kind, name) = Kind::split(&operation).ok_or_else(|| Failure::failed(broken()))?;
        let number = findings.ops.number(kind, name) as usize;
        if let Some(series) = findings.tally.recent.get_mut(number) {
            series.cells.extend(read_cells(row.get_ref(1)?.as_blob().or_fail(broken)?)?);
        }
    }
    Ok(())
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

/// Writes what is new: `merged` is everything, `new` what this run added; `files` are the files that it looked at.
pub(super) fn save(
    tx: &Transaction<'_>,
    now: Timestamp,
    (key, paths): (&str, &str),
    merged: &Findings,
    new: &Findings,
    files: &[Known],
) -> Result<(), Failure> {
    // Other settings have read everything anew.
    tx.execute("DELETE FROM log_scans WHERE paths = ?1 AND key <> ?2", [paths, key])?;
    let totals =
        serde_json::to_string(&Saved::totals(merged)).or_fail(|| "cannot write the counts".into())?;
    let detected = postcard::to_stdvec(&SavedDetected::of(&merged.detected, &merged.ops))
        .or_fail(|| "cannot write what was detected".into())?;
    let scan: i64 = tx.query_row(
        "INSERT INTO log_scans (key, paths, totals, detected, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET totals = excluded.totals, detected = excluded.detected,
            updated_at = excluded.updated_at RETURNING id",
        params![key, paths, totals, detected, rfc3339(now)],
        |row| row.get(0),
    )?;
    for (number, series) in new.tally.series.iter().enumerate().filter(|(_, series)| !series.cells.is_empty())
    {
        let operation = new.ops.full_name(number as u32);
        let (kind, name) = new.ops.get(number as u32);
        for cells in series.cells.chunk_by(|a, b| day(a) == day(b)) {
            let stored = stored_day(tx, scan, &operation, day(&cells[0]))?;
            put(tx, scan, &operation, (day(&cells[0]), None), &stored.joined(cells))?;
        }
        if let Some(number) = merged.ops.find(kind, name) {
            let all = &merged.tally.series[number as usize];
            put(tx, scan, &operation, (ALL_DAYS, all.span), &[Cell { hour: NO_HOUR, ..all.total() }])?;
        }
    }
    save_files(tx, now, scan, files)
}

fn day(cell: &Cell) -> i32 {
    if cell.hour == NO_HOUR { NO_HOUR } else { cell.hour.div_euclid(24) }
}

/// What is known of one operation on one day.
fn stored_day(tx: &Transaction<'_>, scan: i64, operation: &str, day: i32) -> Result<Series, Failure> {
    let cells = tx
        .prepare_cached("SELECT cells FROM log_cells WHERE scan = ?1 AND day = ?2 AND operation = ?3")?
        .query_row(params![scan, day, operation], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    let cells = cells.map_or(Ok(Vec::new()), |bytes| read_cells(&bytes))?;
    Ok(Series::of(cells))
}

fn put(
    tx: &Transaction<'_>,
    scan: i64,
    operation: &str,
    (day, span): (i32, Option<(i64, i64)>),
    cells: &[Cell],
) -> Result<(), Failure> {
    let (first, last) = span.unzip();
    tx.prepare_cached("INSERT OR REPLACE INTO log_cells VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![scan, operation, day, first, last, pack(cells)])?;
    Ok(())
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
