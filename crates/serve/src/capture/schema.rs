//! The file itself: opened or made, mode 0600, with a salt for user names.

use std::path::Path;

use nightshift_core::jiff::Timestamp;
use nightshift_core::random::{new_id, sha256_hex};
use nightshift_core::{Failure, OrFail, files};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// `user_version` of the file.
const VERSION: i64 = 1;

/// `memory` and `deploy` read the first two tables; `secret` is ours alone.
const SQL: &str = "
CREATE TABLE exchange (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,
  generation INTEGER NOT NULL, adapter_id TEXT, kind TEXT NOT NULL, ok INTEGER NOT NULL,
  failure_class TEXT, latency_ms REAL NOT NULL, tags TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE feedback (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,
  exchange_id TEXT NOT NULL, value REAL NOT NULL, source TEXT NOT NULL, comment TEXT, correction TEXT);
CREATE TABLE secret (name TEXT PRIMARY KEY, value TEXT NOT NULL);
PRAGMA user_version = 1;
";

/// The open file and the salt of its user names.
pub(super) fn open(path: &Path) -> Result<(Connection, String), Failure> {
    if let Some(folder) = path.parent() {
        files::create_dir(folder)?;
    }
    let mut connection = Connection::open(path).or_fail(|| format!("cannot open {}", path.display()))?;
    files::make_private(path)?;
    prepare(&mut connection)
        .map_err(|failure| match failure.exit() {
            nightshift_core::Exit::Failed => Failure::failed(format!("{} cannot be used", path.display()))
                .hint("free some space, check its mode, or start with --no-record")
                .because(failure),
            _ => failure,
        })
        .map(|salt| (connection, salt))
}

fn prepare(connection: &mut Connection) -> Result<String, Failure> {
    nightshift_core::store::configure(connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => transaction.execute_batch(SQL)?,
        VERSION => {}
        _ => {
            return Err(Failure::config(format!(
                "capture.db has version {version}, this program knows {VERSION}"
            ))
            .hint("upgrade Nightshift"));
        }
    }
    let known = transaction
        .query_row("SELECT value FROM secret WHERE name = 'user_salt'", [], |row| row.get(0))
        .optional()?;
    let salt = if let Some(salt) = known {
        salt
    } else {
        // Three ids hold 222 bits from the operating system.
        let ids = [(); 3].map(|()| new_id(Timestamp::UNIX_EPOCH)).concat();
        let salt = sha256_hex(ids.as_bytes());
        transaction.execute("INSERT INTO secret VALUES ('user_salt', ?1)", [&salt])?;
        salt
    };
    transaction.commit()?;
    Ok(salt)
}
