//! `synergy_history.db`: one JSON object a row, written by other programs. Opened for reading only, except to
//! record. Both layouts are read (with and without `source_menace_id`, at any place), and `.json` files that
//! hold a list of objects.
//!
//! A row that is no JSON object counts and is empty; values that are no numbers are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::clock::Clock;
use crate::commit::with_suffix;
use crate::error::Failure;
use crate::exit::Exit;
use crate::files::{self, FileError};
use crate::lock::Lock;
use crate::signal::Stop;
use crate::synergy::parse;

/// How long a reader waits for a writer.
const BUSY: Duration = Duration::from_secs(5);

/// The source that a program of its own writes; stand-alone readers of other programs look for it.
pub const SOURCE: &str = "synergy_history_db";

/// Why a history cannot be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Neither the file nor its predecessor is there.
    #[error("there is no history at {}", .0.display())]
    Missing(PathBuf),
    /// Somebody else holds it.
    #[error("{} is locked by another program", .0.display())]
    Locked(PathBuf),
    /// Not a database, or a broken one.
    #[error("{} is not a readable SQLite database", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A database of something else.
    #[error("{} has no table `synergy_history`", .0.display())]
    Foreign(PathBuf),
    /// Not a JSON list.
    #[error("{}: {why}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another lock holder.
    #[error("{0}")]
    Busy(String),
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        let text = error.to_string();
        match error {
            HistoryError::File(error) => error.into(),
            HistoryError::Missing(_) => {
                Self::failed(text).hint("give the .db or .json file that the history is recorded in")
            }
            HistoryError::Locked(_) => Self::busy(text).hint("wait for the other program, then try again"),
            HistoryError::Busy(_) => Self::busy(text),
            HistoryError::Corrupt { source, .. } => Self::new(Exit::Failed, text)
                .hint("nothing was changed; restore a backup, or save what `sqlite3 FILE .recover` finds")
                .because(source),
            HistoryError::Foreign(_) | HistoryError::Json { .. } => Self::refused(text),
        }
    }
}

/// One recorded entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Row id; the place in the list (from 1) in a JSON file.
    pub id: i64,
    /// Metric name to value; empty for a row that is no JSON object.
    pub entry: Map<String, Value>,
    /// The text as stored.
    pub text: String,
}

/// Which rows count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// Every row.
    #[default]
    All,
    /// Rows with this `source_menace_id`; a file without that column has rows of the empty source only.
    Source(String),
}

impl std::str::FromStr for Scope {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "all" { Self::All } else { Self::Source(text.to_owned()) })
    }
}

/// A database, open for reading.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    path: PathBuf,
    scoped: bool,
    empty: bool,
}

impl History {
    /// Opens a database; one of 0 bytes has no rows.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        if !path.is_file() {
            return Err(HistoryError::Missing(path.to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = explain(path);
        let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
        connection.busy_timeout(BUSY).map_err(&failed)?;
        let columns = columns(&connection).map_err(&failed)?;
        let empty = columns.is_empty();
        if !empty && !columns.iter().any(|name| name == "entry") {
            return Err(HistoryError::Foreign(path.to_owned()));
        }
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
            .map_err(&failed)?;
        if empty && tables > 0 {
            return Err(HistoryError::Foreign(path.to_owned()));
        }
        let scoped = columns.iter().any(|name| name == "source_menace_id");
        Ok(Self { connection, path: path.to_owned(), scoped, empty })
    }

    /// With another wait for writers.
    pub fn patience(self, wait: Duration) -> Result<Self, HistoryError> {
        self.connection.busy_timeout(wait).map_err(explain(&self.path))?;
        Ok(self)
    }

    /// True while the file has no table yet (0 bytes); open it again when its version moves.
    pub const fn lacks_table(&self) -> bool {
        self.empty
    }

    /// Rows with an id above `after`, in order.
    pub fn after(&self, after: i64, scope: &Scope) -> Result<Vec<Row>, HistoryError> {
        self.rows("id > ?1", "ORDER BY id", after, scope)
    }

    /// The newest row.
    pub fn latest(&self, scope: &Scope) -> Result<Option<Row>, HistoryError> {
        Ok(self.rows("id > ?1", "ORDER BY id DESC LIMIT 1", i64::MIN, scope)?.pop())
    }

    /// The row with this id.
    pub fn row(&self, id: i64) -> Result<Option<Row>, HistoryError> {
        Ok(self.rows("id = ?1", "", id, &Scope::All)?.pop())
    }

    fn rows(&self, which: &str, order: &str, id: i64, scope: &Scope) -> Result<Vec<Row>, HistoryError> {
        let of = match (scope, self.scoped) {
            _ if self.empty => return Ok(Vec::new()),
            (Scope::Source(source), false) if !source.is_empty() => return Ok(Vec::new()),
            (Scope::Source(source), true) => Some(source.as_str()),
            _ => None,
        };
        let filter = if of.is_some() { "AND source_menace_id = ?2" } else { "" };
        let sql =
            format!("SELECT id, CAST(entry AS TEXT) FROM synergy_history WHERE {which} {filter} {order}");
        let failed = explain(&self.path);
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let read = |row: &rusqlite::Row<'_>| {
            let text = row.get_ref(1)?.as_bytes_or_null()?.unwrap_or_default();
            Ok(self::row(row.get(0)?, String::from_utf8_lossy(text).into_owned()))
        };
        let rows = match of {
            Some(source) => {
                statement.query_map(rusqlite::params![id, source], read).map_err(&failed)?.collect()
            }
            None => statement.query_map([id], read).map_err(&failed)?.collect::<Result<Vec<Row>, _>>(),
        };
        rows.map_err(&failed)
    }

    /// A number that moves whenever another connection commits.
    pub fn version(&self) -> Result<i64, HistoryError> {
        self.connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(explain(&self.path))
    }
}

fn row(id: i64, text: String) -> Row {
    let entry = match parse(&text) {
        Ok(Value::Object(entry)) => entry,
        _ => Map::new(),
    };
    Row { id, entry, text }
}

/// All rows of a history: a `.json` list, or a database (made from a `.json` beside it when only that exists).
pub fn read(path: &Path, scope: &Scope, clock: &Clock, stop: &Stop) -> Result<Vec<Row>, HistoryError> {
    if is_json(path) {
        return read_list(path);
    }
    migrate(path, clock, stop)?;
    History::open(path)?.after(i64::MIN, scope)
}

/// True for the predecessor's form.
pub fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn read_list(path: &Path) -> Result<Vec<Row>, HistoryError> {
    if !path.is_file() {
        return Err(HistoryError::Missing(path.to_owned()));
    }
    let text = files::read(path)?;
    let text = String::from_utf8_lossy(&text);
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let failed = |why: String| HistoryError::Json { path: path.to_owned(), why };
    match parse(&text).map_err(|error| failed(error.to_string()))? {
        Value::Array(items) => Ok((1..).zip(items).map(|(id, item)| row(id, item.to_string())).collect()),
        _ => Err(failed("it is not a JSON list of objects".into())),
    }
}

/// Makes the database from `<name>.json` beside it, when only that exists; true when it did. The list stays.
pub fn migrate(path: &Path, clock: &Clock, stop: &Stop) -> Result<bool, HistoryError> {
    let list = path.with_extension("json");
    if path.exists() || is_json(path) || !list.is_file() {
        return Ok(false);
    }
    let _lock = hold(path, clock, stop)?;
    if path.exists() {
        return Ok(false);
    }
    let rows = read_list(&list)?;
    // Whole or not at all: the file gets its name when it is complete.
    let staged = with_suffix(path, ".next");
    files::remove_file(&staged)?;
    let failed = explain(&staged);
    let mut connection = Connection::open(&staged).map_err(&failed)?;
    create(&connection).map_err(&failed)?;
    insert(&mut connection, "", rows.iter().map(|row| row.text.as_str())).map_err(&failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    files::rename(&staged, path)?;
    Ok(true)
}

/// Appends entries, all or none, and returns their ids. Makes the database when there is none; fills
/// `source_menace_id` where the file has it.
pub fn record(
    path: &Path,
    source: &str,
    entries: &[Map<String, Value>],
    clock: &Clock,
    stop: &Stop,
) -> Result<Vec<i64>, HistoryError> {
    if let Some(folder) = path.parent() {
        files::create_dir(folder)?;
    }
    migrate(path, clock, stop)?;
    let _lock = hold(path, clock, stop)?;
    let failed = explain(path);
    let mut connection = Connection::open(path).map_err(&failed)?;
    connection.busy_timeout(BUSY).map_err(&failed)?;
    if columns(&connection).map_err(&failed)?.is_empty() {
        create(&connection).map_err(&failed)?;
    }
    let texts: Vec<String> = entries.iter().map(|entry| Value::Object(entry.clone()).to_string()).collect();
    insert(&mut connection, source, texts.iter().map(String::as_str)).map_err(&failed)
}

/// The lock that other programs take around each insert.
fn hold(path: &Path, clock: &Clock, stop: &Stop) -> Result<Lock, HistoryError> {
    Lock::wait(&with_suffix(path, ".lock"), "synergy history", BUSY, clock, stop)
        .map_err(|failure| HistoryError::Busy(failure.chain()))
}

/// The scoped layout, as its owner makes it.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS synergy_history (id INTEGER PRIMARY KEY AUTOINCREMENT,
           source_menace_id TEXT NOT NULL, entry TEXT NOT NULL);
         CREATE INDEX IF NOT EXISTS idx_synergy_history_source_menace_id ON synergy_history(source_menace_id);",
    )
}

fn insert<'a>(
    connection: &mut Connection,
    source: &str,
    entries: impl Iterator<Item = &'a str>,
) -> rusqlite::Result<Vec<i64>> {
    let scoped = columns(connection)?.iter().any(|name| name == "source_menace_id");
    let transaction = connection.transaction()?;
    let mut ids = Vec::new();
    for entry in entries {
        if scoped {
            transaction
                .prepare_cached("INSERT INTO synergy_history (source_menace_id, entry) VALUES (?1, ?2)")?
                .execute([source, entry])?;
        } else {
            transaction
                .prepare_cached("INSERT INTO synergy_history (entry) VALUES (?1)")?
                .execute([entry])?;
        }
        ids.push(transaction.last_insert_rowid());
    }
    transaction.commit()?;
    Ok(ids)
}

fn columns(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('synergy_history')")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn explain(path: &Path) -> impl Fn(rusqlite::Error) -> HistoryError + use<> {
    let path = path.to_owned();
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => HistoryError::Locked(path.clone()),
        _ => HistoryError::Corrupt { path: path.clone(), source: error },
    }
}
