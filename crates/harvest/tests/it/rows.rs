//! What is written, and from what.

use nightshift_testkit::{Answer, Home};
use serde_json::{Value, json};

use crate::world::{RIVERS, asked, council, home, member, truth, wise};

fn rows(home: &Home) -> Vec<Value> {
    let text = home.read("training_data/harvest_20260302.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn agreed_answers_become_rows_with_the_keys_of_the_documents() {
    let home = home(4);
    let servers = [wise(), wise(), wise()];
    council(&home, &servers.each_ref(), "");
    let report = home.run("harvest", &["--json"]).expect(0).json();
    assert_eq!(
        (&report["failures"], &report["agreed"], &report["accepted"]),
        (&json!(4), &json!(4), &json!(4))
    );
    assert_eq!(report["calls"]["sent"], 12);
    let rows = rows(&home);
    let keys: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).take(6).collect();
    assert_eq!(keys, ["instruction", "input", "output", "reasoning", "quality_score", "harvest_timestamp"]);
    assert_eq!(rows[1]["output"], RIVERS[1].1);
    assert_eq!((&rows[1]["reasoning"], &rows[1]["rejected"]), (&json!("from the map"), &json!("Wrong")));
    assert_eq!((&rows[1]["tier"], &rows[1]["quality_score"]), (&json!("unanimous"), &json!(0.95)));
    let manifest: Value =
        serde_json::from_str(&home.read("training_data/harvest_20260302.manifest.json")).unwrap();
    assert_eq!((&manifest["sha256"], &manifest["rows"]), (&report["sha256"], &json!(4)));
    let log = home.read("logs/harvest_20260302_020000.json");
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["harvest_stats"]["training_pairs_generated"], 4);
    let sent = &servers[0].requests()[1].json()["messages"][0]["content"];
    let sent = sent.as_str().unwrap();
    assert!(sent.starts_with("You are Agent-0, an expert response improver.\n\nQUERY: river of "), "{sent}");
    assert!(sent.contains("\nBAD_RESPONSE: Wrong\n"), "{sent}");
}

#[test]
fn a_second_run_asks_nothing_and_writes_the_same_bytes() {
    // Invariant I7 for harvest: `repeat`.
    let home = home(3);
    let servers = [wise(), wise()];
    council(&home, &servers.each_ref(), "");
    home.run("harvest", &[]).expect(0);
    let first = home.read("training_data/harvest_20260302.jsonl");
    let asked_first = asked(&servers[0]);
    home.run("harvest", &[]).expect(0);
    assert_eq!(home.read("training_data/harvest_20260302.jsonl"), first);
    assert_eq!(asked(&servers[0]), asked_first, "no call twice");
}

#[test]
fn evaluation_items_and_unwilling_rows_never_enter() {
    // Invariant I4: `sealed`.
    let home = home(3);
    home.run(
        "memory",
        &["log", "--query", "river of Zandor?", "--response", "x", "--success", "false", "--no-train"],
    )
    .expect(0);
    let gate = json!({"id": "g", "messages": [{"role": "user", "content": "River of  Lindor"}], "reference": "Brask"});
    home.write("gate.jsonl", &gate.to_string());
    // The set is registered behind memory's back, so that only harvest can notice.
    let item = nightshift_core::evalset::EvalItem {
        id: "g".into(),
        messages: vec![nightshift_core::interaction::Message::user("River of  Lindor")],
        reference: Some("Brask".into()),
        check: json!({"kind": "exact"}),
    };
    let now = "2026-03-01T00:00:00Z".parse().unwrap();
    let purpose = nightshift_core::evalset::Purpose::Gate;
    home.store()
        .write(|tx| nightshift_core::evalset::register(tx, now, ("gate", purpose, "test"), &[item]))
        .unwrap();
    let servers = [wise(), wise()];
    council(&home, &servers.each_ref(), "");
    let report =
        home.run("harvest", &["--since", "2026-03-01", "--until", "2026-03-03", "--json"]).expect(0).json();
    assert_eq!(report["excluded"], json!({"evaluation_item": 1, "no_train": 1}));
    assert!(!home.read("training_data/harvest_20260302.jsonl").contains("Lindor"));
    assert!(servers[0].requests().iter().all(|request| !request.body.contains("Lindor")), "not even asked");
}

#[test]
fn false_alarms_open_ends_and_disagreement_give_no_row() {
    let home = home(3);
    let answer = |request: &nightshift_testkit::Request, name: &str| {
        let text = match truth(request) {
            "Tanno" => "Wrong".to_owned(),
            "Brask" => "It flows gently through the hills and valleys of the country, past many old towns and mills, to the sea".into(),
            _ => name.to_owned(),
        };
        Answer::chat(&format!("REASONING: r\nANSWER: {text}"))
    };
    let servers = [
        member(move |r| answer(r, "one")),
        member(move |r| answer(r, "two")),
        member(move |r| answer(r, "three")),
    ];
    council(&home, &servers.each_ref(), "");
    let report = home.run("harvest", &["--json"]).expect(3).json();
    assert_eq!(report["false_alarms"], 1);
    assert_eq!(report["abstained"], json!({"no_agreement": 1, "open_ended": 1}));
    assert!(!home.path().join("training_data/harvest_20260302.jsonl").exists());
}

#[test]
fn flags_pick_the_least_sure_and_change_no_success() {
    let home = Home::new();
    let mut text = String::new();
    for (index, (country, _)) in RIVERS.iter().take(10).enumerate() {
        let confidence = 0.8 + index as f64 / 100.0;
        let row = json!({"ts": "2026-03-01T12:00:00Z", "query": format!("river of {country}?"), "response": "Wrong",
            "confidence": confidence, "source_id": index.to_string()});
        text.push_str(&format!("{row}\n"));
    }
    home.write("rows.jsonl", &text);
    home.run("memory", &["import", "rows.jsonl"]).expect(0);
    let servers = [wise(), wise()];
    council(&home, &servers.each_ref(), "");
    home.run("harvest", &["--json"]).expect(3);
    let report = home.run("harvest", &["--flag-share", "0.3", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(
        (&report["failures"], &report["flagged"], &report["asked"]),
        (&json!(0), &json!(3), &json!(3))
    );
    let report =
        home.run("harvest", &["--flag-below", "0.825", "--max-items", "2", "--json"]).expect(0).json();
    assert_eq!(
        (&report["flagged"], &report["asked"], &report["left_over"]),
        (&json!(3), &json!(2), &json!(1))
    );
    home.run("memory", &["list", "--failed"]).expect(3);
}

#[test]
fn an_empty_home_a_missing_council_and_a_bad_span() {
    let empty = Home::new();
    let ran = empty.run("harvest", &[]).expect(9);
    assert!(ran.stderr.contains("no council is configured"), "{}", ran.stderr);
    let servers = [wise()];
    council(&empty, &servers.each_ref(), "");
    empty.run("harvest", &[]).expect(3);
    empty.run("harvest", &["--since", "2026-03-02", "--until", "2026-03-01"]).expect(2);
}
