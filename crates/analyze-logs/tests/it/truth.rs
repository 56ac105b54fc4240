//! A generated log beside the truth about it: whole, by parts merged, compressed, on one thread and on many.

#![allow(dead_code, reason = "the generator's program uses the rest")]

#[path = "../../examples/generate_logs/lines.rs"]
mod lines;
#[path = "../../examples/generate_logs/world.rs"]
mod world;

use nightshift_core::files;
use nightshift_testkit::Home;
use serde_json::{Value, json};
use world::{Plan, Truth};

use crate::contract::operation;

/// A generated log in the home, planted or clean, and the truth about it.
pub(crate) fn make_world(home: &Home, seed: u64, megabytes: u64, clean: bool) -> Truth {
    let mut log = Vec::new();
    let plan = Plan { seed, bytes: megabytes * 1_000_000, days: 7, clean, garbage: !clean };
    let truth = world::generate(&plan, &mut log).unwrap();
    files::write_atomic(&home.path().join("all.jsonl"), &log).unwrap();
    truth
}

fn make(home: &Home, seed: u64, megabytes: u64) -> (Vec<u8>, Truth) {
    let mut log = Vec::new();
    let plan = Plan { seed, bytes: megabytes * 1_000_000, days: 7, clean: false, garbage: true };
    let truth = world::generate(&plan, &mut log).unwrap();
    files::write_atomic(&home.path().join("all.jsonl"), &log).unwrap();
    (log, truth)
}

fn analyze(home: &Home, arguments: &[&str]) -> Value {
    let mut all = vec!["analyze", "--json"];
    all.extend(arguments);
    home.run("analyze-logs", &all).expect(0).json()
}

/// Without what is allowed to differ between runs, and between pieces of a log and the whole.
pub(crate) fn answers(mut report: Value) -> Value {
    let fields = report.as_object_mut().unwrap();
    for name in ["run_id", "seconds", "bad_examples", "problems"] {
        fields.remove(name);
    }
    for pattern in report["patterns"].as_array_mut().unwrap() {
        // What follows from counts alone has no lines to show.
        let evidence = pattern["metadata"].get_mut("evidence").and_then(Value::as_array_mut);
        for line in evidence.into_iter().flatten() {
            let fields = line.as_object_mut().unwrap();
            fields.remove("file");
            fields.remove("offset");
        }
    }
    report
}

#[track_caller]
fn compare(truth: &Truth, report: &Value) {
    assert_eq!(
        (report["entries"].as_u64(), report["bytes"].as_u64()),
        (Some(truth.entries), Some(truth.bytes))
    );
    assert_eq!(report["bad_lines"], json!(truth.bad_lines));
    assert_eq!(report["operations"].as_array().unwrap().len(), truth.operations.len());
    for (name, want) in &truth.operations {
        let got = operation(report, name);
        assert_eq!(got["calls"], want.calls, "{name}");
        assert_eq!(got["errors"], want.errors, "{name}");
        assert_eq!(got["timeouts"], want.timeouts, "{name}");
        assert_eq!((got["cost_usd"].as_f64().unwrap() * 1e9).round() as i64, want.cost_nano, "{name}");
        for (quantile, want) in [("p50_ms", want.p50_ms), ("p95_ms", want.p95_ms), ("p99_ms", want.p99_ms)] {
            let got = got[quantile].as_f64().unwrap();
            assert!((got - want).abs() <= want * 0.01, "{name} {quantile}: {got} for {want}");
        }
    }
}

#[test]
fn exact_whatever_the_threads_the_compression_and_the_pieces() {
    let home = Home::new();
    let (log, truth) = make(&home, 5, 4);
    let one = analyze(&home, &["all.jsonl", "--threads", "1"]);
    compare(&truth, &one);
    for threads in ["2", "7"] {
        let report = analyze(&home, &["all.jsonl", "--threads", threads]);
        assert_eq!(
            report["bad_examples"], one["bad_examples"],
            "examples are the first ones, not the fastest"
        );
        assert_eq!(answers(report), answers(one.clone()), "{threads} threads");
    }
    files::write_atomic(&home.path().join("all.zst"), &zstd::encode_all(&log[..], 3).unwrap()).unwrap();
    assert_eq!(answers(analyze(&home, &["all.zst"])), answers(one.clone()));
    // Five machines, one merge: in any order, and in two steps.
    let mut states = Vec::new();
    let mut start = 0;
    for part in 0..5 {
        let cut = (log.len() * (part + 1) / 5).min(log.len());
        let end = if part == 4 {
            log.len()
        } else {
            cut + log[cut..].iter().position(|b| *b == b'\n').unwrap() + 1
        };
        let (file, state) = (format!("part-{part}.jsonl"), format!("{part}.state"));
        files::write_atomic(&home.path().join(&file), &log[start..end]).unwrap();
        analyze(&home, &[&file, "--state-out", &state]);
        states.push(state);
        start = end;
    }
    let merge = |states: &[&str], out: &str| {
        let mut arguments = vec!["merge", "--json", "--state-out", out];
        arguments.extend(states);
        home.run("analyze-logs", &arguments).expect(0).json()
    };
    let names: Vec<&str> = states.iter().map(String::as_str).collect();
    assert_eq!(answers(merge(&names, "a.state")), answers(one.clone()));
    merge(&[names[3], names[1]], "b.state");
    assert_eq!(answers(merge(&[names[4], "b.state", names[0], names[2]], "c.state")), answers(one));
}

#[test]
fn a_window_is_counted_exactly() {
    let home = Home::new();
    let (_, truth) = make(&home, 6, 2);
    let quarter = truth.window.unwrap();
    let report = analyze(&home, &["all.jsonl", "--since", &quarter.since, "--until", &quarter.until]);
    assert_eq!(report["entries"], quarter.entries);
    assert_eq!(report["entries_outside"], truth.entries - quarter.entries);
    for (name, calls) in quarter.calls {
        assert_eq!(operation(&report, &name)["calls"], calls, "{name}");
    }
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let home = Home::new();
    home.write("a.log", "{\"tool_name\":\"a\",\"success\":true}\n");
    analyze(&home, &["a.log", "--state-out", "a.state"]);
    home.write("nightshift.yaml", "analyze_logs: {slow_operation_threshold: 2}\n");
    analyze(&home, &["a.log", "--state-out", "b.state"]);
    let ran = home.run("analyze-logs", &["merge", "a.state", "b.state"]).expect(1);
    assert!(ran.stderr.contains("b.state") && ran.stderr.contains("other thresholds"), "{}", ran.stderr);
    home.write("c.state", "{\"format_version\": 9}");
    home.run("analyze-logs", &["merge", "c.state"]).expect(1);
    home.run("analyze-logs", &["merge", "gone.state"]).expect(1);
}
