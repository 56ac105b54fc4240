//! Killed after each step (invariant I2): the next start goes on where the night was.

use std::time::Duration;

use nightshift_testkit::{Answer, FakeServer, binary, wait_until};
use serde_json::json;

use crate::stage::Stage;

#[test]
fn a_night_killed_at_any_step_boundary_resumes_without_repeating() {
    for step in ["preflight", "harvest", "train", "deploy", "validate", "cleanup"] {
        let mut stage = Stage::new();
        stage.home.set("NIGHTSHIFT_CRASH_AT", &format!("nightly.step_ended:{step}"));
        stage.run(&["-q"]).expect(137);
        stage.home.unset("NIGHTSHIFT_CRASH_AT");
        let report = stage.run(&["--json"]).expect(0).json();
        assert_eq!((&report["status"], &report["resumed"]), (&json!("done"), &json!(true)), "{step}");
        let calls = ["harvest", "train-lora"].map(|name| stage.calls(name, ""));
        assert_eq!(calls, [1, 1], "{step}");
        assert_eq!(stage.calls("deploy", "20260302-abc"), 1, "{step}");
    }
}

#[test]
fn a_killed_night_takes_its_programs_with_it() {
    let stage = Stage::new();
    // The real harvest, asking a council that never answers.
    let council = FakeServer::start(|_| Answer::Stall(Duration::from_secs(60)));
    nightshift_core::files::copy(&binary("harvest"), &stage.home.path().join("bin/harvest")).unwrap();
    stage.executable("harvest", None);
    let member = format!("{{name: a, base_url: '{}', model: m}}", council.url());
    let config = stage.home.read("nightshift.yaml");
    stage.home.write("nightshift.yaml", &format!("{config}harvest: {{council: {{members: [{member}]}}}}\n"));
    let row = r#"{"ts": "2026-03-01T12:00:00Z", "query": "q", "response": "a", "success": false}"#;
    stage.home.write("rows.jsonl", row);
    stage.home.run("memory", &["import", "rows.jsonl"]).expect(0);
    let mut night = stage.command(&["-q"]).spawn().unwrap();
    wait_until("the council to be asked", Duration::from_secs(10), || council.requests().first().cloned());
    stage.home.run("harvest", &["--dry-run"]).expect(7);
    night.kill().unwrap();
    night.wait().unwrap();
    wait_until("the harvest to die", Duration::from_secs(5), || {
        (stage.home.run("harvest", &["--dry-run"]).code == 0).then_some(())
    });
}
