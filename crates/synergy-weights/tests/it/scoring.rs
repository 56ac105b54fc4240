//! `score`: candidates ranked, with what moved each.

use nightshift_testkit::Home;
use serde_json::{Value, json};

const PROGRAM: &str = "synergy-weights";

fn ranked(home: &Home, more: &[&str]) -> Vec<Value> {
    let arguments = [&["score", "c.jsonl", "--json"], more].concat();
    let report = home.run(PROGRAM, &arguments).expect(0).json();
    report["candidates"].as_array().unwrap().clone()
}

fn names(candidates: &[Value]) -> Vec<&str> {
    candidates.iter().map(|candidate| candidate["name"].as_str().unwrap()).collect()
}

#[test]
fn weights_decide_the_ranking_and_contributions_say_why() {
    let home = Home::new();
    home.write(
        "c.jsonl",
        "{\"id\": \"steady\", \"synergy_reliability\": 0.5}\n{\"description\": \"cheap\", \"synergy_efficiency\": 0.5}\n\
         {\"coverage_delta\": 0.1, \"complexity\": 0.4}\n",
    );
    home.write("sandbox_data/synergy_weights.json", "{\"efficiency\": 2, \"reliability\": 1}");
    let candidates = ranked(&home, &[]);
    assert_eq!(names(&candidates), ["cheap", "steady", "line 3"]);
    let close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-5;
    assert!(close(&candidates[0]["contributions"]["synergy_efficiency"], 1.0));
    assert!(close(&candidates[0]["score"], 1.0 / (1.0 + (-1.0_f64).exp())));
    home.write("m.json", "{\"reliability\": 8, \"efficiency\": -3}");
    assert_eq!(names(&ranked(&home, &["--weights", "m.json"])), ["steady", "line 3", "cheap"]);
    // The documents' program has reliability without effect.
    assert_eq!(names(&ranked(&home, &["--weights", "m.json", "--legacy"])), ["steady", "line 3", "cheap"]);
    let text = home.run(PROGRAM, &["score", "c.jsonl"]).expect(0).stdout;
    assert!(text.contains("complexity -0.400, coverage_delta +0.100"), "{text}");
}

#[test]
fn earlier_patches_set_the_scale() {
    let home = Home::new();
    home.write("c.jsonl", "{\"id\": \"a\", \"coverage_delta\": 12}\n");
    let connection = nightshift_core::rusqlite::Connection::open(home.path().join("p.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE composite_history (id INTEGER PRIMARY KEY, coverage_delta REAL, roi_delta REAL, ts TEXT);
             INSERT INTO composite_history (coverage_delta, roi_delta, ts) VALUES (8, 1, 'x'), (12, 2, 'y'), (NULL, 1, 'z');",
        )
        .unwrap();
    home.write("p.jsonl", "{\"coverage_delta\": 8, \"roi_delta\": 1}\n{\"coverage_delta\": 12.0, \"roi_delta\": 2}\n{\"roi_delta\": 1}\n");
    let from_db = ranked(&home, &["--records", "p.db"]);
    assert_eq!(from_db, ranked(&home, &["--records", "p.jsonl"]));
    assert_ne!(from_db, ranked(&home, &[]));
    home.write("bad.jsonl", "{}\n{\"a\"\n");
    let bad = home.run(PROGRAM, &["score", "bad.jsonl"]).expect(4);
    assert!(bad.stderr.contains("bad.jsonl:2"), "{}", bad.stderr);
    home.run(PROGRAM, &["score", "c.jsonl", "--records", "c.db"]).expect(1);
    home.write("empty.jsonl", "\n");
    home.run(PROGRAM, &["score", "empty.jsonl"]).expect(3);
    let weights = json!({"roi": "x"}).to_string();
    home.write("m.json", &weights);
    home.run(PROGRAM, &["score", "c.jsonl", "--weights", "m.json"]).expect(4);
}
