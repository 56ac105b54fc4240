//! What is on file afterwards: every field, every answer, every opinion.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nightshift_core::interaction::Interaction;
use nightshift_testkit::wait_until;
use serde_json::json;

use crate::house::{PATIENCE, Server, ask, capture, endless_home, home, rows, text};
use crate::wire;

const CHAT: &str = "/v1/chat/completions";

#[test]
fn an_exchange_is_recorded_with_everything_that_is_known() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    let mut request = ask("nightshift", "What is the capital?", 6);
    request["messages"] = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital?"}]},
    ]);
    request["user"] = "ann@example.com".into();
    request["metadata"] = json!({"tags": "unit,json", "session_id": "s-1", "team": "blue"});
    let headers =
        [("x-nightshift-no-train", "1"), ("x-nightshift-kind", "probe"), ("x-nightshift-tags", "extra")];
    let reply = server.post_with(CHAT, &request, &headers).expect(200);
    let row = rows(&home).pop().unwrap();
    assert_eq!(format!("chatcmpl-{}", row.id), reply.json()["id"].as_str().unwrap());
    assert_eq!((row.kind.as_str(), row.ok, row.generation, row.adapter_id), ("probe", true, 0, None));
    let body: Interaction = serde_json::from_value(row.body.clone()).unwrap();
    assert_eq!(body.query, "What is the capital?");
    assert_eq!((body.messages[0].role.as_str(), body.messages.len()), ("developer", 2));
    assert_eq!(body.response.as_deref(), Some(text(&reply).as_str()));
    assert_eq!(body.tags, ["extra", "unit", "json"]);
    assert_eq!((body.session_id.as_deref(), body.no_train), (Some("s-1"), true));
    assert_eq!((body.source.as_str(), &body.source_id), ("serve", &body.id));
    assert_eq!((body.target.as_str(), body.model.as_deref()), ("nightshift", Some("nightshift")));
    assert_eq!(body.ts, "2026-03-02T02:00:00.000000Z");
    assert_eq!(body.confidence, reply.json()["nightshift"]["confidence"].as_f64());
    assert_eq!(body.min_token_prob, body.confidence);
    assert_eq!(body.prompt_tokens, reply.json()["usage"]["prompt_tokens"].as_i64());
    assert_eq!((body.completion_tokens, body.http_status), (Some(6), Some(200)));
    assert!(body.ttft_ms.unwrap() > 0.0 && body.ttft_ms < body.latency_ms);
    assert_eq!(body.metadata, json!({"endpoint": CHAT, "labels": {"team": "blue"}}));

    let hashed = body.user_id.unwrap();
    assert!(hashed.len() == 64 && !row.body.to_string().contains("ann@"), "{hashed}");
    server.post(CHAT, &request).expect(200);
    assert_eq!(rows(&home)[1].body["user_id"], hashed.as_str(), "the same person has the same hash");
    let mode = std::fs::metadata(home.path().join("sandbox_data/capture.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn feedback_follows_an_answer_at_once() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    for _ in 0..20 {
        let id = server.chat("nightshift", "Hello", 2).expect(200).json()["id"].clone();
        let opinion =
            json!({"id": id, "value": "down", "comment": "no", "correction": "yes", "source": "test"});
        server.post("/v1/feedback", &opinion).expect(200);
    }
    let completion = json!({"model": "", "prompt": "Hello", "max_tokens": 2});
    let id = server.post("/v1/completions", &completion).expect(200).json()["id"].clone();
    server.post("/v1/feedback", &json!({"id": id, "value": 0.5})).expect(200);
    let connection = capture(&home);
    let sql = "SELECT count(*), sum(value), sum(exchange_id IN (SELECT id FROM exchange)), min(source), max(source),
        min(correction) FROM feedback";
    let found: (i64, f64, i64, String, String, String) = connection
        .query_row(sql, [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .unwrap();
    assert_eq!(found, (21, -19.5, 21, "test".into(), "user".into(), "yes".into()));

    let unknown = server.post("/v1/feedback", &json!({"id": "chatcmpl-nobody", "value": "up"})).expect(404);
    assert_eq!(unknown.code(), "exchange_not_found");
    server.post("/v1/feedback", &json!({"id": id, "value": 2})).expect(400);
    server.post("/v1/feedback", &json!({"value": "up"})).expect(400);
}

#[test]
fn nothing_is_missing_after_a_signal_under_load() {
    for signal in ["TERM", "KILL"] {
        let home = home(512);
        let server = Server::start(&home, &["--no-follow"]);
        let address = server.address.clone();
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let address = address.clone();
                std::thread::spawn(move || answered(&address, client))
            })
            .collect();
        wait_until("some traffic", PATIENCE, || (rows(&home).len() > 30).then_some(()));
        if signal == "TERM" {
            let (code, lines) = server.stop();
            assert_eq!(code, 0);
            assert_eq!(lines.last().unwrap()["status"], "stopped");
            assert_eq!(lines.last().unwrap()["recorded"], rows(&home).len());
        } else {
            server.kill();
        }
        let recorded: Vec<String> = rows(&home).into_iter().map(|row| row.id).collect();
        let answered: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(answered.len() > 30);
        for id in &answered {
            assert!(recorded.contains(id), "{signal}: {id} was answered and is not on file");
        }
    }
}

/// Asks until the server is gone; the ids of the whole answers.
fn answered(address: &str, client: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0.. {
        let Ok(_) = std::net::TcpStream::connect(address) else { break };
        let body = ask("", &format!("{client} {number}"), 4).to_string();
        let reply = std::panic::catch_unwind(|| wire::request(address, "POST", CHAT, &[], body.as_bytes()));
        match reply
            .ok()
            .filter(|reply| reply.status == 200)
            .and_then(|reply| serde_json::from_str(&reply.body).ok())
        {
            Some(serde_json::Value::Object(body)) => {
                ids.push(body["id"].as_str().unwrap().trim_start_matches("chatcmpl-").to_owned());
            }
            _ => break,
        }
    }
    ids
}

#[test]
fn a_file_that_cannot_be_written_for_a_while_loses_nothing() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow"]);
    server.chat("nightshift", "Before", 2).expect(200);
    let path = home.path().join("sandbox_data/capture.db");
    let hog = rusqlite::Connection::open(path).unwrap();
    hog.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = server.chat("nightshift", "Meanwhile", 2).expect(200).json()["id"].clone();
    let health = wait_until("the trouble to be said", PATIENCE, || {
        let health = server.get("/health");
        (health.status == 503).then(|| health.json())
    });
    assert!(health["reasons"][0].as_str().unwrap().contains("exchanges cannot be recorded"), "{health}");
    server.post("/v1/feedback", &json!({"id": id, "value": "up"})).expect(503);
    assert_eq!(rows(&home).len(), 1);
    hog.execute_batch("ROLLBACK").unwrap();
    wait_until("the rows to be written", PATIENCE, || (rows(&home).len() == 2).then_some(()));
    wait_until("the server to be well again", PATIENCE, || {
        (server.get("/health").status == 200).then_some(())
    });
    server.post("/v1/feedback", &json!({"id": id, "value": "up"})).expect(200);
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_client_that_goes_away_stops_the_work() {
    let home = endless_home();
    let server = Server::start(&home, &["--no-follow"]);
    for stream in [false, true] {
        let mut request = ask("nightshift", "Never end.", 1 << 17);
        request["stream"] = stream.into();
        let before = rows(&home).len();
        let connection = wire::open(&server.address, "POST", CHAT, &[], request.to_string().as_bytes());
        wait_until("the work to begin", PATIENCE, || {
            (server.get("/health").json()["running"] == 1).then_some(())
        });
        std::thread::sleep(Duration::from_millis(30));
        drop(connection);
        let row = wait_until("the cancelled exchange", Duration::from_secs(5), || {
            rows(&home).into_iter().nth(before)
        });
        assert_eq!((row.ok, row.failure_class.as_deref()), (true, Some("cancelled")), "{row:?}");
        assert_eq!((&row.body["finish_reason"], &row.body["success"]), (&json!("cancelled"), &json!(null)));
        server.chat("nightshift", "Still there?", 2).expect(200);
    }
    let page = server.get("/metrics").body;
    assert!(page.contains("nightshift_requests_total{outcome=\"cancelled\"} 2\n"), "{page}");
    assert!(page.contains("autogen_requests_total 2\n"), "a cancel is no failure: {page}");
}

#[test]
fn a_request_that_takes_too_long_is_answered_504_and_recorded() {
    let home = endless_home();
    home.write("nightshift.yaml", "serve: {timeout_s: 1.0}\n");
    let server = Server::start(&home, &["--no-follow"]);
    let reply = server.chat("nightshift", "Never end.", 1 << 17).expect(504);
    assert_eq!(reply.code(), "timeout");
    let mut request = ask("nightshift", "Never end.", 1 << 17);
    request["stream"] = true.into();
    let stream = server.post(CHAT, &request).expect(200);
    assert!(
        stream.body.contains("\"timeout_error\"") && !stream.body.contains("[DONE]"),
        "the stream says so"
    );
    wait_until("both on file", PATIENCE, || (rows(&home).len() == 2).then_some(()));
    for row in rows(&home) {
        assert_eq!((row.ok, row.failure_class.as_deref()), (false, Some("timeout")));
        assert_eq!((&row.body["http_status"], &row.body["success"]), (&json!(504), &json!(false)));
    }
}

#[test]
fn without_recording_nothing_is_written() {
    let home = home(512);
    let server = Server::start(&home, &["--no-follow", "--no-record"]);
    let id = server.chat("nightshift", "Hello", 2).expect(200).json()["id"].clone();
    server.post("/v1/feedback", &json!({"id": id, "value": "up"})).expect(501);
    drop(server);
    assert!(!home.path().join("sandbox_data").exists());
}

#[test]
fn what_memory_has_taken_over_goes_after_two_weeks() {
    let mut home = home(512);
    let request = ask("nightshift", "What is the capital?", 4);
    let first = Server::start(&home, &["--no-follow"]);
    first.post(CHAT, &request).expect(200);
    home.run("memory", &["import"]).expect(0);
    // This one memory does not have yet.
    first.post(CHAT, &request).expect(200);
    first.stop();
    let kept = rows(&home)[1].id.clone();
    home.now(Some("2026-03-15T02:00:00Z"));
    Server::start(&home, &["--no-follow"]).stop();
    assert_eq!(rows(&home).len(), 2, "two weeks are not over");
    home.now(Some("2026-03-16T02:00:01Z"));
    let later = Server::start(&home, &["--no-follow"]);
    wait_until("the old row to go", PATIENCE, || (rows(&home).len() == 1).then_some(()));
    later.stop();
    assert_eq!(rows(&home)[0].id, kept);
    let taken = home.run("memory", &["import", "--json"]).expect(0).json();
    assert_eq!(taken["added"], 1, "{taken:#}");
}
