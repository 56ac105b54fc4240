//! The auto trainer: each row once, whatever happens to processes, files and the history.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use nightshift_core::files;
use nightshift_core::rusqlite::Connection;
use nightshift_testkit::{Answer, FakeServer, Home, free_port, wait_until};
use serde_json::{Value, json};

use crate::rows::{lines, telling};

const PROGRAM: &str = "synergy-weights";
const DB: &str = "sandbox_data/synergy_history.db";
const WEIGHTS: &str = "sandbox_data/synergy_weights.json";
const PROGRESS: &str = "sandbox_data/last_ts.json";
const ONCE: &[&str] = &["auto-train", "--run-once", "--json"];

fn record(home: &Home, rows: &[Value]) {
    home.write("rows.jsonl", &lines(rows));
    home.run(PROGRAM, &["record", "--file", "rows.jsonl"]).expect(0);
}

/// Everything that a training leaves, and how many log lines there are.
fn state(home: &Home) -> (String, String, Vec<u8>, usize) {
    let learner = files::read(&home.path().join("sandbox_data/last_ts.json.learner")).unwrap();
    let log = home.read("sandbox_data/synergy_weights.log").lines().count();
    (home.read(WEIGHTS), home.read(PROGRESS), learner, log)
}

#[test]
fn rows_count_once_and_in_parts_as_at_once() {
    let (whole, parts) = (Home::new(), Home::new());
    record(&whole, &telling(50, 0));
    record(&parts, &telling(20, 0));
    let report = whole.run(PROGRAM, ONCE).expect(0).json();
    assert_eq!((&report["rows"], &report["last_id"]), (&json!(50), &json!(50)));
    parts.run(PROGRAM, ONCE).expect(0);
    assert_eq!(parts.read(PROGRESS), "{\"last_id\": 20}");
    let before = state(&parts);
    let nothing = parts.run(PROGRAM, ONCE).expect(3).json();
    assert_eq!(nothing["rows"], json!(0));
    assert_eq!(state(&parts), before, "no row, no change");
    record(&parts, &telling(30, 20));
    assert_eq!(parts.run(PROGRAM, ONCE).expect(0).json()["rows"], json!(30));
    let (whole, parts) = (state(&whole), state(&parts));
    assert_eq!((&whole.0, &whole.1, &whole.2), (&parts.0, &parts.1, &parts.2), "the same bits");
    assert_eq!((whole.3, parts.3), (2, 3), "one line for each training, behind the first");
}

#[test]
fn killed_between_any_two_writes_it_is_as_if_it_had_not_been() {
    let undisturbed = Home::new();
    record(&undisturbed, &telling(30, 0));
    undisturbed.run(PROGRAM, ONCE).expect(0);
    record(&undisturbed, &telling(10, 30));
    undisturbed.run(PROGRAM, ONCE).expect(0);
    let expected = state(&undisturbed);
    let mut kills = 0;
    for write in 1.. {
        let mut home = Home::new();
        record(&home, &telling(30, 0));
        home.run(PROGRAM, ONCE).expect(0);
        record(&home, &telling(10, 30));
        home.set("NIGHTSHIFT_CRASH_AT", &format!("commit.write:{write}"));
        let ran = home.run(PROGRAM, ONCE);
        home.unset("NIGHTSHIFT_CRASH_AT");
        if ran.code != 137 {
            ran.expect(0);
            break;
        }
        kills += 1;
        // Weights are never half of anything, and always there.
        let shown = home.run(PROGRAM, &["show"]).expect(0);
        assert!(!shown.stderr.contains("note:"), "{}", shown.stderr);
        let code = home.run(PROGRAM, ONCE).code;
        assert!(code == 0 || code == 3, "{code} after a kill at write {write}");
        assert_eq!(state(&home), expected, "killed at write {write}");
        let unfinished =
            |path: &PathBuf| path.extension().is_some_and(|found| found == "next" || found == "intent");
        let mut left = files::list(&home.path().join("sandbox_data")).unwrap();
        left.retain(unfinished);
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(kills >= 12, "{kills} kills");
}

#[test]
fn a_change_by_hand_after_a_kill_completes_the_training_first() {
    let mut home = Home::new();
    record(&home, &telling(40, 0));
    // The first training of a home stages three files, then the intent is written.
    home.set("NIGHTSHIFT_CRASH_AT", "commit.write:5");
    home.run(PROGRAM, ONCE).expect(137);
    home.unset("NIGHTSHIFT_CRASH_AT");
    home.write("new.json", "{\"throughput\": 4}");
    home.run(PROGRAM, &["import", "new.json"]).expect(0);
    let map: Value = serde_json::from_str(&home.read(WEIGHTS)).unwrap();
    assert!(map["throughput"] == json!(4.0) && map["efficiency"].as_f64().unwrap() > 1.1, "{map}");
    assert_eq!(home.read(PROGRESS), "{\"last_id\": 40}");
    // What was set by hand is the new start, and is not undone.
    record(&home, &telling(1, 40));
    home.run(PROGRAM, ONCE).expect(0);
    let map: Value = serde_json::from_str(&home.read(WEIGHTS)).unwrap();
    assert!((map["throughput"].as_f64().unwrap() / 4.0 - 1.0).abs() < 0.25, "{map}");
}

#[test]
fn a_restored_backup_is_noticed_even_when_it_has_grown() {
    let home = Home::new();
    record(&home, &telling(20, 0));
    home.run(PROGRAM, ONCE).expect(0);
    let backup = home.path().join("backup.db");
    Connection::open(home.path().join(DB))
        .unwrap()
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    record(&home, &telling(10, 20));
    home.run(PROGRAM, ONCE).expect(0);
    assert_eq!(home.read(PROGRESS), "{\"last_id\": 30}");
    let restore = || {
        for suffix in ["-wal", "-shm"] {
            files::remove_file(&home.path().join(format!("{DB}{suffix}"))).unwrap();
        }
        files::copy(&backup, &home.path().join(DB)).unwrap();
    };
    restore();
    let ran = home.run(PROGRAM, ONCE).expect(3);
    assert!(ran.stderr.contains("the history is an older copy: rows above id 20 are new"), "{}", ran.stderr);
    assert_eq!(home.read(PROGRESS), "{\"last_id\": 20}");
    record(&home, &telling(10, 100));
    assert_eq!(home.run(PROGRAM, ONCE).expect(0).json()["rows"], json!(10));
    // Restored again, and grown past the old id before anybody looks: fifteen other rows are new, none is lost.
    restore();
    record(&home, &telling(15, 200));
    let ran = home.run(PROGRAM, ONCE).expect(0);
    assert!(ran.stderr.contains("older copy") && ran.json()["rows"] == json!(15), "{}", ran.stderr);
    // Another history altogether.
    for suffix in ["", "-wal", "-shm"] {
        files::remove_file(&home.path().join(format!("{DB}{suffix}"))).unwrap();
    }
    record(&home, &telling(3, 900));
    let ran = home.run(PROGRAM, ONCE).expect(0);
    assert!(ran.stderr.contains("another one") && ran.json()["rows"] == json!(3), "{}", ran.stderr);
}

#[test]
fn progress_of_another_program_is_obeyed_and_a_deleted_one_starts_over() {
    let home = Home::new();
    record(&home, &telling(30, 0));
    home.write(PROGRESS, "{\"last_id\": 28}");
    assert_eq!(home.run(PROGRAM, ONCE).expect(0).json()["rows"], json!(2));
    for bad in ["", "broken", "[]", "{\"last_id\": \"x\"}"] {
        home.write(PROGRESS, bad);
        assert_eq!(home.run(PROGRAM, ONCE).expect(0).json()["rows"], json!(30), "{bad:?}");
    }
    home.write(PROGRESS, "{\"last_id\": 999}");
    let ran = home.run(PROGRAM, ONCE).expect(3);
    assert!(ran.stderr.contains("ends at id 30"), "{}", ran.stderr);
    assert_eq!(home.read(PROGRESS), "{\"last_id\": 30}");
}

#[test]
fn missing_files_are_made_and_failures_keep_the_progress() {
    let mut home = Home::new();
    home.store();
    let hook = FakeServer::start(|_| Answer::Json(json!({})));
    home.set("NOTIFICATION_WEBHOOK", &format!("{}/hook", hook.url()));
    let arguments = ["auto-train", "--run-once", "--history-file", "my.db", "--weights-file", "my.json"];
    let ran = home.run(PROGRAM, &arguments).expect(3);
    for name in ["my.db", "my.json"] {
        assert!(
            ran.stderr.contains(&format!("file {name} missing - created empty file at")),
            "{}",
            ran.stderr
        );
        assert_eq!(home.read(&format!("sandbox_data/{name}")), "");
    }
    home.write("sandbox_data/my.db", "this is no database, though it is long enough to be one");
    home.write("sandbox_data/my.json", "{\"roi\": 2.0}");
    files::remove_file(&home.path().join(PROGRESS)).unwrap();
    home.run(PROGRAM, &arguments).expect(1);
    assert_eq!(
        (home.read(PROGRESS), home.read("sandbox_data/my.json")),
        ("{\"last_id\": 0}".into(), "{\"roi\": 2.0}".into())
    );
    let news = hook.requests();
    assert_eq!(news.len(), 1, "one failure, one alert");
    assert!(
        news[0].body.contains("synergy_weight_update_failure") && news[0].body.contains("my.json"),
        "{}",
        news[0].body
    );
    let page = nightshift_core::metrics::render(home.store().read()).unwrap();
    assert!(page.contains("\nsynergy_weight_update_alerts_total 1\n"), "{page}");
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn end(child: &mut std::process::Child, signal: &str) -> i32 {
    assert!(
        std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    child.wait().unwrap().code().unwrap()
}

#[test]
fn it_follows_the_history_retries_and_ends_well() {
    let mut home = Home::new();
    home.now(None);
    home.set("EXPORT_SYNERGY_METRICS", "1");
    home.set("SANDBOX_CENTRAL_LOGGING", "1");
    record(&home, &telling(20, 0));
    let port = free_port();
    let number = port.to_string();
    let mut child = home.spawn(PROGRAM, &["auto-train", "--interval", "0.2", "--metrics-port", &number]);
    let shows =
        |line: &str| get(port, "/metrics").filter(|page| page.lines().any(|found| found == line)).map(|_| ());
    let soon = Duration::from_secs(30);
    wait_until("the first rows", soon, || shows("synergy_trainer_last_id 20"));
    wait_until("the exporter beside", soon, || shows("synergy_exporter_failures_total 0"));
    record(&home, &telling(5, 20));
    wait_until("the next rows", soon, || shows("synergy_trainer_last_id 25"));
    assert!(get(port, "/metrics").unwrap().contains("synergy_weight_updates_total 2\n"));
    // The history is held by somebody: the weights stay, and the rows are counted afterwards.
    let writer = Connection::open(home.path().join(DB)).unwrap();
    writer.execute_batch("ALTER TABLE synergy_history RENAME TO hidden").unwrap();
    wait_until("a failure", soon, || (shows("synergy_trainer_failures_total 0").is_none()).then_some(()));
    assert_eq!(home.read(PROGRESS), "{\"last_id\": 25}");
    writer.execute_batch("ALTER TABLE hidden RENAME TO synergy_history").unwrap();
    record(&home, &telling(5, 25));
    wait_until("the retry", soon, || shows("synergy_trainer_last_id 30"));
    assert_eq!(end(&mut child, "-TERM"), 0);
    let trail = home.read("logs/audit.log");
    for event in ["exporter_started", "synergy_weights_trained", "synergy_weight_update_failed"] {
        assert!(trail.contains(&format!("\"event\":\"{event}\"")), "{event}: {trail}");
    }
}

#[test]
fn a_port_from_the_environment_may_be_taken_and_is_tried_again() {
    let mut home = Home::new();
    home.now(None);
    record(&home, &telling(20, 0));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let number = port.to_string();
    assert!(
        home.run(PROGRAM, &["auto-train", "--run-once", "--metrics-port", &number])
            .expect(1)
            .stderr
            .contains("already in use")
    );
    home.set("METRICS_PORT", &number);
    home.set("SYNERGY_EXPORTER_CHECK_INTERVAL", "0.1");
    let mut child = home.spawn(PROGRAM, &["auto-train", "--interval", "600"]);
    let soon = Duration::from_secs(30);
    wait_until("the training", soon, || home.path().join(PROGRESS).exists().then_some(()));
    drop(taken);
    wait_until("the port", soon, || {
        get(port, "/metrics").filter(|page| page.contains("synergy_exporter_restarts_total 1\n"))
    });
    assert_eq!(end(&mut child, "-INT"), 0);
}

#[test]
fn two_trainers_count_each_row_once() {
    let home = Home::new();
    record(&home, &telling(20, 0));
    let arguments = ["auto-train", "--interval", "0.05"];
    let mut trainers = [home.spawn(PROGRAM, &arguments), home.spawn(PROGRAM, &arguments)];
    for first in (20..60).step_by(10) {
        record(&home, &telling(10, first));
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_until("all rows", Duration::from_secs(30), || {
        (home.read(PROGRESS) == "{\"last_id\": 60}").then_some(())
    });
    for child in &mut trainers {
        assert_eq!(end(child, "-TERM"), 0);
    }
    let whole = Home::new();
    record(&whole, &telling(60, 0));
    whole.run(PROGRAM, ONCE).expect(0);
    assert_eq!((&state(&home).0, &state(&home).2), (&state(&whole).0, &state(&whole).2));
}

#[test]
fn the_exporter_trains_where_it_is_asked_to() {
    let mut home = Home::new();
    home.now(None);
    home.set("AUTO_TRAIN_SYNERGY", "1");
    home.set("AUTO_TRAIN_INTERVAL", "0.2");
    record(&home, &telling(20, 0));
    let port = free_port();
    let mut child = home.spawn(PROGRAM, &["export-metrics", "--port", &port.to_string()]);
    wait_until("the training", Duration::from_secs(30), || {
        get(port, "/metrics")
            .filter(|page| page.contains("synergy_trainer_last_id 20\n") && page.contains("synergy_roi "))
    });
    assert_eq!(end(&mut child, "-TERM"), 0);
    assert_eq!(home.read(PROGRESS), "{\"last_id\": 20}");
}
