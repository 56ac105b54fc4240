//! The exporter as a scraper and a monitor see it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use nightshift_core::files;
use nightshift_core::rusqlite::Connection;
use nightshift_testkit::{Home, free_port, wait_until};
use serde_json::{Value, json};

const PROGRAM: &str = "synergy-weights";
const DB: &str = "sandbox_data/synergy_history.db";

struct Exporter {
    child: Child,
    port: u16,
}

impl Exporter {
    fn start(home: &Home, more: &[&str]) -> Self {
        let port = free_port();
        let number = port.to_string();
        let arguments = [&["export-metrics", "--port", &number, "--interval", "0.1", "-v"], more].concat();
        let exporter = Self { child: home.spawn(PROGRAM, &arguments), port };
        wait_until("the exporter", Duration::from_secs(20), || exporter.get("/health", ""));
        exporter
    }

    /// Status, headers and body.
    fn get(&self, path: &str, accept: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head.to_ascii_lowercase(), body.to_owned()))
    }

    fn metrics(&self) -> String {
        self.get("/metrics", "").unwrap().2
    }

    fn health(&self) -> (u16, Value) {
        let (status, _, body) = self.get("/health", "").unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    fn end(mut self, signal: &str) -> i32 {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn database(home: &Home) -> Connection {
    home.run(PROGRAM, &["record", "roi=0.05", "efficiency=0.01"]).expect(0);
    Connection::open(home.path().join(DB)).unwrap()
}

fn insert(connection: &Connection, entry: &Value) {
    let sql = "INSERT INTO synergy_history (source_menace_id, entry) VALUES ('other', ?1)";
    connection.execute(sql, [entry.to_string()]).unwrap();
}

#[test]
fn the_newest_row_is_read_when_it_is_asked_for() {
    let mut home = Home::new();
    home.now(None);
    let connection = database(&home);
    let exporter = Exporter::start(&home, &["--history-file", DB]);
    let page = exporter.metrics();
    for line in
        ["synergy_roi 0.05", "synergy_efficiency 0.01", "# TYPE synergy_exporter_failures_total counter"]
    {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let (status, before) = exporter.health();
    assert_eq!((status, &before["status"], &before["healthy"]), (200, &json!("ok"), &json!(true)));
    assert_eq!(before["updated"], before["last_update"]);
    // Keys vanish, text is left out, odd names are made right, a taken name is not taken twice.
    insert(
        &connection,
        &json!({
            "synergy_roi": 0.07, "note": "text", "1 odd-key": 2, "synergy_exporter_failures_total": 99, "n": null, "x": "3.5",
        }),
    );
    let page = exporter.metrics();
    for line in ["synergy_roi 0.07", "_1_odd_key 2", "x 3.5", "synergy_exporter_failures_total 0"] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    assert!(!page.contains("synergy_efficiency") && !page.contains("note"), "{page}");
    let (_, after) = exporter.health();
    assert!(after["updated"].as_f64() > before["updated"].as_f64());
    assert!(
        page.contains("synergy_exporter_last_entry_timestamp_seconds") && page.contains("_uptime_seconds")
    );
    // A row that is no object has no values; the exporter lives on.
    connection
        .execute_batch("INSERT INTO synergy_history (source_menace_id, entry) VALUES ('', 'broken')")
        .unwrap();
    assert!(!exporter.metrics().contains("synergy_roi"));
    assert_eq!(exporter.end("-INT"), 0);
    assert!(home.read("synergy-weights.err").contains("Synergy metrics exporter running"));
}

#[test]
fn content_types_as_prometheus_3_wants_them() {
    let home = Home::new();
    database(&home);
    let exporter = Exporter::start(&home, &[]);
    let (_, head, body) = exporter.get("/metrics", "").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(!body.contains("# EOF"));
    let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let (_, head, body) = exporter.get("/metrics", accept).unwrap();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n") && body.contains("# TYPE synergy_exporter_failures counter"), "{body}");
    assert_eq!(exporter.get("/", "").unwrap().0, 200);
    assert_eq!(exporter.get("/else", "").unwrap().0, 404);
    assert_eq!(exporter.end("-TERM"), 0);
}

#[test]
fn a_history_that_comes_goes_and_is_replaced() {
    let home = Home::new();
    let exporter = Exporter::start(&home, &[]);
    let (status, health) = exporter.health();
    assert_eq!((status, &health["healthy"]), (503, &json!(false)), "{health}");
    assert!(health["error"].as_str().unwrap().contains("there is no history"));
    assert!(!exporter.metrics().contains("synergy_exporter_failures_total 0\n"));
    drop(database(&home));
    let shown = |value: &str| exporter.metrics().lines().any(|line| line == value).then_some(());
    wait_until("the new history", Duration::from_secs(10), || shown("synergy_roi 0.05"));
    // A restored backup takes the name: another inode.
    let other = Home::new();
    other.run(PROGRAM, &["record", "roi=0.5"]).expect(0);
    for suffix in ["-wal", "-shm"] {
        files::remove_file(&home.path().join(format!("{DB}{suffix}"))).unwrap();
    }
    files::copy(&other.path().join(DB), &home.path().join(DB)).unwrap();
    wait_until("the restored history", Duration::from_secs(10), || shown("synergy_roi 0.5"));
    files::write_atomic(&home.path().join(DB), &[b'x'; 5000]).unwrap();
    wait_until("the failure", Duration::from_secs(10), || {
        exporter
            .metrics()
            .contains("synergy_exporter_failures_total 0\n")
            .then_some(())
            .is_none()
            .then_some(())
    });
    assert_eq!(exporter.health().0, 200, "the last values are still fresh enough");
    assert!(exporter.metrics().contains("synergy_roi 0.5"));
}

#[test]
fn a_port_in_use_is_said() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = home.run(PROGRAM, &["export-metrics", "--port", &port]).expect(1);
    assert!(
        ran.stderr.contains("already in use") && ran.stderr.contains("SYNERGY_METRICS_PORT"),
        "{}",
        ran.stderr
    );
}

#[test]
fn audit_lines_where_they_are_wanted() {
    let mut home = Home::new();
    home.set("SANDBOX_CENTRAL_LOGGING", "1");
    home.set("AUDIT_LOG_PATH", "audit/trail.log");
    home.set("KAFKA_HOSTS", "kafka:9092");
    database(&home);
    let exporter = Exporter::start(&home, &[]);
    let port = exporter.port.to_string();
    home.run(PROGRAM, &["export-metrics", "--port", &port]).expect(1);
    assert_eq!(exporter.end("-TERM"), 0);
    let trail = home.read("audit/trail.log");
    let lines: Vec<&str> = trail.lines().collect();
    assert!(
        lines[0].starts_with("- {\"address\":") && lines[0].contains("\"event\":\"exporter_started\""),
        "{trail}"
    );
    assert!(lines[1].contains("exporter_start_failed") && lines[1].contains("already in use"), "{trail}");
    assert!(lines[0].ends_with(",\"timestamp\":1772416800}"), "an integer, keys sorted: {trail}");
    assert_eq!(home.read("audit/trail.log.kafka").lines().next().unwrap(), &lines[0][2..]);
    assert!(home.read("synergy-weights.err").contains("does not speak to Kafka"));
}
