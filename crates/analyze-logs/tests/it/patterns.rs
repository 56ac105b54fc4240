//! Findings: on small logs whose answers are known by counting, and on generated ones with planted problems.

use std::fmt::Write;

use nightshift_core::files;
use nightshift_testkit::Home;
use serde_json::{Value, json};

use crate::truth::{answers, make_world};

/// A log that a test writes line by line, a second apart.
#[derive(Default)]
struct Log {
    text: String,
    seconds: u64,
}

impl Log {
    fn stamp(&mut self, pause: u64) -> String {
        self.seconds += pause;
        let (days, seconds) = (self.seconds / 86_400, self.seconds % 86_400);
        format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", days + 1, seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn tool(&mut self, task: &str, tool: &str, query: &str, seconds: f64, error: Option<&str>) {
        let at = self.stamp(1);
        let line = json!({"event": "tool_execution", "timestamp": at, "task_id": task, "tool_name": tool,
            "parameters": {"q": query}, "duration": seconds, "success": error.is_none(), "error": error});
        let _ = writeln!(self.text, "{line}");
    }

    fn task(&mut self, id: &str, name: &str, error: Option<&str>) {
        let at = self.stamp(1);
        let event = if error.is_none() { "task_complete" } else { "task_error" };
        let line = json!({"event": event, "timestamp": at, "task_id": id, "task_name": name, "duration": 2.0,
            "error": error, "error_type": error.map(|_| "Boom")});
        let _ = writeln!(self.text, "{line}");
    }
}

fn analyze(home: &Home, arguments: &[&str]) -> Value {
    let mut all = vec!["analyze", "--json"];
    all.extend(arguments);
    home.run("analyze-logs", &all).expect(0).json()
}

fn patterns_of(text: &str) -> Vec<Value> {
    let home = Home::new();
    home.write("a.jsonl", text);
    analyze(&home, &["a.jsonl"])["patterns"].as_array().unwrap().clone()
}

fn of_kind<'a>(patterns: &'a [Value], kind: &str) -> Vec<&'a Value> {
    patterns.iter().filter(|pattern| pattern["pattern_type"] == kind).collect()
}

fn one<'a>(patterns: &'a [Value], kind: &str, operation: &str) -> &'a Value {
    let found: Vec<&Value> =
        of_kind(patterns, kind).into_iter().filter(|one| one["operation"] == operation).collect();
    assert_eq!(found.len(), 1, "{kind} of {operation} in {patterns:#?}");
    found[0]
}

#[test]
fn every_pattern_has_the_fields_of_the_contract() {
    let mut log = Log::default();
    for index in 0..12 {
        log.tool("t", "web", &index.to_string(), 6.5, Some("Connection timed out"));
    }
    let patterns = patterns_of(&log.text);
    let kinds: Vec<&Value> = patterns.iter().map(|one| &one["pattern_type"]).collect();
    assert_eq!(kinds.len(), 4, "{patterns:#?}");
    for pattern in &patterns {
        assert!(pattern["pattern_id"].as_str().unwrap().starts_with("pat_"));
        assert!((0.0..=10.0).contains(&pattern["impact_score"].as_f64().unwrap()));
        assert_eq!(pattern["first_seen"], "2026-03-01T00:00:01.000000Z");
        assert_eq!(pattern["last_seen"], "2026-03-01T00:00:12.000000Z");
        assert_eq!(pattern["operation"], "tool:web");
        assert!(!pattern["description"].as_str().unwrap().is_empty());
        let line = &pattern["metadata"]["evidence"][0];
        assert_eq!(line["file"], "a.jsonl");
        assert!(log.text[line["offset"].as_u64().unwrap() as usize..].starts_with('{'));
    }
    let error = one(&patterns, "recurring_error", "tool:web");
    assert_eq!((&error["occurrences"], &error["template"]), (&json!(12), &json!("Connection timed out")));
    assert_eq!(error["metadata"]["wasted_s"], 78.0);
    let late = one(&patterns, "timeout_pattern", "tool:web");
    assert_eq!((&late["occurrences"], &late["metadata"]["rate"]), (&json!(12), &json!(1.0)));
    assert_eq!(one(&patterns, "slow_operation", "tool:web")["metadata"]["wasted_s"], 18.0);
    assert_eq!(one(&patterns, "inefficient_chain", "tool:web")["metadata"]["kind"], "retry_storm");
}

#[test]
fn thresholds_are_of_the_config_and_one_of_many_is_chance() {
    let mut log = Log::default();
    for index in 0..3_000 {
        let seconds = if index % 1_000 == 7 { 9.0 } else { 0.1 };
        log.tool(&format!("t{index}"), "quick", "x", seconds, None);
        if index % 100 == 0 {
            log.tool(&format!("t{index}"), "other", "x", 2.0, None);
        }
    }
    assert!(of_kind(&patterns_of(&log.text), "slow_operation").is_empty(), "3 of 3000");
    let home = Home::new();
    home.write("a.jsonl", &log.text);
    home.write("nightshift.yaml", "analyze_logs: {slow_operation_threshold: 1.5}\n");
    let report = analyze(&home, &["a.jsonl"]);
    let patterns = report["patterns"].as_array().unwrap();
    assert_eq!(one(patterns, "slow_operation", "tool:other")["occurrences"], 30);
}

#[test]
fn the_bound_decides_what_succeeds() {
    let mut log = Log::default();
    for index in 0..60 {
        log.task(&format!("a{index}"), "sure", (index % 50 == 0).then_some("boom"));
        if index < 5 {
            log.task(&format!("b{index}"), "five_of_five", None);
        }
        log.task(&format!("c{index}"), "shaky", (index % 4 == 0).then_some("boom"));
    }
    let patterns = patterns_of(&log.text);
    let names: Vec<&Value> =
        of_kind(&patterns, "successful_pattern").iter().map(|one| &one["operation"]).collect();
    assert_eq!(names, ["task:sure"]);
    let sure = one(&patterns, "successful_pattern", "task:sure");
    assert_eq!(sure["occurrences"], 58);
    assert!(sure["metadata"]["rate_lower"].as_f64().unwrap() < 58.0 / 60.0);
}

#[test]
fn a_tool_with_which_a_task_succeeds_is_named() {
    let mut log = Log::default();
    for index in 0..200 {
        let id = format!("t{index}");
        let (tool, fails) = if index % 2 == 0 { ("good", index % 50 == 0) } else { ("bad", index % 3 == 0) };
        log.tool(&id, tool, &id, 0.1, None);
        log.task(&id, "job", fails.then_some("boom"));
    }
    let patterns = patterns_of(&log.text);
    let found = of_kind(&patterns, "successful_pattern");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (&found[0]["operation"], &found[0]["metadata"]["with"]),
        (&json!("task:job"), &json!("tool:good"))
    );
}

/// Sessions of a task with one of the wastes, and others without.
fn wasteful() -> Log {
    let mut log = Log::default();
    for index in 0..12 {
        let id = format!("s{index}");
        log.tool(&id, "list", &id, 0.5, None);
        match index % 4 {
            0 => (0..4).for_each(|_| log.tool(&id, "search", "same", 1.0, None)),
            1 => (0..3).for_each(|turn| {
                log.tool(&id, "read", &format!("{id}{turn}"), 0.25, None);
                log.tool(&id, "edit", &format!("{id}{turn}"), 0.25, None);
            }),
            2 => (0..5).for_each(|turn| log.tool(&id, "shell", &turn.to_string(), 0.5, Some("exit code 1"))),
            _ => log.tool(&id, "read", &id, 0.25, None),
        }
        log.task(&id, "job", None);
        log.seconds += 30;
    }
    log
}

#[test]
fn chains_with_their_waste() {
    let patterns = patterns_of(&wasteful().text);
    let chains = of_kind(&patterns, "inefficient_chain");
    assert_eq!(chains.len(), 3, "{chains:#?}");
    for (operation, kind, with, calls, wasted_s, longest) in [
        ("tool:search", "repeat", json!(null), 9, 9.0, 4),
        ("tool:edit", "ping_pong", json!("tool:read"), 12, 3.0, 6),
        ("tool:shell", "retry_storm", json!(null), 12, 6.0, 5),
    ] {
        let chain = one(&patterns, "inefficient_chain", operation);
        let metadata = &chain["metadata"];
        assert_eq!(chain["occurrences"], 3, "{operation}");
        assert_eq!((&metadata["kind"], &metadata["with"]), (&json!(kind), &with));
        assert_eq!((&metadata["wasted_calls"], &metadata["wasted_s"]), (&json!(calls), &json!(wasted_s)));
        assert_eq!((&metadata["task"], &metadata["longest_chain"]), (&json!("task:job"), &json!(longest)));
        assert_eq!(
            (&metadata["sessions_of_task"], &metadata["other_session_mean_s"]),
            (&json!(12), &json!(0.75))
        );
    }
}

#[test]
fn without_ids_calls_count_that_follow_each_other() {
    let line = |second: u32, tool: &str, query: u32, ok: bool| {
        format!(
            "{{\"event\":\"tool_execution\",\"timestamp\":\"2026-03-01T00:00:{second:02}Z\",\"tool_name\":\"{tool}\",\"parameters\":{{\"q\":{query}}},\"duration\":0.5,\"success\":{ok},\"error\":{}}}\n",
            if ok { "null" } else { "\"no route\"" }
        )
    };
    let mut text: String = (0..12).map(|second| line(second, "fetch", 1, true)).collect();
    (12..24).for_each(|second| text += &line(second, "post", second, false));
    // Others in between: the same calls, but no chain.
    (24..54).for_each(|second| text += &line(second, ["x", "y"][second as usize % 2], 1, true));
    let patterns = patterns_of(&text);
    let chains = of_kind(&patterns, "inefficient_chain");
    assert_eq!(chains.len(), 2, "{chains:#?}");
    for (operation, kind) in [("tool:fetch", "repeat"), ("tool:post", "retry_storm")] {
        let chain = one(&patterns, "inefficient_chain", operation);
        assert_eq!(
            (&chain["metadata"]["kind"], &chain["metadata"]["wasted_calls"]),
            (&json!(kind), &json!(11))
        );
    }
}

#[test]
fn a_chain_cut_anywhere_is_one_chain_when_the_parts_meet() {
    let log = wasteful();
    let whole = Home::new();
    whole.write("logs/a.jsonl", &log.text);
    let want = answers(analyze(&whole, &["logs"]))["patterns"].clone();
    let lines: Vec<&str> = log.text.split_inclusive('\n').collect();
    for cut in [1, 3, 4, 10, 13, 20, lines.len() - 2] {
        let home = Home::new();
        home.write("a.jsonl", &lines[..cut].concat());
        home.write("b.jsonl", &lines[cut..].concat());
        analyze(&home, &["a.jsonl", "--state-out", "a.state"]);
        analyze(&home, &["b.jsonl", "--state-out", "b.state"]);
        for order in [["a.state", "b.state"], ["b.state", "a.state"]] {
            let merged = home.run("analyze-logs", &["merge", "--json", order[0], order[1]]).expect(0).json();
            assert_eq!(answers(merged)["patterns"], want, "cut at line {cut}, {order:?}");
        }
        // The same through the store: the second run begins in the middle of a chain.
        home.write("logs/a.jsonl", &lines[..cut].concat());
        analyze(&home, &["logs", "--incremental"]);
        home.write("logs/a.jsonl", &log.text);
        let again = analyze(&home, &["logs", "--incremental"]);
        assert_eq!(answers(again)["patterns"], want, "re-run at line {cut}");
    }
}

#[test]
fn more_sessions_than_are_held_are_judged_as_they_are_and_said() {
    let mut log = old_log();
    // All begin before any goes on; within the pause that would end them.
    for round in 0..3 {
        for id in 0..9_000 {
            let at = log.stamp(0);
            let _ = writeln!(
                log.text,
                r#"{{"event":"tool_execution","timestamp":"{at}","task_id":"t{id}","tool_name":"a","parameters":{{"q":{id}}},"duration":0.1,"success":true}}"#
            );
            if id % 100 == 99 {
                log.seconds += 1 + round;
            }
        }
    }
    let home = Home::new();
    home.write("a.jsonl", &log.text);
    let one = analyze(&home, &["a.jsonl", "--threads", "1"]);
    assert!(one["sessions_cut"].as_u64().unwrap() > 9_000, "{}", one["sessions_cut"]);
    assert_eq!(one["operations"][0]["calls"], 27_001);
    assert_eq!(answers(analyze(&home, &["a.jsonl", "--threads", "2"])), answers(one));
    // One id for everything is cut too.
    let mut log = old_log();
    (0..2_000).for_each(|_| log.tool("t", "a", "same", 0.5, None));
    let report_home = Home::new();
    report_home.write("a.jsonl", &log.text);
    let report = analyze(&report_home, &["a.jsonl"]);
    assert_eq!(report["sessions_cut"], 3);
    let chain = one_chain(&report);
    assert_eq!((&chain["metadata"]["wasted_calls"], &chain["occurrences"]), (&json!(1_996), &json!(4)));
}

/// One that began long ago: what follows is not carried over to other parts.
fn old_log() -> Log {
    let mut log = Log::default();
    log.tool("first", "a", "x", 0.1, None);
    log.seconds += 7_200;
    log
}

fn one_chain(report: &Value) -> &Value {
    one(report["patterns"].as_array().unwrap(), "inefficient_chain", "tool:a")
}

const COLUMNS: [&str; 12] = [
    "name", "email", "age", "country", "phone", "zip", "street", "currency", "total", "state", "owner", "due",
];

#[test]
fn hostile_texts_neither_break_nor_fill_anything() {
    let mut log = Log::default();
    let texts = [
        "\u{1b}[31mred\u{1b}[0m \u{7} bell",
        "<*> <*> <*>",
        "\u{0}\u{1}\u{2}\u{3} control",
        "{\"json\": [1, 2",
        "%s%n%p ../../etc/passwd",
        "",
        " ",
        "\u{202e}gnihtyna",
        &"very ".repeat(30_000),
        "12",
    ];
    for text in texts {
        (0..3).for_each(|index| log.tool("t", "a", &index.to_string(), 0.1, Some(text)));
    }
    // More shapes than are held: words that never come twice.
    let word = |mut number: u64| {
        let mut word = String::new();
        for _ in 0..6 {
            word.push((b'a' + (number % 26) as u8) as char);
            number /= 26;
        }
        word
    };
    for index in 0..40_000_u64 {
        let [a, b, c] = [1, 2, 3].map(|salt| word((index + 7) * 2_654_435_761 * salt % 300_000_007));
        let text = match index % 40 {
            0 => "the disk is full".into(),
            20 => format!("column {} is missing in the table", COLUMNS[index as usize / 40 % COLUMNS.len()]),
            _ => format!("{a} of {b} near {c} and {b} {a}"),
        };
        log.tool(&format!("t{index}"), "a", "x", 0.1, Some(&text));
    }
    let home = Home::new();
    home.write("a.jsonl", &log.text);
    let report = analyze(&home, &["a.jsonl"]);
    assert!(report["errors_forgotten"].as_u64().unwrap() > 10_000, "{}", report["errors_forgotten"]);
    let patterns = report["patterns"].as_array().unwrap();
    let full: Vec<&Value> = patterns.iter().filter(|one| one["template"] == "the disk is full").collect();
    assert_eq!(full.len(), 1);
    assert_eq!(full[0]["occurrences"], 1_000, "what is frequent is counted exactly");
    let column = patterns.iter().find(|one| one["template"] == "column <*> is missing in the table").unwrap();
    assert_eq!(column["occurrences"], 1_000, "so is what comes with a word of its own each time");
    let text = home.run("analyze-logs", &["analyze", "a.jsonl"]).expect(0).stdout;
    assert!(!text.contains('\u{1b}'), "a terminal gets no escapes from a log");
}

#[test]
fn new_and_vanished_errors() {
    let mut log = Log::default();
    for hour in 0..240 {
        for _ in 0..3 {
            log.tool(&format!("t{}", log.seconds), "a", "x", 0.1, None);
        }
        if hour % 5 == 0 {
            log.tool(&format!("t{}", log.seconds), "a", "x", 0.1, Some("always there"));
        }
        if hour >= 180 && hour % 4 == 0 {
            log.tool(&format!("t{}", log.seconds), "a", "x", 0.1, Some("since the update"));
        }
        if hour < 60 && hour % 4 == 0 {
            log.tool(&format!("t{}", log.seconds), "b", "x", 0.1, Some("before the update"));
        }
        if hour % 80 == 70 {
            log.tool(&format!("t{}", log.seconds), "b", "x", 0.1, Some("rare but always there"));
        }
        log.seconds = (hour + 1) * 3_600;
    }
    let patterns = patterns_of(&log.text);
    let templates =
        |kind| of_kind(&patterns, kind).iter().map(|one| one["template"].clone()).collect::<Vec<_>>();
    assert_eq!(templates("new_template"), ["since the update"]);
    assert_eq!(templates("vanished_template"), ["before the update"]);
}

#[test]
fn what_is_planted_is_found_and_noise_is_not() {
    let home = Home::new();
    let truth = make_world(&home, 11, 12, false);
    let report = analyze(&home, &["all.jsonl"]);
    let patterns = report["patterns"].as_array().unwrap();
    // Twenty templates with their exact counts; the unique texts are none.
    let mut want: Vec<u64> =
        truth.templates.iter().filter(|(number, _)| **number < 20).map(|(_, n)| *n).collect();
    let mut got: Vec<u64> =
        of_kind(patterns, "recurring_error").iter().map(|one| one["occurrences"].as_u64().unwrap()).collect();
    want.sort_unstable();
    got.sort_unstable();
    assert_eq!((got.len(), got), (20, want));
    for planted in truth.planted.iter().filter(|one| !matches!(one.pattern_type, "level_shift" | "burst")) {
        let found = patterns.iter().any(|one| {
            let metadata = &one["metadata"];
            one["pattern_type"] == planted.pattern_type
                && (one["operation"] == planted.operation || metadata["with"] == planted.operation)
        });
        assert!(found, "{planted:?}");
    }
    let chains = of_kind(patterns, "inefficient_chain");
    let mut kinds: Vec<&str> = chains.iter().map(|one| one["metadata"]["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["ping_pong", "repeat", "retry_storm"], "{chains:#?}");
    assert!(
        of_kind(patterns, "new_template").is_empty() && of_kind(patterns, "vanished_template").is_empty()
    );
}

#[test]
fn a_clean_log_has_no_chains_and_no_new_errors() {
    let home = Home::new();
    make_world(&home, 12, 8, true);
    let report = analyze(&home, &["all.jsonl"]);
    let patterns = report["patterns"].as_array().unwrap();
    for kind in ["inefficient_chain", "high_cost_operation", "new_template", "vanished_template"] {
        assert!(of_kind(patterns, kind).is_empty(), "{:#?}", of_kind(patterns, kind));
    }
}

#[test]
fn a_person_reads_sentences_with_evidence() {
    let home = Home::new();
    home.write("a.jsonl", &wasteful().text);
    let ran = home.run("analyze-logs", &["analyze", "a.jsonl"]).expect(0);
    assert!(ran.stdout.contains("what stands out"), "{}", ran.stdout);
    assert!(ran.stdout.contains("called tool:search again with the same arguments"), "{}", ran.stdout);
    let evidence = ran.stdout.lines().find(|line| line.contains("a.jsonl:") && line.contains("exit code 1"));
    let offset = evidence.unwrap().split(':').nth(1).unwrap().parse::<usize>().unwrap();
    assert!(files::read_text(&home.path().join("a.jsonl")).unwrap()[offset..].contains("exit code 1"));
}
