//! Importing, exporting, listing, searching.

use nightshift_testkit::Home;

const OPENAI: &str = r#"{"timestamp":"2026-03-01T10:00:00Z","workload_id":"chat","request":{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"capital of Velmora"}]}]},"response":{"id":"r1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Orbane"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}}
{"timestamp":1772362800.5,"request":{"model":"m","messages":[{"role":"user","content":"cut"}]},"response":{"id":"r2","choices":[{"message":{"content":"lo"},"finish_reason":"length"}]}}
{"timestamp":"2026-03-01T10:00:01Z","request":{"model":"m","messages":[{"role":"user","content":"broken"}]},"response":{"error":{"message":"upstream died"}}}
{"timestamp":"2026-03-01T10:00:02Z","request":{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]},"response":{}}
not json
"#;

#[test]
fn openai_logs_are_read_and_bad_lines_named() {
    let home = Home::new();
    home.write("log.jsonl", OPENAI);
    let report = home.run("memory", &["import", "log.jsonl", "--json"]).expect(0).json();
    assert_eq!((report["added"].as_u64(), report["known"].as_u64()), (Some(3), Some(0)));
    let bad: Vec<&str> =
        report["bad_lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(bad.len(), 2);
    assert!(bad[0].starts_with("log.jsonl:5: "), "{bad:?}");
    assert!(bad[1].starts_with("log.jsonl:4: message 0: content part of type \"image_url\""), "{bad:?}");

    let again = home.run("memory", &["import", "log.jsonl", "--json"]).expect(0).json();
    assert_eq!((again["added"].as_u64(), again["known"].as_u64()), (Some(0), Some(3)), "each row once");

    let failed = home.run("memory", &["list", "--failed", "--json"]).expect(0).json();
    let classes: Vec<_> = failed["interactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["interaction"]["failure_class"])
        .collect();
    assert_eq!(classes, ["truncated", "transport"], "newest first, and no confidence is no failure");
}

#[test]
fn an_export_imports_to_the_same_rows() {
    let home = Home::new();
    home.write("log.jsonl", OPENAI);
    home.run("memory", &["import", "log.jsonl"]).expect(0);
    home.run("memory", &["export", "--out", "all.jsonl"]).expect(0);
    let other = Home::new();
    other.write("all.jsonl", &home.read("all.jsonl"));
    other.run("memory", &["import", "all.jsonl"]).expect(0);
    other.run("memory", &["export", "--out", "all2.jsonl"]).expect(0);
    assert_eq!(home.read("all.jsonl"), other.read("all2.jsonl"));
    let csv = home.run("memory", &["export", "--format", "csv"]).expect(0).stdout;
    assert!(csv.starts_with("id,ts,target,") && csv.lines().count() == 4, "{csv}");
    home.run("memory", &["export", "--json"]).expect(2);
}

#[test]
fn search_takes_any_text_and_ranks() {
    let home = Home::new();
    home.write("log.jsonl", OPENAI);
    home.run("memory", &["import", "log.jsonl"]).expect(0);
    let found = home.run("memory", &["search", "velmora", "capital", "--json"]).expect(0).json();
    assert_eq!(found["interactions"][0]["interaction"]["response"], "Orbane");
    home.run("memory", &["search", "velmora NOT \"x", "AND"]).expect(3);
    home.run("memory", &["search", "  "]).expect(2);
}

#[test]
fn long_texts_are_stored_once() {
    let home = Home::new();
    let answer = "x".repeat(5000);
    for _ in 0..3 {
        home.run("memory", &["log", "--query", "q", "--response", &answer]).expect(0);
    }
    let count: i64 = home
        .store()
        .read()
        .query_row("SELECT count(*) FROM texts WHERE length(body) = 5000", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
}

#[test]
fn rows_with_impossible_values_are_refused_by_line() {
    let home = Home::new();
    let rows = r#"{"ts":"2026-03-01T00:00:00Z","query":"q","confidence":1.5}
{"ts":"yesterday","query":"q"}
{"ts":"2026-03-01T00:00:00","query":"q","colour":"red"}
{"ts":"2026-03-01T00:00:00","query":"fine"}
"#;
    home.write("rows.jsonl", rows);
    let ran = home.run("memory", &["import", "rows.jsonl", "--json"]).expect(0);
    let report = ran.json();
    assert_eq!(report["added"], 1);
    let bad = report["bad_lines"].to_string();
    for part in [
        "rows.jsonl:1: confidence must be",
        "rows.jsonl:2: `yesterday`",
        "rows.jsonl:3: unknown field `colour`",
    ] {
        assert!(bad.contains(part), "{part} in {bad}");
    }
}

#[test]
fn a_missing_file_and_a_bad_config_have_their_codes() {
    let home = Home::new();
    let ran = home.run("memory", &["import", "nowhere.jsonl"]).expect(1);
    assert!(ran.stderr.contains("nowhere.jsonl"), "{}", ran.stderr);
    home.run("memory", &["list"]).expect(3);
    home.run("memory", &["frobnicate"]).expect(2);
    home.write("nightshift.yaml", "memory:\n  sucess_above: 0.5\n");
    let ran = home.run("memory", &["frobnicate"]).expect(9);
    assert!(
        ran.stderr.contains("nightshift.yaml:2:") && ran.stderr.contains("did you mean `success_above`?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn six_programs_may_start_at_once() {
    for _ in 0..3 {
        let home = Home::new();
        let children: Vec<_> =
            (0..6).map(|n| home.spawn("memory", &["log", "--query", &format!("q{n}")])).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success(), "{}", home.read("memory.err"));
        }
        let listed = home.run("memory", &["list", "--json"]).expect(0).json();
        assert_eq!(listed["interactions"].as_array().unwrap().len(), 6);
    }
}
