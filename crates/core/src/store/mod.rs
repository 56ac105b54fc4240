//! The one SQLite store, `learning.db` (mode 0600).
//!
//! WAL, `synchronous=FULL` (a deployment must survive a power cut), foreign keys on, writes in
//! `BEGIN IMMEDIATE`. Migrations are one ordered list, applied under a lock file, so that any
//! number of programs may start at once; an older file is backed up first, a newer one refused.

mod migrate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Failure, OrFail};
use crate::files;

pub use migrate::{Migration, VERSION};

/// How long a writer waits for another one.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens the store, making or migrating it as needed.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        let connection = migrate::bring_up_to_date(path)?;
        configure(&connection)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Opens an existing store for reading; `None` when there is none yet.
    pub fn open_read_only(path: &Path) -> Result<Option<Self>, Failure> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .or_fail(|| format!("cannot open the store {}", path.display()))?;
        connection.busy_timeout(BUSY)?;
        if migrate::version(&connection)? != VERSION {
            return Ok(None);
        }
        Ok(Some(Self { connection, path: path.to_owned() }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For reading.
    pub const fn read(&self) -> &Connection {
        &self.connection
    }

    /// Runs `work` in one immediate transaction: all of it is kept, or nothing.
    pub fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// The settings of every connection that may write.
pub fn configure(connection: &Connection) -> Result<(), Failure> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

/// The id of a text, stored once.
pub fn intern(transaction: &Transaction<'_>, body: &str) -> Result<i64, Failure> {
    use sha2::Digest;
    let digest: [u8; 32] = sha2::Sha256::digest(body.as_bytes()).into();
    transaction
        .prepare_cached("INSERT INTO texts (sha256, body) VALUES (?1, ?2) ON CONFLICT (sha256) DO NOTHING")?
        .execute(rusqlite::params![digest.as_slice(), body])?;
    Ok(transaction
        .prepare_cached("SELECT id FROM texts WHERE sha256 = ?1")?
        .query_row([digest.as_slice()], |row| row.get(0))?)
}
