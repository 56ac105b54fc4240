//! The history database: both layouts, bad rows, locked and broken files, the JSON predecessor.

use std::path::Path;

use nightshift_core::clock::Clock;
use nightshift_core::files;
use nightshift_core::rusqlite::Connection;
use nightshift_core::signal::Stop;
use nightshift_core::synergy::history::{History, HistoryError, Scope, migrate, read, record};
use serde_json::{Map, Value, json};

fn tools() -> (Clock, Stop) {
    (Clock::new(None), Stop::default())
}

fn rows(path: &Path, scope: &Scope) -> Vec<(i64, Value)> {
    let (clock, stop) = tools();
    let rows = read(path, scope, &clock, &stop).unwrap();
    rows.into_iter().map(|row| (row.id, Value::Object(row.entry))).collect()
}

fn entry(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn database(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

const LEGACY: &str =
    "CREATE TABLE synergy_history (id INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT NOT NULL);";

#[test]
fn every_row_counts_whatever_its_source_and_text_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    // A migrated file: the column came later, so it stands last.
    database(
        &path,
        &format!(
            "{LEGACY} INSERT INTO synergy_history (entry) VALUES ('{{\"synergy_roi\": 0.01, \"note\": \"kept\"}}');
             ALTER TABLE synergy_history ADD COLUMN source_menace_id TEXT NOT NULL DEFAULT '';
             INSERT INTO synergy_history (entry, source_menace_id) VALUES
               ('not json', 'a'), ('[1]', 'a'), ('{{\"synergy_roi\": NaN, \"s\": \"NaN \\\" Infinity\"}}', 'a');
             INSERT INTO synergy_history (entry, source_menace_id) VALUES (x'ff00', 'b');"
        ),
    );
    let all = rows(&path, &Scope::All);
    assert_eq!(all.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(all[0].1, json!({"synergy_roi": 0.01, "note": "kept"}));
    assert_eq!((&all[1].1, &all[2].1, &all[4].1), (&json!({}), &json!({}), &json!({})));
    assert_eq!(all[3].1, json!({"synergy_roi": null, "s": "NaN \" Infinity"}));
    assert_eq!(rows(&path, &"a".parse().unwrap()).len(), 3);
    assert_eq!(rows(&path, &Scope::Source(String::new())).len(), 1);
    let history = History::open(&path).unwrap();
    assert_eq!(history.latest(&Scope::All).unwrap().unwrap().id, 5);
    assert_eq!(history.after(3, &Scope::All).unwrap().len(), 2);
}

#[test]
fn recording_fills_the_source_where_there_is_a_column() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, stop) = tools();
    let (old, new) = (dir.path().join("old.db"), dir.path().join("deep/new.db"));
    database(&old, LEGACY);
    for path in [&old, &new] {
        let one = entry(&json!({"synergy_roi": 0.5}));
        assert_eq!(record(path, "me", &[one.clone(), one], &clock, &stop).unwrap(), [1, 2]);
        assert_eq!(rows(path, &Scope::All).len(), 2);
    }
    assert_eq!(rows(&old, &"me".parse().unwrap()).len(), 0, "the old layout has no sources");
    assert_eq!(rows(&new, &"me".parse().unwrap()).len(), 2);
    let columns = "SELECT group_concat(name) FROM pragma_table_info('synergy_history')";
    let columns: String = Connection::open(&new).unwrap().query_row(columns, [], |row| row.get(0)).unwrap();
    assert_eq!(columns, "id,source_menace_id,entry");
}

#[test]
fn the_predecessor_is_taken_over_once_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, stop) = tools();
    let (path, list) = (dir.path().join("synergy_history.db"), dir.path().join("synergy_history.json"));
    files::write_atomic(&list, br#"[{"synergy_roi": 0.1, "note": "text"}, 7, {"synergy_roi": NaN}]"#)
        .unwrap();
    assert_eq!(rows(&list, &Scope::All).len(), 3);
    assert!(migrate(&path, &clock, &stop).unwrap());
    let found = rows(&path, &Scope::All);
    assert_eq!(found[0], (1, json!({"synergy_roi": 0.1, "note": "text"})));
    assert_eq!(found[1], (2, json!({})));
    assert!(list.exists() && !migrate(&path, &clock, &stop).unwrap());
}

#[test]
fn files_that_are_no_history_are_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, stop) = tools();
    let path = dir.path().join("h.db");
    let open = || History::open(&path).map(|_| ());
    assert!(matches!(open(), Err(HistoryError::Missing(_))));
    files::write_atomic(&path, b"").unwrap();
    assert!(History::open(&path).unwrap().latest(&Scope::All).unwrap().is_none(), "0 bytes: no rows");
    let garbage = [b"SQLite format 3\0".as_slice(), &[7; 4096]].concat();
    files::write_atomic(&path, &garbage).unwrap();
    assert!(matches!(open(), Err(HistoryError::Corrupt { .. })));
    assert!(record(&path, "me", &[Map::new()], &clock, &stop).is_err());
    assert_eq!(files::read(&path).unwrap(), garbage);
    files::remove_file(&path).unwrap();
    database(&path, "CREATE TABLE other (a);");
    assert!(matches!(open(), Err(HistoryError::Foreign(_))));
    let list = dir.path().join("list.json");
    for text in ["{\"a\": 1}", "[{]"] {
        files::write_atomic(&list, text.as_bytes()).unwrap();
        assert!(matches!(read(&list, &Scope::All, &clock, &stop), Err(HistoryError::Json { .. })));
    }
}

#[test]
fn a_locked_database_is_said_to_be_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let writer = database(&path, LEGACY);
    writer.execute_batch("BEGIN EXCLUSIVE; INSERT INTO synergy_history (entry) VALUES ('{}');").unwrap();
    let error = History::open(&path).and_then(|history| history.after(0, &Scope::All)).unwrap_err();
    assert!(matches!(error, HistoryError::Locked(_)), "{error:?}");
    assert_eq!(nightshift_core::Failure::from(error).exit().code(), 7);
}

#[test]
fn the_version_moves_with_a_commit_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let writer = database(&path, LEGACY);
    let history = History::open(&path).unwrap();
    let before = history.version().unwrap();
    assert_eq!(history.version().unwrap(), before);
    writer.execute_batch("INSERT INTO synergy_history (entry) VALUES ('{}')").unwrap();
    assert_ne!(history.version().unwrap(), before);
}
