//! Each rule from a finding to a recommendation, on findings made by hand.

use std::collections::BTreeMap;

use nightshift_analyze_logs::pattern::{Pattern, PatternType};
use nightshift_analyze_logs::recommend::{Context, ErrorClass, classify, recommend};
use nightshift_analyze_logs::recommendation::{ActionType, Priority, Recommendation};
use nightshift_analyze_logs::tally::{Cell, Outcome};
use nightshift_core::config::AnalyzeLogs;
use serde_json::{Value, json};

fn pattern(kind: PatternType, operation: &str, occurrences: u64, metadata: Value) -> Pattern {
    let Value::Object(metadata) = metadata else { panic!("metadata is an object") };
    Pattern {
        pattern_id: Pattern::id(kind, &[operation, &metadata_key(&metadata)]),
        pattern_type: kind,
        description: "It stands out.".into(),
        occurrences,
        impact_score: 5.0,
        first_seen: None,
        last_seen: None,
        operation: Some(operation.into()),
        template: None,
        metadata,
    }
}

fn metadata_key(metadata: &serde_json::Map<String, Value>) -> String {
    metadata.get("error_type").or(metadata.get("kind")).map(Value::to_string).unwrap_or_default()
}

fn error(operation: &str, error_type: &str, template: &str, occurrences: u64) -> Pattern {
    let metadata = json!({"error_type": error_type});
    let mut pattern = pattern(PatternType::RecurringError, operation, occurrences, metadata);
    pattern.template = Some(template.into());
    pattern.pattern_id = Pattern::id(PatternType::RecurringError, &[operation, template]);
    pattern
}

/// A cell with these durations (seconds, calls).
fn cell(durations_s: &[(f64, u64)], errors: u64, timeouts: u64) -> Cell {
    let mut cell = Cell { errors, timeouts, ..Cell::default() };
    for &(seconds, calls) in durations_s {
        let us = (seconds * 1e6) as u64;
        (0..calls).for_each(|_| cell.sketch.add(us));
        cell.calls += calls;
        cell.duration_us += us * calls;
        cell.extremes = Some(cell.extremes.map_or((us, us), |(least, most)| (least.min(us), most.max(us))));
    }
    cell
}

/// Recommendations over one day with these totals.
fn advise(patterns: &[Pattern], totals: &[(&str, Cell)]) -> Vec<Recommendation> {
    advise_with(patterns, totals, &AnalyzeLogs::default())
}

fn advise_with(patterns: &[Pattern], totals: &[(&str, Cell)], settings: &AnalyzeLogs) -> Vec<Recommendation> {
    let operations: BTreeMap<String, Cell> =
        totals.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect();
    recommend(patterns, &Context { operations, tasks: BTreeMap::new(), days: 1.0, settings })
}

#[track_caller]
fn actions(recommendations: &[Recommendation]) -> Vec<&str> {
    recommendations.iter().map(|one| one.action.as_str()).collect()
}

#[test]
fn what_passes_is_retried_and_what_stays_never() {
    let totals = [("tool:web", cell(&[(1.0, 1000)], 50, 0))];
    for (error_type, template, action) in [
        ("ConnectionError", "connection reset by peer <*>", "add_retry"),
        ("", "HTTP 503 service unavailable from <*>", "add_retry"),
        ("TimeoutError", "timed out after <*>", "add_retry"),
        ("RateLimited", "HTTP 429 too many requests, retry in <*> seconds", "back_off"),
        ("ValueError", "value <*> is out of range", "validate_input"),
        ("FileNotFoundError", "file not found: <*>", "validate_input"),
        ("PermissionError", "permission denied: <*>", "fix_access"),
        ("OSError", "no space left on device while writing <*>", "free_resources"),
        ("X", "boom", "investigate_error"),
        // Both words are there: the permanent one decides.
        ("ConnectionError", "connection refused: invalid api key", "fix_access"),
    ] {
        let got = advise(&[error("tool:web", error_type, template, 40)], &totals);
        assert_eq!(actions(&got), [action], "{error_type}: {template}");
        assert_eq!(got[0].action_type, ActionType::ErrorHandling);
        assert_eq!(got[0].operation.as_deref(), Some("tool:web"));
        assert!(got[0].saving.failures_per_day > 0.0 && got[0].score > 0.0);
        let class = classify(error_type, template);
        assert_eq!(class.passes_by_itself(), matches!(action, "add_retry" | "back_off"), "{class:?}");
    }
    assert_eq!(classify("", "nothing to see"), ErrorClass::Unknown);
}

#[test]
fn no_retry_into_a_storm_nor_where_nearly_all_fails() {
    let flaky = error("tool:web", "ConnectionError", "connection reset", 40);
    let storm = pattern(
        PatternType::InefficientChain,
        "tool:web",
        9,
        json!({"kind": "retry_storm", "wasted_s": 90.0, "wasted_usd": 0.0}),
    );
    let got = advise(&[flaky.clone(), storm], &[("tool:web", cell(&[(1.0, 1000)], 50, 0))]);
    assert_eq!(got.iter().filter(|one| one.action == "add_retry").count(), 0, "{got:?}");
    assert!(got.iter().all(|one| one.action == "back_off"), "{got:?}");
    let got = advise(&[flaky], &[("tool:web", cell(&[(1.0, 100)], 90, 0))]);
    assert_eq!(actions(&got), ["investigate_error", "break_circuit"], "the latter mends nothing");
}

#[test]
fn several_findings_support_one_recommendation() {
    let totals = [("tool:web", cell(&[(1.0, 1000)], 100, 0))];
    let one = advise(&[error("tool:web", "ConnectionError", "connection reset", 40)], &totals);
    let two = advise(
        &[
            error("tool:web", "ConnectionError", "connection reset", 40),
            error("tool:web", "ConnectionError", "connection refused by <*>", 60),
        ],
        &totals,
    );
    assert_eq!((one.len(), two.len()), (1, 1));
    assert_eq!(one[0].id, two[0].id, "the same proposal has the same id");
    assert_eq!(two[0].pattern_ids.len(), 2);
    let ratio = two[0].saving.failures_per_day / one[0].saving.failures_per_day;
    assert!((ratio - 2.5).abs() < 1e-9, "{ratio}");
}

#[test]
fn more_time_only_where_late_calls_end() {
    let late = pattern(PatternType::TimeoutPattern, "task:etl", 50, json!({}));
    let ends = [("task:etl", cell(&[(2.0, 500), (18.0, 60), (24.0, 40), (30.0, 50)], 50, 50))];
    let got = advise(std::slice::from_ref(&late), &ends);
    assert_eq!(actions(&got), ["raise_timeout"]);
    assert_eq!(got[0].action_type, ActionType::ConfigUpdate);
    assert_eq!(got[0].parameters["task_name"], "etl");
    let suggested = got[0].parameters["suggested_timeout_s"].as_f64().unwrap();
    assert!((37.0..=60.0).contains(&suggested) && suggested.fract() == 0.0, "{suggested}");
    assert!(got[0].saving.failures_per_day > 20.0 && got[0].saving.seconds_per_day < 0.0);
    // Who weighs time alone does not buy it.
    let mut settings = AnalyzeLogs::default();
    settings.objectives.failures = 0.0;
    let got = advise_with(std::slice::from_ref(&late), &ends, &settings);
    assert!(!actions(&got).contains(&"raise_timeout"), "{got:?}");
    // Hanging calls: give up sooner, or break the circuit; each names the other.
    let hangs = [("task:etl", cell(&[(2.0, 500), (30.0, 50)], 50, 50))];
    let got = advise(std::slice::from_ref(&late), &hangs);
    let mut names = actions(&got);
    names.sort_unstable();
    assert_eq!(names, ["break_circuit", "lower_timeout"]);
    assert_eq!(got[0].parameters["alternatives"], json!([got[1].id]));
    // Without durations nothing is known about late calls.
    let got = advise(&[late], &[]);
    assert_eq!(actions(&got), ["investigate_timeouts", "break_circuit"]);
}

#[test]
fn a_slow_operation_never_gets_more_time() {
    let slow = pattern(PatternType::SlowOperation, "tool:pdf", 120, json!({"mean_s": 12.0}));
    let mut totals = cell(&[(1.0, 300), (12.0, 120)], 0, 0);
    totals.timeouts = 0;
    let got = advise(std::slice::from_ref(&slow), &[("tool:pdf", totals.clone())]);
    assert_eq!(actions(&got), ["raise_concurrency"]);
    assert_eq!(got[0].action_type, ActionType::ConfigUpdate);
    assert!((got[0].saving.seconds_per_day - 0.5 * 120.0 * 11.0).abs() < 10.0, "{:?}", got[0].saving);
    // With repeats among its calls: keep the answers.
    let repeats = pattern(
        PatternType::InefficientChain,
        "tool:pdf",
        40,
        json!({"kind": "repeat", "wasted_s": 480.0, "wasted_usd": 0.5}),
    );
    let got = advise(&[slow, repeats], &[("tool:pdf", totals)]);
    assert_eq!(got[0].action, "cache_calls");
    assert_eq!(got[0].pattern_ids.len(), 2);
    assert_eq!(got[0].saving.seconds_per_day, 480.0, "two views of one saving do not add up");
    assert!(got.iter().all(|one| one.action != "raise_timeout"));
}

#[test]
fn slow_models_go_to_faster_ones_that_fail_no_more() {
    let slow = pattern(PatternType::SlowOperation, "llm:large", 100, json!({"mean_ms": 9000.0}));
    let large = cell(&[(9.0, 500)], 10, 0);
    let got = advise(
        std::slice::from_ref(&slow),
        &[("llm:large", large.clone()), ("llm:small", cell(&[(1.0, 500)], 9, 0))],
    );
    assert_eq!(actions(&got), ["route_to_faster_model"]);
    assert_eq!(got[0].parameters["alternative"], "small");
    let got = advise(&[slow], &[("llm:large", large), ("llm:small", cell(&[(1.0, 500)], 200, 0))]);
    assert_eq!(actions(&got), ["limit_tokens"]);
    assert!(got[0].description.contains("No other model"), "{}", got[0].description);
}

#[test]
fn waste_in_chains() {
    for (kind, expected) in [
        ("repeat", vec!["cache_calls", "limit_repeats"]),
        ("ping_pong", vec!["break_ping_pong"]),
        ("retry_storm", vec!["back_off"]),
        ("", vec!["limit_chain"]),
    ] {
        let metadata = json!({"kind": kind, "wasted_s": 6000.0, "wasted_usd": 3.0});
        let got = advise(&[pattern(PatternType::InefficientChain, "tool:web", 30, metadata)], &[]);
        let mut names = actions(&got);
        names.sort_unstable();
        assert_eq!(names, expected, "{kind}");
        assert!(got.iter().all(|one| one.action_type == ActionType::ToolStrategy));
        assert!(got[0].saving.usd_per_day > 0.0 && got[0].saving.seconds_per_day > 0.0);
    }
}

fn priced(usd: f64, calls: u64, errors: u64) -> Cell {
    Cell {
        cost_nano: (usd * 1e9) as i64,
        tokens: (1000 * calls, 500 * calls),
        ..cell(&[(1.0, calls)], errors, 0)
    }
}

#[test]
fn costly_models_go_to_cheaper_ones_that_do_as_well() {
    let dear = pattern(PatternType::HighCostOperation, "llm:reason", 400, json!({"total_cost_usd": 80.0}));
    let own = ("llm:reason", priced(80.0, 400, 8));
    let got = advise(std::slice::from_ref(&dear), &[own.clone(), ("llm:small", priced(8.0, 400, 6))]);
    assert_eq!(actions(&got), ["route_to_cheaper_model"]);
    assert_eq!(got[0].parameters["alternative"], "small");
    assert!((got[0].saving.usd_per_day - 36.0).abs() < 0.1, "half of 80 USD, at a tenth of the price");
    let unsure = got[0].confidence;
    // On the same tasks it is surer, or not comparable at all, whatever all calls say.
    let settings = AnalyzeLogs::default();
    let tasks = |errors: u64| {
        let tried = |model: &str, errors| {
            (
                ("task:report".to_owned(), format!("llm:{model}")),
                Outcome { calls: 150, errors, ..Outcome::default() },
            )
        };
        let operations = [own.clone(), ("llm:small", priced(8.0, 400, 6))];
        let context = Context {
            operations: operations.map(|(name, cell)| (name.to_owned(), cell)).into(),
            tasks: [tried("reason", 3), tried("small", errors)].into(),
            days: 1.0,
            settings: &settings,
        };
        recommend(std::slice::from_ref(&dear), &context).remove(0)
    };
    assert!(tasks(2).confidence > unsure);
    assert!(tasks(2).description.contains("on the same tasks"));
    assert_eq!(tasks(60).action, "select_model_by_task", "{:?}", tasks(60));
    // One that fails more often, and none at all: that is said.
    for other in [vec![("llm:small", priced(8.0, 400, 200))], vec![]] {
        let mut totals = vec![own.clone()];
        totals.extend(other);
        let got = advise(std::slice::from_ref(&dear), &totals);
        assert_eq!(actions(&got), ["select_model_by_task"]);
        assert!(got[0].description.contains("No other model in these logs"), "{}", got[0].description);
        assert_eq!((got[0].saving.usd_per_day, got[0].priority), (0.0, Priority::Info));
    }
}

#[test]
fn what_does_better_is_preferred() {
    let skill = json!({"task": "task:report", "better": "llm:small", "success_rate": 0.8, "better_success_rate": 0.95,
        "mean_ms": 9000.0, "better_mean_ms": 1000.0, "cost_usd_per_call": 0.02, "better_cost_usd_per_call": 0.03});
    let got = advise(&[pattern(PatternType::Skill, "llm:large", 200, skill)], &[]);
    assert_eq!(actions(&got), ["prefer_model"]);
    assert_eq!(got[0].operation.as_deref(), Some("task:report"));
    assert_eq!(
        (&got[0].parameters["alternative"], &got[0].parameters["instead_of"]),
        (&json!("small"), &json!("large"))
    );
    let saving = got[0].saving;
    assert!((saving.failures_per_day - 30.0).abs() < 1e-6 && (saving.seconds_per_day - 1600.0).abs() < 1e-6);
    assert!((saving.usd_per_day + 2.0).abs() < 1e-6, "it costs more");
    let with =
        json!({"with": "tool:search", "rate": 0.98, "other_rate": 0.8, "runs": 300, "other_runs": 100});
    let got = advise(&[pattern(PatternType::SuccessfulPattern, "task:research", 294, with)], &[]);
    assert_eq!(actions(&got), ["prefer_tool"]);
    assert!((got[0].saving.failures_per_day - 18.0).abs() < 1e-6);
    // What works and is compared with nothing stays as it is.
    let alone = pattern(PatternType::SuccessfulPattern, "task:backup", 300, json!({"rate": 0.99}));
    assert!(advise(&[alone], &[]).is_empty());
}

#[test]
fn changes_for_the_worse_are_asked_about() {
    let shift = |before: f64, after: f64| {
        let metadata =
            json!({"metric": "latency", "before_p50_ms": before, "after_p50_ms": after, "calls_after": 1000});
        pattern(PatternType::LevelShift, "tool:web", 1000, metadata)
    };
    let got = advise(&[shift(800.0, 2000.0)], &[]);
    assert_eq!(actions(&got), ["roll_back_change"]);
    assert!((got[0].saving.seconds_per_day - 1200.0).abs() < 1e-6);
    assert!(advise(&[shift(2000.0, 800.0)], &[]).is_empty(), "faster is no problem");
    let metadata =
        json!({"metric": "error_rate", "error_rate": 0.4, "error_rate_otherwise": 0.02, "calls": 1000});
    let got = advise(&[pattern(PatternType::Burst, "tool:web", 400, metadata)], &[]);
    assert_eq!(actions(&got), ["break_circuit"]);
    assert!((got[0].saving.failures_per_day - 190.0).abs() < 1e-6);
    assert_eq!(got[0].priority, Priority::High);
    let trend = |from: f64, to: f64, direction: &str| {
        let metadata =
            json!({"metric": "cost", "unit": "usd", "from": from, "to": to, "direction": direction});
        pattern(PatternType::Trend, "llm:large", 100, metadata)
    };
    assert_eq!(actions(&advise(&[trend(0.1, 0.2, "up")], &[])), ["investigate_trend"]);
    assert!(advise(&[trend(0.2, 0.1, "down")], &[]).is_empty());
    let tail = json!({"metric": "latency", "before_p95_ms": 1000, "after_p95_ms": 3000, "before_p99_ms": 2000,
        "after_p99_ms": 9000, "before_p50_ms": 500, "after_p50_ms": 490});
    let got = advise(
        &[pattern(PatternType::TailGrowth, "tool:web", 100, tail)],
        &[("tool:web", cell(&[(1.0, 1000)], 0, 0))],
    );
    assert!((got[0].saving.seconds_per_day - 150.0).abs() < 1e-6, "{:?}", got[0].saving);
    let few = json!({"metric": "calls", "calls": 10, "expected_calls": 1000});
    assert_eq!(
        actions(&advise(&[pattern(PatternType::Anomaly, "tool:web", 10, few)], &[])),
        ["investigate_anomaly"]
    );
    let gone = pattern(PatternType::VanishedTemplate, "tool:web", 4, json!({}));
    assert!(advise(&[gone], &[]).is_empty());
}

#[test]
fn weights_decide_the_order() {
    let patterns = [
        pattern(
            PatternType::InefficientChain,
            "tool:a",
            30,
            json!({"kind": "ping_pong", "wasted_s": 6000.0}),
        ),
        pattern(PatternType::InefficientChain, "tool:b", 30, json!({"kind": "ping_pong", "wasted_usd": 5.0})),
    ];
    let first = |time: f64, money: f64| {
        let mut settings = AnalyzeLogs::default();
        (settings.objectives.time, settings.objectives.money) = (time, money);
        let got = advise_with(&patterns, &[], &settings);
        assert!(got[0].score >= got[1].score);
        got[0].operation.clone().unwrap()
    };
    assert_eq!(first(1.0, 1.0), "tool:a");
    assert_eq!(first(1.0, 10.0), "tool:b");
    assert_eq!(first(0.0, 1.0), "tool:b");
}

#[test]
fn findings_that_say_nothing_never_panic() {
    for kind in [
        "recurring_error",
        "slow_operation",
        "inefficient_chain",
        "high_cost_operation",
        "successful_pattern",
        "timeout_pattern",
        "level_shift",
        "tail_growth",
        "burst",
        "anomaly",
        "drift",
        "trend",
        "breach_forecast",
        "correlation",
        "new_template",
        "vanished_template",
        "skill",
    ] {
        let kind: PatternType = serde_json::from_value(json!(kind)).unwrap();
        for metadata in [json!({}), json!({"wasted_s": "x", "choices": [1, {}], "p_value": -3, "from": null})]
        {
            let mut bare = pattern(kind, "tool:x", u64::MAX, metadata);
            bare.impact_score = f64::NAN;
            for operation in [Some("tool:x".to_owned()), Some("odd".into()), None] {
                bare.operation = operation;
                for one in advise(std::slice::from_ref(&bare), &[]) {
                    assert!((0.0..=1.0).contains(&one.confidence) && one.score.is_finite(), "{one:?}");
                }
            }
        }
    }
}
