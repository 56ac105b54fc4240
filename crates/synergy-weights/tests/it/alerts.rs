//! What reaches the webhook and the audit trail.

use std::time::Duration;

use nightshift_core::files;
use nightshift_testkit::{Answer, FakeServer, Home, free_port, wait_until};
use serde_json::{Value, json};

use crate::rows::{lines, telling};

const PROGRAM: &str = "synergy-weights";
const SOON: Duration = Duration::from_secs(30);

fn home() -> Home {
    let mut home = Home::new();
    home.now(None);
    home.write("rows.jsonl", &lines(&telling(20, 0)));
    home.run(PROGRAM, &["record", "--file", "rows.jsonl"]).expect(0);
    home
}

#[test]
fn an_exporter_that_keeps_being_restarted_is_told() {
    let mut home = home();
    let hook = FakeServer::start(|_| Answer::Json(json!({})));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.set("NOTIFICATION_WEBHOOK", &format!("{}/hook", hook.url()));
    home.set("SYNERGY_METRICS_PORT", &taken.local_addr().unwrap().port().to_string());
    home.set("SYNERGY_EXPORTER_CHECK_INTERVAL", "0.1");
    home.set("SYNERGY_ALERT_THRESHOLD", "0");
    home.set("EXPORT_SYNERGY_METRICS", "1");
    let mut child = home.spawn(PROGRAM, &["auto-train", "--interval", "600"]);
    wait_until("the training", SOON, || home.path().join("sandbox_data/last_ts.json").exists().then_some(()));
    assert!(hook.requests().is_empty(), "a port that is taken is tried again, and no restart yet");
    drop(taken);
    let news = wait_until("the alert", SOON, || hook.requests().into_iter().next());
    for part in ["[synergy_exporter_restart_threshold]", "component=exporter", "restarts=1"] {
        assert!(news.body.contains(part), "{part}: {}", news.body);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A key of RFC 8032, section 7.1, test 1, and its public half.
const KEY: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

#[test]
fn audit_lines_are_signed_where_there_is_a_key() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{ED25519, UnparsedPublicKey};

    let mut home = home();
    home.set("SANDBOX_CENTRAL_LOGGING", "1");
    home.set("AUDIT_PRIVKEY", KEY);
    home.run(PROGRAM, &["auto-train", "--run-once"]).expect(0);
    home.unset("AUDIT_PRIVKEY");
    home.write("audit.key", KEY);
    home.set("AUDIT_PRIVKEY_PATH", "audit.key");
    files::remove_file(&home.path().join("sandbox_data/last_ts.json")).unwrap();
    home.run(PROGRAM, &["auto-train", "--run-once"]).expect(0);
    let public = UnparsedPublicKey::new(&ED25519, STANDARD.decode(PUBLIC).unwrap());
    let trail = home.read("logs/audit.log");
    let mut events = 0;
    for line in trail.lines() {
        let (signature, event) = line.split_once(' ').unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        public.verify(event.as_bytes(), &signature).unwrap();
        assert!(
            public.verify(event.replace("20", "21").as_bytes(), &signature).is_err(),
            "not of another text"
        );
        let event: Value = serde_json::from_str(event).unwrap();
        let weights: Vec<&String> = event["weights"].as_object().unwrap().keys().collect();
        assert!(weights.is_sorted(), "keys are sorted in depth: {event}");
        events += 1;
    }
    assert_eq!(events, 2, "{trail}");
    // A key that is none: nothing is written unsigned, and the key is not repeated.
    home.set("AUDIT_PRIVKEY", "moonmoonmoon");
    for arguments in
        [&["auto-train", "--run-once"][..], &["export-metrics", "--port", &free_port().to_string()]]
    {
        let ran = home.run(PROGRAM, arguments).expect(9);
        assert!(
            ran.stderr.contains("AUDIT_PRIVKEY is no Ed25519") && !ran.stderr.contains("moon"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(home.read("logs/audit.log"), trail);
}
