//! `analyze --json` on small logs whose answers are known by counting.

use nightshift_testkit::Home;
use serde_json::{Value, json};

/// The operation of that name.
#[track_caller]
pub(crate) fn operation<'a>(report: &'a Value, name: &str) -> &'a Value {
    let operations = report["operations"].as_array().unwrap();
    operations.iter().find(|op| op["name"] == name).unwrap_or_else(|| panic!("no {name} in {operations:?}"))
}

/// An original log: one line of each kind, and one that is none.
const ORIGINAL: &str = r#"{"event": "task_start", "timestamp": "2026-02-03T00:00:00.000001Z", "task_id": "t1", "task_name": "report", "description": "d", "metadata": {}}
{"tool_name": "web", "parameters": {"q": "a"}, "duration": 0.5, "success": true, "result": null, "error": null, "event": "tool_execution", "timestamp": "2026-02-03T00:00:01Z"}
{"tool_name": "web", "parameters": {"q": "b"}, "duration": 1.5, "success": false, "result": null, "error": "deadline exceeded", "event": "tool_execution", "timestamp": "2026-02-03T00:00:02Z"}
{"provider": "o", "model": "gpt-4", "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "duration": 2.5, "estimated_cost": 0.15, "metadata": {}, "event": "llm_interaction", "timestamp": "2026-02-03T00:00:03Z"}
{"provider": "o", "model": "gpt-4", "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "duration": 3.5, "estimated_cost": null, "metadata": {}, "event": "llm_interaction", "timestamp": "2026-02-03T00:00:04Z"}

not json line
{"task_id": "t1", "task_name": "report", "error": "boom", "error_type": "ValueError", "traceback": "", "metadata": {}, "event": "task_error", "timestamp": "2026-02-03T01:00:00Z"}
{"task_id": "t2", "task_name": "report", "duration": 9.0, "result": "ok", "metadata": {}, "event": "task_complete", "timestamp": "2026-02-03T02:00:00Z"}
"#;

#[test]
fn the_original_s_own_lines() {
    let home = Home::new();
    home.write("logs/execution_log_20260203_000000.json", ORIGINAL);
    // Bare: the folder `logs` of the home.
    let report = home.run("analyze-logs", &["analyze", "--json"]).expect(0).json();
    assert_eq!(report["entries"], 7);
    assert_eq!(report["bytes"], ORIGINAL.len());
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(report["bad_lines"], json!({"not_json": 1}));
    let example = &report["bad_examples"][0];
    assert_eq!(example["excerpt"], "not json line");
    assert_eq!(example["offset"], ORIGINAL.find("not json").unwrap());
    let names: Vec<&Value> = report["operations"].as_array().unwrap().iter().map(|op| &op["name"]).collect();
    assert_eq!(names, ["llm:gpt-4", "task:report", "tool:web"]);
    let web = operation(&report, "tool:web");
    assert_eq!((&web["calls"], &web["errors"], &web["timeouts"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!((&web["p50_ms"], &web["p95_ms"]), (&json!(1000.0), &json!(1450.0)), "between the two");
    let task = operation(&report, "task:report");
    assert_eq!((&task["calls"], &task["errors"], &task["p99_ms"]), (&json!(2), &json!(1), &json!(9000.0)));
    let llm = operation(&report, "llm:gpt-4");
    assert_eq!((&llm["cost_usd"], &llm["prompt_tokens"]), (&json!(0.15), &json!(20)));
}

#[test]
fn a_window_holds_its_begin_and_not_its_end() {
    let home = Home::new();
    home.write("a.json", ORIGINAL);
    let count = |since: &str, until: &str| {
        let report =
            home.run("analyze-logs", &["analyze", "a.json", "--since", since, "--until", until, "--json"]);
        let report = report.expect(0).json();
        (report["entries"].as_u64().unwrap(), report["entries_outside"].as_u64().unwrap())
    };
    assert_eq!(count("2026-02-03T00:00:02Z", "2026-02-03T00:00:04Z"), (2, 5));
    assert_eq!(count("2026-02-03", "2026-02-04"), (7, 0));
    assert_eq!(count("2026-02-04", "2026-02-05"), (0, 7));
    home.run("analyze-logs", &["analyze", "a.json", "--since", "yesterdayish"]).expect(2);
}

#[test]
fn naive_stamps_are_utc_unless_told() {
    let home = Home::new();
    home.write("a.json", "{\"event\":\"x\",\"timestamp\":\"2026-07-01T01:30:00\"}\n");
    let first = |flags: &[&str]| {
        let mut arguments = vec!["analyze", "a.json", "--json"];
        arguments.extend(flags);
        home.run("analyze-logs", &arguments).expect(0).json()["first_seen"].clone()
    };
    assert_eq!(first(&[]), "2026-07-01T01:30:00.000000Z");
    assert_eq!(first(&["--time-zone", "Europe/Berlin"]), "2026-06-30T23:30:00.000000Z");
    home.run("analyze-logs", &["analyze", "a.json", "--time-zone", "Mars/Olympus"]).expect(2);
}

#[test]
fn keys_and_words_of_the_config() {
    let home = Home::new();
    home.write(
        "nightshift.yaml",
        "analyze_logs:\n  roles:\n    tool: [ctx/who]\n    duration_ms: [t]\n  words:\n    tool: [skill_ran]\n",
    );
    home.write("a.log", "{\"event\":\"skill_ran\",\"ctx\":{\"who\":\"pdf\"},\"t\":250}\n");
    let report = home.run("analyze-logs", &["analyze", "a.log", "--json"]).expect(0).json();
    assert_eq!(operation(&report, "tool:pdf")["p50_ms"], 250.0);
    home.write("nightshift.yaml", "analyze_logs:\n  roles:\n    tol: [x]\n");
    let ran = home.run("analyze-logs", &["analyze", "a.log", "--json"]).expect(9);
    assert!(ran.stderr.contains("did you mean `tool`?"), "{}", ran.stderr);
}

#[test]
fn a_person_gets_a_table() {
    let home = Home::new();
    home.write("a.json", ORIGINAL);
    let ran = home.run("analyze-logs", &["analyze", "a.json"]).expect(0);
    assert!(ran.stdout.contains("bad lines: not_json 1"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("a.json:867: not_json: not json line")
            || ran.stdout.contains(": not_json: not json line")
    );
    assert!(ran.stdout.lines().any(|line| line.starts_with("tool:web")), "{}", ran.stdout);
}
