use std::time::{Duration, Instant};

use nightshift_net::Secret;
use nightshift_net::retry::Pace;
use nightshift_net::webhook::{Notice, Report, Status, Webhook};
use serde_json::{Value, json};

use crate::fake::{Fake, Script, nobody, response};

fn notice() -> Notice {
    Notice {
        status: Status::Error,
        text: "Nightshift: rolled back".into(),
        message: "say \"why\"".into(),
        at: "2026-03-01T02:03:04.5Z".parse().unwrap(),
        fields: vec![("Adapter".into(), "20260301-abc".into())],
    }
}

fn send(url: &str) -> Report {
    let start = Instant::now();
    let mut pace = Pace {
        elapsed: &|| start.elapsed(),
        now: &|| "2026-03-01T02:03:04Z".parse().unwrap(),
        sleep: &mut |_| true,
        uniform: &mut || 0.0,
        deadline: None,
    };
    Webhook::new(Secret::new(url)).timeout(Duration::from_millis(200)).send(&notice(), &mut pace)
}

#[test]
fn the_payload_has_the_slack_shape() {
    let server = Fake::saying(response("200 OK", "ok"));
    let report = send(&format!("{}/services/T0/B0/hook-token", server.url()));
    assert_eq!(report, Report { host: "127.0.0.1".into(), delivered: true, attempts: 1, error: None });
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /services/T0/B0/hook-token "), "{head}");
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({"text": "Nightshift: rolled back", "attachments": [{"color": "warning", "fields": [
            {"title": "Status", "value": "error", "short": true},
            {"title": "Message", "value": "say \"why\"", "short": false},
            {"title": "Timestamp", "value": "2026-03-01T02:03:04Z", "short": true},
            {"title": "Adapter", "value": "20260301-abc", "short": true},
        ]}]})
    );
}

#[test]
fn colors_tell_good_from_bad() {
    for (status, color) in [
        (Status::Success, "good"),
        (Status::Info, "good"),
        (Status::Warning, "warning"),
        (Status::Error, "warning"),
    ] {
        assert_eq!(Notice { status, ..notice() }.payload()["attachments"][0]["color"], color);
    }
}

#[test]
fn trouble_is_reported_and_never_shows_the_url() {
    let stalled = Fake::new(vec![Script::Stall(Vec::new())]);
    let refusing = Fake::saying(response("404 Not Found", "no_service"));
    let failing = Fake::saying(response("500 no", ""));
    for (base, attempts, expected) in [
        (nobody(), 3, "cannot connect to 127.0.0.1"),
        (stalled.url(), 3, "in time"),
        (refusing.url(), 1, "127.0.0.1 answered 404: no_service"),
        (failing.url(), 3, "127.0.0.1 answered 500"),
    ] {
        let report = send(&format!("{base}/services/hook-token"));
        assert!(!report.delivered);
        assert_eq!(report.attempts, attempts, "{report:?}");
        let error = report.error.unwrap();
        assert!(error.contains(expected) && !error.contains("hook-token"), "{error}");
    }
    for url in ["", "hook-token", "ftp://h/hook-token", "http:///hook-token"] {
        let report = send(url);
        assert_eq!((report.delivered, report.attempts), (false, 0));
        assert!(!report.error.unwrap().contains("hook-token"));
    }
}

#[test]
fn a_late_server_is_reached_by_a_retry() {
    let server = Fake::new(vec![
        Script::Reset,
        Script::Say(response("503 no", "")),
        Script::Say(response("204 No Content", "")),
    ]);
    let report = send(&server.url());
    assert_eq!((report.delivered, report.attempts), (true, 3));
}
