//! Draining `capture.db`: exactly once, whatever happens (invariant I3), and read-only (I6).

use nightshift_core::rusqlite::{Connection, params};
use nightshift_testkit::Home;
use serde_json::json;

/// As `serve` makes it.
fn capture(home: &Home) -> Connection {
    home.run("memory", &["list"]).expect(3);
    let connection = Connection::open(home.path().join("sandbox_data/capture.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE exchange (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,
                generation INTEGER NOT NULL, adapter_id TEXT, kind TEXT NOT NULL, ok INTEGER NOT NULL,
                failure_class TEXT, latency_ms REAL NOT NULL, tags TEXT NOT NULL, body TEXT NOT NULL);
             CREATE TABLE feedback (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT NOT NULL,
                exchange_id TEXT NOT NULL, value REAL NOT NULL, source TEXT NOT NULL, comment TEXT, correction TEXT);",
        )
        .unwrap();
    connection
}

fn exchange(connection: &Connection, number: usize, kind: &str) {
    let id = format!("id-{number:04}");
    let body = json!({"id": id, "ts": "2026-03-01T12:00:00.000000Z", "target": "nightshift", "query": format!("q{number}"),
        "messages": [{"role": "user", "content": format!("q{number}")}], "response": "a", "success": true,
        "source": "serve", "source_id": id});
    connection
        .execute(
            "INSERT INTO exchange (id, at, generation, kind, ok, latency_ms, tags, body)
             VALUES (?1, '2026-03-01T12:00:00Z', 0, ?2, 1, 1.0, '[]', ?3)",
            params![id, kind, body.to_string()],
        )
        .unwrap();
}

fn count(home: &Home, table: &str) -> i64 {
    home.store().read().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn live_exchanges_come_over_once() {
    let home = Home::new();
    let capture = capture(&home);
    for number in 0..3 {
        exchange(&capture, number, "live");
    }
    exchange(&capture, 3, "probe");
    capture
        .execute("INSERT INTO feedback (id, at, exchange_id, value, source) VALUES ('f', '2026-03-01T13:00:00Z', 'id-0001', -1, 'user')", [])
        .unwrap();
    let report = home.run("memory", &["import", "--json"]).expect(0).json();
    assert_eq!(
        (&report["added"], &report["feedback"], &report["not_live"]),
        (&json!(3), &json!(1), &json!(1))
    );
    let failed = home.run("memory", &["list", "--failed", "--json"]).expect(0).json();
    assert_eq!(failed["interactions"][0]["interaction"]["id"], "id-0001");
    let again = home.run("memory", &["import", "--json"]).expect(0).json();
    assert_eq!((&again["added"], &again["feedback"]), (&json!(0), &json!(0)));
    exchange(&capture, 9, "live");
    assert_eq!(home.run("memory", &["import", "--json"]).expect(0).json()["added"], 1);
    assert_eq!(count(&home, "events WHERE topic = 'memory:new'"), 4, "one event for each row");
}

#[test]
fn a_killed_drain_loses_and_repeats_nothing() {
    let mut home = Home::new();
    let capture = capture(&home);
    for number in 0..1200 {
        exchange(&capture, number, "live");
    }
    home.set("NIGHTSHIFT_CRASH_AT", "memory.drained");
    let mut kills = 0;
    while home.run("memory", &["import"]).code == 137 {
        kills += 1;
    }
    assert_eq!(kills, 3, "killed after each batch");
    assert_eq!((count(&home, "interactions"), count(&home, "events")), (1200, 1200));
}

#[test]
fn a_damaged_body_is_named_and_the_rest_comes_over() {
    let home = Home::new();
    let capture = capture(&home);
    exchange(&capture, 0, "live");
    exchange(&capture, 1, "live");
    capture.execute("UPDATE exchange SET body = '{\"id\": 1' WHERE seq = 1", []).unwrap();
    let report = home.run("memory", &["import", "--json"]).expect(0).json();
    assert_eq!(report["added"], 1);
    assert!(report["bad_lines"][0].as_str().unwrap().starts_with("capture.db exchange 1: "), "{report}");
}

#[test]
fn without_a_recording_there_is_nothing_to_do() {
    Home::new().run("memory", &["import"]).expect(3);
}
