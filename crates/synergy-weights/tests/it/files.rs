//! Weights by hand: show, export, import, reset, the log and its pictures, recording.

use nightshift_testkit::Home;
use serde_json::{Value, json};

const PROGRAM: &str = "synergy-weights";
const LOG: &str = "sandbox_data/synergy_weights.log";

fn weights(home: &Home) -> Value {
    home.run(PROGRAM, &["show", "--json"]).expect(0).json()["weights"].clone()
}

#[test]
fn show_export_import_reset() {
    let home = Home::new();
    home.write("w.json", r#"{"roi": 1.2, "efficiency": 0.8}"#);
    let shown = home.run(PROGRAM, &["--path", "w.json", "show"]).expect(0);
    let map: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&map["roi"], &map["throughput"]), (&json!(1.2), &json!(1.0)));
    assert!(
        shown.stderr.contains("roi: from the weights file")
            && shown.stderr.contains("throughput: from the default")
    );
    home.run(PROGRAM, &["--path", "w.json", "export", "--out", "out.json"]).expect(0);
    let exported: Value = serde_json::from_str(&home.read("out.json")).unwrap();
    assert_eq!(exported, map);
    home.write("out.json", r#"{"roi": 3, "efficiencie": 2}"#);
    let imported =
        home.run(PROGRAM, &["--path", "w.json", "import", "out.json", "--reason", "by hand"]).expect(0);
    assert!(imported.stderr.contains("did you mean `efficiency`?"), "{}", imported.stderr);
    let map: Value = serde_json::from_str(&home.read("w.json")).unwrap();
    assert_eq!((&map["roi"], &map["efficiency"]), (&json!(3.0), &json!(0.8)));
    home.run(PROGRAM, &["reset", "--path", "w.json", "--dry-run"]).expect(0);
    assert!(home.read("w.json").contains("3.0"), "a dry run changes nothing");
    home.run(PROGRAM, &["reset", "--path", "w.json"]).expect(0);
    assert_eq!(home.read("w.json").matches("1.0").count(), 7);
    let log = home.run(PROGRAM, &["history", "--log", LOG, "--json"]).expect(0).json();
    let reasons: Vec<&Value> =
        log["entries"].as_array().unwrap().iter().map(|entry| &entry["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &json!("by hand"), &json!("reset")]);
    assert_eq!(home.run(PROGRAM, &["history"]).expect(0).stdout, home.read(LOG), "the log as it is");
}

#[test]
fn the_environment_sets_weights_file_and_start() {
    let mut home = Home::new();
    home.write("base.yaml", "synergy_weights: {roi: 2.5}\n");
    home.write(".env", "SYNERGY_WEIGHT_EFFICIENCY=0.8\nALIGNMENT_BASELINE_METRICS_PATH=base.yaml\n");
    assert_eq!(weights(&home)["roi"], json!(2.5));
    assert_eq!(weights(&home)["efficiency"], json!(0.8));
    home.set("SYNERGY_WEIGHT_FILE", "mine.json");
    home.write("mine.json", r#"{"roi": 4, "efficiency": 4}"#);
    let shown = home.run(PROGRAM, &["show", "--json"]).expect(0).json();
    assert_eq!((&shown["weights"]["roi"], &shown["weights"]["efficiency"]), (&json!(4.0), &json!(0.8)));
    assert_eq!(shown["sources"]["efficiency"], json!({"environment": "SYNERGY_WEIGHT_EFFICIENCY"}));
    let reset = home.run(PROGRAM, &["reset"]).expect(0);
    assert!(reset.stderr.contains("SYNERGY_WEIGHT_EFFICIENCY is set"), "{}", reset.stderr);
    assert_eq!(weights(&home)["efficiency"], json!(0.8), "and has its effect");
    home.set("SYNERGY_WEIGHT_ROI", "12");
    assert!(home.run(PROGRAM, &["show"]).expect(9).stderr.contains("SYNERGY_WEIGHT_ROI"));
}

#[test]
fn plots_in_the_terminal_and_as_pictures() {
    let home = Home::new();
    home.run(PROGRAM, &["history", "--plot"]).expect(3);
    for roi in ["2.0", "4.0", "3.0"] {
        home.write("w.json", &format!("{{\"roi\": {roi}}}"));
        home.run(PROGRAM, &["import", "w.json"]).expect(0);
    }
    let drawn = home.run(PROGRAM, &["history", "--log", LOG, "--plot"]).expect(0);
    assert!(drawn.stdout.contains("roi               1.000  ▃▅█▆  3.000"), "{}", drawn.stdout);
    assert!(home.read("sandbox_data/synergy_weights.svg").contains("roi 3.000"));
    home.run(PROGRAM, &["history", "--plot-out", "deep.png"]).expect(0);
    let png = std::fs::read(home.path().join("deep.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 5000);
    assert!(
        home.run(PROGRAM, &["history", "--plot-out", "x.gif"])
            .expect(2)
            .stderr
            .contains("x.gif: a picture is .svg or .png")
    );
}

#[test]
fn recording() {
    let mut home = Home::new();
    let db = "sandbox_data/synergy_history.db";
    let recorded =
        home.run(PROGRAM, &["record", "roi=0.05", "security_score=-1.5", "--json"]).expect(0).json();
    assert_eq!(recorded["ids"], json!([1]));
    home.write("more.jsonl", "{\"roi\": 1, \"note\": \"text\"}\n\n{\"synergy_roi\": 2}\n");
    home.run(PROGRAM, &["record", "--file", "more.jsonl", "--history-file", db]).expect(0);
    let connection = nightshift_core::rusqlite::Connection::open(home.path().join(db)).unwrap();
    let rows: String = connection
        .query_row("SELECT group_concat(source_menace_id || entry, ' ') FROM synergy_history", [], |row| {
            row.get(0)
        })
        .unwrap();
    let source = "synergy_history_db";
    assert_eq!(
        rows,
        format!(
            "{source}{{\"synergy_roi\":0.05,\"security_score\":-1.5}} \
             {source}{{\"synergy_roi\":1,\"note\":\"text\"}} {source}{{\"synergy_roi\":2}}"
        )
    );
    home.write("bad.jsonl", "{\"roi\": 1}\n[2]\n");
    let bad = home.run(PROGRAM, &["record", "--file", "bad.jsonl"]).expect(4);
    assert!(bad.stderr.contains("bad.jsonl:2"), "{}", bad.stderr);
    for value in ["roi", "roi=x", "roi=NaN"] {
        home.run(PROGRAM, &["record", value]).expect(2);
    }
    home.set("SAVE_SYNERGY_HISTORY", "0");
    home.run(PROGRAM, &["record", "roi=1"]).expect(3);
    let count: i64 =
        connection.query_row("SELECT count(*) FROM synergy_history", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3, "half a file was not recorded");
}
