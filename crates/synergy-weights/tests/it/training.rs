//! `train` and `explain` on histories that say something, and on ones that say nothing.

use nightshift_testkit::Home;
use serde_json::{Value, json};

use crate::rows::{lines, noise, telling};

const PROGRAM: &str = "synergy-weights";

fn weight(report: &Value, name: &str) -> f64 {
    report["weights"][name].as_f64().unwrap()
}

#[test]
fn the_fixed_contract() {
    let home = Home::new();
    home.write("h.json", &json!(telling(120, 0)).to_string());
    let arguments =
        ["train", "h.json", "--learner", "actor_critic", "--seed", "3", "--path", "w.json", "--json"];
    let report = home.run(PROGRAM, &arguments).expect(0).json();
    for field in ["weights", "signed", "stderr"] {
        assert_eq!(report[field].as_object().unwrap().len(), 7, "{field}");
    }
    assert_eq!(report["rows"], json!(120));
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    // ROI follows efficiency, and reliability hurts it.
    assert!(weight(&report, "efficiency") > 1.5 && weight(&report, "reliability") < 1.0, "{report}");
    assert!(report["signed"]["reliability"].as_f64().unwrap() < 0.0);
    let file: Value = serde_json::from_str(&home.read("w.json")).unwrap();
    assert_eq!(file, report["weights"]);
    // From a .db the same; and once more from the same file is no new evidence, but the log has its line.
    home.write("h.jsonl", &lines(&telling(120, 0)));
    home.run(PROGRAM, &["record", "--file", "h.jsonl", "--history-file", "recorded.db"]).expect(0);
    let again = home
        .run(PROGRAM, &["train", "recorded.db", "--seed", "3", "--path", "x.json", "--json"])
        .expect(0)
        .json();
    assert_eq!(again["weights"], report["weights"]);
    let log = home.run(PROGRAM, &["history", "--json"]).expect(0).json();
    let reasons: Vec<&Value> =
        log["entries"].as_array().unwrap().iter().map(|entry| &entry["reason"]).collect();
    assert_eq!(
        reasons[1..],
        [&json!("train h.json: 120 rows, actor_critic"), &json!("train recorded.db: 120 rows, actor_critic")]
    );
}

#[test]
fn noise_moves_no_hand_set_weight_far_and_the_file_is_written() {
    let home = Home::new();
    home.write("h.json", &json!(noise(200)).to_string());
    home.write("w.json", "{\"roi\": 1.2, \"efficiency\": 0.8}");
    let ran = home.run(PROGRAM, &["train", "h.json", "--path", "w.json"]).expect(0);
    assert!(ran.stdout.contains("no evidence in 200 rows"), "{}", ran.stdout);
    let file: Value = serde_json::from_str(&home.read("w.json")).unwrap();
    for (name, hand_set) in [("roi", 1.2), ("efficiency", 0.8), ("throughput", 1.0)] {
        let now = file[name].as_f64().unwrap();
        assert!((now / hand_set - 1.0).abs() <= 0.25, "{name} {now}");
    }
    let explained = home.run(PROGRAM, &["explain", "h.json", "--path", "w.json"]).expect(0).stdout;
    assert!(explained.contains("std error") && explained.contains("no evidence"), "{explained}");
}

#[test]
fn nothing_to_learn_from_still_writes_the_file() {
    let home = Home::new();
    for (text, code) in [("[]", 3), ("[{}, 7, \"x\"]", 3), ("[{\"synergy_roi\": 1}]", 3)] {
        home.write("h.json", text);
        home.run(PROGRAM, &["train", "h.json", "--path", "w.json", "--json"]).expect(code);
        assert_eq!(home.read("w.json").matches("1.0").count(), 7, "{text}");
    }
}

#[test]
fn histories_that_are_odd() {
    let home = Home::new();
    let constant: Vec<Value> = (0..30).map(|_| json!({"synergy_roi": 1, "roi_delta": 0.5})).collect();
    let huge: Vec<Value> = telling(60, 0)
        .into_iter()
        .map(|row| {
            let scaled = row
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.clone(), json!(value.as_f64().unwrap() * 1e9)));
            Value::Object(scaled.collect())
        })
        .collect();
    let mixed = json!([1, "text", {"synergy_roi": "text", "roi_delta": 0.1}, {"synergy_efficiency": 0.1, "roi_delta": "0.2"}, null]);
    for (name, rows) in [("constant", json!(constant)), ("huge", json!(huge)), ("mixed", mixed)] {
        home.write("h.json", &rows.to_string());
        let report = home
            .run(PROGRAM, &["train", "h.json", "--path", &format!("{name}.json"), "--json"])
            .expect(0)
            .json();
        for (metric, value) in report["weights"].as_object().unwrap() {
            let value = value.as_f64().unwrap_or(f64::NAN);
            assert!((0.0..=10.0).contains(&value), "{name} {metric} {value}");
        }
    }
}

#[test]
fn a_failed_training_is_an_alert_and_changes_nothing() {
    let mut home = Home::new();
    home.store();
    home.write("w.json", "{\"roi\": 2.0}");
    home.write("h.db", "this is no database, though it is long enough to be one");
    let failed = home.run(PROGRAM, &["train", "h.db", "--path", "w.json"]).expect(1);
    assert!(
        failed.stderr.contains("[synergy_weight_update_failure] Weight update failed (path=w.json"),
        "{}",
        failed.stderr
    );
    assert_eq!(home.read("w.json"), "{\"roi\": 2.0}");
    home.run(PROGRAM, &["train", "none.db", "--path", "w.json"]).expect(1);
    let page = nightshift_core::metrics::render(home.store().read()).unwrap();
    for name in ["synergy_weight_update_failures_total", "synergy_weight_update_alerts_total"] {
        assert!(page.contains(&format!("\n{name} 2\n")), "{page}");
    }
    home.set("SYNERGY_LEARNER", "ppo");
    assert!(home.run(PROGRAM, &["train", "none.db"]).expect(9).stderr.contains("double_dqn"));
    home.run(PROGRAM, &["train", "none.db", "--learner", "x"]).expect(9);
    home.unset("SYNERGY_LEARNER");
    home.run(PROGRAM, &["train", "none.db", "--learner", "x"]).expect(2);
}

#[test]
fn every_learner_runs_and_repeats_itself() {
    let home = Home::new();
    home.write("h.json", &json!(telling(60, 0)).to_string());
    for learner in ["actor_critic", "dqn", "double_dqn", "td3", "sac"] {
        let run = |path: &str| {
            let arguments =
                ["train", "h.json", "--learner", learner, "--seed", "5", "--path", path, "--json"];
            home.run(PROGRAM, &arguments).expect(0).json()["weights"].clone()
        };
        assert_eq!(run(&format!("{learner}-1.json")), run(&format!("{learner}-2.json")), "{learner}");
    }
}
