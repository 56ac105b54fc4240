//! How nights end.

use std::time::Duration;

use nightshift_testkit::{Answer, FakeServer, wait_until};
use serde_json::json;

use crate::stage::Stage;

#[test]
fn a_good_night_runs_every_program_once_and_is_done() {
    let stage = Stage::new();
    let report = stage.run(&["--json"]).expect(0).json();
    assert_eq!(report["status"], "done");
    assert_eq!(
        report["summary"],
        "deployed 20260302-abc: gate PASS on 400 questions: 47 won, 3 lost, p 0.0002"
    );
    for (name, argument) in [
        ("memory", "import"),
        ("harvest", ""),
        ("train-lora", ""),
        ("deploy", "20260302-abc"),
        ("deploy", "--recover"),
    ] {
        assert_eq!(
            stage.calls(name, argument).min(if argument.is_empty() { 1 } else { 9 }),
            1,
            "{name} {argument}"
        );
    }
    // What is trained and how (`train.quantize`, `train.objective`, ...) is the config's to say, not the night's.
    let calls = stage.home.read("bin/calls");
    let train: Vec<&str> = calls.lines().filter(|line| line.starts_with("train-lora ")).collect();
    let [train] = train[..] else { panic!("{calls}") };
    assert!(train.starts_with("train-lora --home ") && train.ends_with(" --json"), "{train}");
    assert_eq!(train.split(' ').count(), 4, "{train}");
    let again = stage.run(&["--json"]).expect(0).json();
    assert_eq!(again["status"], "already_done");
    assert_eq!(stage.calls("harvest", ""), 1);
    let status = stage.run(&["status"]).expect(0).stdout;
    assert!(status.starts_with("2026-03-02  deployed 20260302-abc: gate PASS"), "{status}");
    let log = stage.home.read("logs/nightly_20260302_020000.log");
    assert!(log.contains("train: done in ") && log.contains("deploy: done in "), "{log}");
}

#[test]
fn endings_have_their_codes_and_sentences() {
    let gate = json!({"verdict": "INCONCLUSIVE", "n": 400, "won": 9, "lost": 5, "p_value": 0.2});
    let cases = [
        (
            "harvest",
            3,
            json!({"accepted": 0, "asked": 5, "agreed": 0}),
            0,
            "no adapter: 0 of 5 answers agreed on",
            0,
        ),
        (
            "harvest",
            4,
            json!({"accepted": 0, "quarantined": 8}),
            0,
            "no adapter: all 8 rows are in quarantine",
            0,
        ),
        (
            "train-lora",
            3,
            json!({"error": {"message": "no adapter: 3 of 5 rows"}}),
            0,
            "no adapter: 3 of 5 rows",
            0,
        ),
        (
            "deploy",
            4,
            json!({"gate": gate}),
            0,
            "refused: gate INCONCLUSIVE on 400 questions: 9 won, 5 lost, p 0.2",
            1,
        ),
        (
            "deploy",
            5,
            json!({"status": "rolled_back", "reason": "json answers failed"}),
            5,
            "taken back: json answers failed",
            1,
        ),
        (
            "deploy",
            6,
            json!({"error": {"message": "the server is gone"}}),
            6,
            "deploy failed: the server is gone",
            1,
        ),
        (
            "train-lora",
            1,
            json!({"error": {"message": "loss is NaN at step 3"}}),
            1,
            "train failed: loss is NaN at step 3",
            0,
        ),
        (
            "harvest",
            8,
            json!({"error": {"message": "too few members"}}),
            8,
            "harvest failed: too few members",
            0,
        ),
    ];
    for (program, code, says, exit, summary, deploys) in cases {
        let stage = Stage::new();
        stage.says(program, code, &says);
        if program == "deploy" {
            // The recovery of the preflight goes through the same stand-in: let it pass.
            let script = "#!/bin/sh\nhere=$(dirname \"$0\")\necho \"deploy $*\" >> \"$here/calls\"\ncase \"$*\" in *--recover*) exit 0;; esac\ncat \"$here/deploy.json\"\nexit \"$(cat \"$here/deploy.code\")\"\n";
            stage.home.write("bin/deploy", script);
        }
        let report = stage.run(&["--json"]).expect(exit).json();
        assert_eq!(report["summary"], summary, "{program} {code}");
        assert_eq!(stage.calls("deploy", "20260302-abc"), deploys, "{program} {code}");
    }
}

#[test]
fn a_stuck_step_is_ended_and_said_and_the_night_resumes() {
    let stage = Stage::new();
    stage.config(", train_minutes: 0.01");
    stage.hangs("train-lora", 60);
    let ran = stage.run(&["--json"]).expect(10);
    let report = ran.json();
    assert_eq!(report["status"], "stopped");
    assert!(
        report["summary"].as_str().unwrap().contains("train-lora was ended after 1 s, its limit"),
        "{report}"
    );
    stage.hangs("train-lora", 0);
    let report = stage.run(&["--json"]).expect(0).json();
    assert_eq!((&report["status"], &report["resumed"]), (&json!("done"), &json!(true)));
    assert_eq!(
        (stage.calls("harvest", ""), stage.calls("train-lora", "")),
        (1, 2),
        "what was done is not done again"
    );
}

#[test]
fn two_nights_at_once_one_is_busy() {
    let stage = Stage::new();
    stage.hangs("harvest", 2);
    let mut first = stage.command(&["-q"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the harvest", Duration::from_secs(10), || (stage.calls("harvest", "") > 0).then_some(()));
    let ran = stage.run(&[]).expect(7);
    assert!(ran.stderr.contains("is locked by nightly (pid "), "{}", ran.stderr);
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

#[test]
fn a_sick_server_and_a_full_disk_stop_the_night_before_it_begins() {
    let stage = Stage::new();
    stage.config(", min_disk_gb: 1000000");
    let text = stage.home.read("nightshift.yaml").replace("min_disk_gb: 0.001, ", "");
    stage.home.write("nightshift.yaml", &text);
    let report = stage.run(&["--json"]).expect(1).json();
    assert!(report["summary"].as_str().unwrap().contains("1000000.0 GB are needed"), "{report}");
    let down = Stage::new();
    down.home.write(
        "nightshift.yaml",
        "deploy: {server_url: 'http://127.0.0.1:9'}\nnightly: {min_disk_gb: 0.001}\n",
    );
    let report = down.run(&["--json"]).expect(8).json();
    assert!(report["summary"].as_str().unwrap().contains("the server is not healthy"), "{report}");
    assert_eq!(down.calls("harvest", ""), 0);
}

#[test]
fn news_goes_to_the_webhook_and_a_dead_webhook_stops_nothing() {
    let hook = FakeServer::start(|_| Answer::Json(json!({})));
    let mut stage = Stage::new();
    stage.home.set("NOTIFICATION_WEBHOOK", &format!("{}/hook/secret", hook.url()));
    stage.run(&[]).expect(0);
    let texts: Vec<String> =
        hook.requests().iter().map(|request| request.json()["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains("training completed: 20260302-abc") && texts[1].contains("deployed 20260302-abc"),
        "{texts:?}"
    );
    let mut dead = Stage::new();
    dead.home.set("NOTIFICATION_WEBHOOK", "http://127.0.0.1:9/hook/secret");
    let ran = dead.run(&[]).expect(0);
    assert!(ran.stderr.contains("could not be reached") && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[test]
fn a_night_after_a_gap_takes_the_missed_days() {
    let mut stage = Stage::new();
    stage.run(&[]).expect(0);
    stage.home.now(Some("2026-03-03T02:00:00Z"));
    stage.run(&[]).expect(0);
    assert_eq!(stage.calls("harvest", "--since"), 0, "yesterday alone needs no span");
    stage.says("harvest", 0, &json!({"accepted": 1, "until": "2026-03-03T00:00:00Z"}));
    stage.home.now(Some("2026-03-04T02:00:00Z"));
    stage.run(&[]).expect(0);
    stage.home.now(Some("2026-03-07T02:00:00Z"));
    stage.run(&[]).expect(0);
    assert_eq!(
        stage.calls("harvest", "--since 2026-03-03T00:00:00.000000Z --until 2026-03-07T00:00:00.000000Z"),
        1
    );
}

#[test]
fn cleanup_removes_old_logs_and_never_training_rows() {
    let stage = Stage::new();
    for name in [
        "logs/harvest_20260101_020000.log",
        "logs/harvest_20260225_020000.log",
        "training_data/harvest_20250101.jsonl",
    ] {
        stage.home.write(name, "x");
    }
    let report = stage.run(&["--json"]).expect(0).json();
    assert_eq!(report["cleanup"]["logs_removed"], 1);
    assert!(stage.home.path().join("logs/harvest_20260225_020000.log").exists());
    assert!(stage.home.path().join("training_data/harvest_20250101.jsonl").exists());
}

#[test]
fn the_plan_changes_nothing() {
    let stage = Stage::new();
    let plan = stage.run(&["--dry-run", "--json"]).expect(0).json();
    assert_eq!(plan["steps"].as_array().unwrap().len(), 6);
    assert!(!stage.home.path().join("sandbox_data").exists());
    stage.run(&["status"]).expect(3);
}
