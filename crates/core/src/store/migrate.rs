//! The ordered list of migrations, and applying it once whoever starts first.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::clock::Clock;
use crate::error::{Failure, OrFail};
use crate::files;
use crate::lock::Lock;
use crate::signal::Stop;

/// One step; never edited once released.
#[derive(Debug)]
pub struct Migration {
    /// What it does, in a few words.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { name: "tables of the documents", sql: include_str!("migrations/001_learning_tables.sql") },
    Migration { name: "the loop", sql: include_str!("migrations/002_loop.sql") },
    Migration { name: "reading of logs", sql: include_str!("migrations/003_log_reading.sql") },
    Migration { name: "detectors of logs", sql: include_str!("migrations/004_log_detected.sql") },
    Migration { name: "recommendations", sql: include_str!("migrations/007_advice.sql") },
];

/// The version (SQLite `user_version`) that this program reads and writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// The version of an open file; 0 for an empty one or one that the documents' programs wrote.
pub(super) fn version(connection: &Connection) -> Result<i64, Failure> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Opens the file and applies what is missing. Cheap when nothing is.
pub(super) fn bring_up_to_date(path: &Path) -> Result<Connection, Failure> {
    let existed = path.exists();
    if existed {
        let connection = open(path)?;
        if current(path, &connection)? {
            return Ok(connection);
        }
    }
    // Concurrent first starts of WAL stores fail with "table already exists" or "locked" without this lock.
    let lock_path = path.with_extension("db.lock");
    let clock = Clock::new(None);
    let _lock =
        Lock::wait(&lock_path, "migrating the store", Duration::from_secs(60), &clock, &Stop::default())?;
    let mut connection = open(path)?;
    files::make_private(path)?;
    if current(path, &connection)? {
        return Ok(connection);
    }
    let from = version(&connection)?;
    if existed && has_tables(&connection)? {
        back_up(&connection, path, from)?;
    }
    super::configure(&connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        transaction
            .execute_batch(migration.sql)
            .or_fail(|| format!("migration `{}` of {} failed", migration.name, path.display()))?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(connection)
}

fn open(path: &Path) -> Result<Connection, Failure> {
    let connection =
        Connection::open(path).or_fail(|| format!("cannot open the store {}", path.display()))?;
    connection.busy_timeout(super::BUSY)?;
    Ok(connection)
}

fn current(path: &Path, connection: &Connection) -> Result<bool, Failure> {
    let version = version(connection).map_err(|error| {
        Failure::failed(format!("{} is not a readable SQLite file", path.display()))
            .hint("move it away or restore a backup")
            .because(error)
    })?;
    if version > VERSION {
        return Err(Failure::config(format!(
            "{} has version {version}, this program knows {VERSION}: it will not write to it",
            path.display()
        ))
        .hint("upgrade Nightshift"));
    }
    Ok(version == VERSION)
}

fn has_tables(connection: &Connection) -> Result<bool, Failure> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?)
}

fn back_up(connection: &Connection, path: &Path, from: i64) -> Result<(), Failure> {
    let backup = path.with_extension(format!("db.backup-v{from}"));
    connection
        .backup("main", &backup, None::<fn(rusqlite::backup::Progress)>)
        .or_fail(|| format!("cannot back up {} before migrating it", path.display()))?;
    files::make_private(&backup)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_of_the_original_keeps_its_rows_and_is_backed_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learning.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE success_metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, metric_type TEXT NOT NULL,
                metric_name TEXT NOT NULL, value REAL NOT NULL, period_start TIMESTAMP NOT NULL,
                period_end TIMESTAMP NOT NULL, metadata TEXT, created_at TIMESTAMP);
             INSERT INTO success_metrics (metric_type, metric_name, value, period_start, period_end)
                VALUES ('task', 'rate', 0.5, '2026-01-01', '2026-01-02');",
        )
        .unwrap();
        drop(old);
        let store = Store::open(&path).unwrap();
        let value: f64 =
            store.read().query_row("SELECT value FROM success_metrics", [], |row| row.get(0)).unwrap();
        assert_eq!(value, 0.5);
        assert!(dir.path().join("learning.db.backup-v0").exists());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_newer_file_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learning.db");
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let failure = Store::open(&path).unwrap_err();
        assert_eq!(failure.exit().code(), 9);
        assert_eq!(failure.hints(), ["upgrade Nightshift"]);
    }

    #[test]
    fn garbage_is_said_to_be_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learning.db");
        files::write_atomic(&path, &[b'x'; 4096]).unwrap();
        let failure = Store::open(&path).unwrap_err();
        assert!(failure.chain().contains("learning.db"), "{}", failure.chain());
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("learning.db")).unwrap();
        let result: Result<(), Failure> = store.write(|tx| {
            crate::store::intern(tx, "half")?;
            Err(Failure::failed("stop"))
        });
        assert!(result.is_err());
        let count: i64 = store.read().query_row("SELECT count(*) FROM texts", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0);
    }
}
