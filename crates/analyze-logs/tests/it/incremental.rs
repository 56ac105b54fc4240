//! `--incremental`: each line once, whatever rotation, truncation, compression and kill -9 do.

use std::collections::BTreeSet;
use std::io::Write;

use nightshift_core::files;
use nightshift_testkit::Home;
use serde_json::{Value, json};

use crate::contract::operation;
use crate::truth::{answers, make_world};

fn lines(range: std::ops::Range<u32>) -> String {
    let mut text = String::new();
    for index in range {
        let hour = index / 60 % 24;
        text += &format!(
            "{{\"event\":\"tool_execution\",\"timestamp\":\"2026-02-{:02}T{hour:02}:{:02}:00Z\",\"tool_name\":\"t{}\",\"duration\":{}.5,\"success\":{}}}\n",
            index / 1440 + 1,
            index % 60,
            index % 3,
            index % 7,
            index % 10 != 0
        );
    }
    text
}

fn append(home: &Home, name: &str, text: &str) {
    files::open_append(&home.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
}

fn incremental(home: &Home) -> Value {
    home.run("analyze-logs", &["analyze", "logs", "--incremental", "--json"]).expect(0).json()
}

/// What one reading of everything gives; the incremental report must say the same.
#[track_caller]
fn check(home: &Home, all: &str, report: &Value) {
    let other = Home::new();
    other.write("logs/all.log", all);
    let want = other.run("analyze-logs", &["analyze", "logs", "--json"]).expect(0).json();
    for field in ["entries", "bytes", "bad_lines", "operations", "first_seen", "last_seen"] {
        assert_eq!(report[field], want[field], "{field} in {}", home.path().display());
    }
    let patterns = |report: &Value| answers(report.clone())["patterns"].clone();
    assert!(!report["patterns"].as_array().unwrap().is_empty() || report["entries"].as_u64().unwrap() < 100);
    assert_eq!(patterns(report), patterns(&want), "in {}", home.path().display());
}

#[test]
fn growing_rotating_compressing_and_truncating() {
    let home = Home::new();
    append(&home, "logs/app.log", &lines(0..2000));
    let report = incremental(&home);
    check(&home, &lines(0..2000), &report);
    assert_eq!(report["incremental"]["files"], 1);
    // Nothing new.
    let report = incremental(&home);
    check(&home, &lines(0..2000), &report);
    assert_eq!(
        report["incremental"],
        json!({"entries": 0, "bytes": 0, "files": 0, "resumed": 0, "unchanged": 1})
    );
    // Grown.
    append(&home, "logs/app.log", &lines(2000..2500));
    let report = incremental(&home);
    check(&home, &lines(0..2500), &report);
    assert_eq!(report["incremental"]["bytes"], lines(2000..2500).len());
    // Rotated by renaming, with lines that were not read yet.
    let path = |name: &str| home.path().join("logs").join(name);
    append(&home, "logs/app.log", &lines(2500..2600));
    files::rename(&path("app.log"), &path("app.log.1")).unwrap();
    append(&home, "logs/app.log", &lines(2600..2700));
    let report = incremental(&home);
    check(&home, &lines(0..2700), &report);
    assert_eq!((&report["incremental"]["files"], &report["incremental"]["resumed"]), (&json!(1), &json!(1)));
    // Compressed after a few more lines: another inode, the same content.
    append(&home, "logs/app.log.1", "");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&files::read(&path("app.log.1")).unwrap()).unwrap();
    packed.write_all(lines(2700..2750).as_bytes()).unwrap();
    files::write_atomic(&path("app.log.1.gz"), &packed.finish().unwrap()).unwrap();
    files::remove_file(&path("app.log.1")).unwrap();
    let report = incremental(&home);
    check(&home, &lines(0..2750), &report);
    assert_eq!(report["incremental"]["entries"], 50);
    // Copied away and truncated: the live file begins anew with other lines.
    let before = files::read_text(&path("app.log")).unwrap();
    files::write_atomic(&path("app.log.2"), before.as_bytes()).unwrap();
    let live = std::fs::OpenOptions::new().write(true).truncate(true).open(path("app.log")).unwrap();
    drop(live);
    append(&home, "logs/app.log", &lines(2750..2800));
    let report = incremental(&home);
    check(&home, &lines(0..2800), &report);
    assert_eq!(report["incremental"]["entries"], 50);
}

#[test]
fn a_torn_last_line_counts_once_when_its_newline_comes() {
    let home = Home::new();
    let text = lines(0..10);
    let (first, rest) = text.split_at(text.len() - 40);
    append(&home, "logs/app.log", first);
    let report = incremental(&home);
    assert_eq!((&report["entries"], &report["bad_lines"]), (&json!(9), &json!({"torn": 1})));
    let again = incremental(&home);
    assert_eq!(
        (&again["entries"], &again["bad_lines"]),
        (&json!(9), &json!({"torn": 1})),
        "said again, not added"
    );
    append(&home, "logs/app.log", rest);
    check(&home, &text, &incremental(&home));
    // Whole, but without its newline: reported at once, and not twice later.
    append(&home, "logs/app.log", lines(10..11).trim_end());
    assert_eq!(incremental(&home)["entries"], 11);
    append(&home, "logs/app.log", &format!("\n{}", lines(11..12)));
    check(&home, &lines(0..12), &incremental(&home));
}

#[test]
fn the_same_length_with_other_content_is_another_file() {
    let home = Home::new();
    append(&home, "logs/app.log", &lines(0..100));
    incremental(&home);
    // Rewritten in place, longer than before: only the content tells.
    let path = home.path().join("logs/app.log");
    let mut live = std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    live.write_all(lines(100..300).as_bytes()).unwrap();
    check(&home, &lines(0..300), &incremental(&home));
}

#[test]
fn killed_on_either_side_of_the_commit() {
    for (detail, entries) in [("before", 1000), ("after", 0)] {
        let mut home = Home::new();
        append(&home, "logs/app.log", &lines(0..1000));
        home.set("NIGHTSHIFT_CRASH_AT", &format!("analyze_logs.commit:{detail}"));
        let ran = home.run("analyze-logs", &["analyze", "logs", "--incremental"]);
        assert_eq!(ran.code, 137, "{}", ran.stderr);
        home.unset("NIGHTSHIFT_CRASH_AT");
        let report = incremental(&home);
        check(&home, &lines(0..1000), &report);
        assert_eq!(report["incremental"]["entries"], entries, "{detail}");
    }
}

#[test]
fn other_settings_read_everything_anew_and_a_plain_run_never_depends_on_the_store() {
    let home = Home::new();
    append(&home, "logs/app.log", &lines(0..100));
    incremental(&home);
    home.write("nightshift.yaml", "analyze_logs:\n  roles:\n    tool: [success]\n");
    assert_eq!(incremental(&home)["incremental"]["entries"], 100);
    let plain = home.run("analyze-logs", &["analyze", "logs", "--json"]).expect(0).json();
    assert_eq!(plain["entries"], 100);
    home.run("analyze-logs", &["analyze", "logs", "--incremental", "--since", "2026-02-01"]).expect(2);
    home.run("analyze-logs", &["analyze", "-", "--incremental"]).expect(2);
    assert_eq!(operation(&plain, "tool:unknown")["calls"], 100);
}

/// Cut anywhere, day or line, and continued: field by field what one reading of the same file says.
#[test]
fn a_continued_reading_says_what_one_reading_says() {
    let home = Home::new();
    make_world(&home, 5, 3, false);
    let log = files::read(&home.path().join("all.jsonl")).unwrap();
    let path = home.path().join("logs/app.log");
    files::create_dir(path.parent().unwrap()).unwrap();
    let mut from = 0;
    for part in [0.5, 0.501, 0.93, 0.94, 0.99, 1.0] {
        let end = (log.len() as f64 * part) as usize;
        files::open_append(&path).unwrap().write_all(&log[from..end]).unwrap();
        from = end;
        let got = incremental(&home);
        let want = home.run("analyze-logs", &["analyze", "logs", "--json"]).expect(0).json();
        let fields: BTreeSet<&String> = want.as_object().unwrap().keys().collect();
        assert!(
            got.as_object().unwrap().keys().all(|field| field == "incremental" || fields.contains(field))
        );
        for field in fields.into_iter().filter(|field| !["run_id", "seconds"].contains(&field.as_str())) {
            assert_eq!(got[field], want[field], "{field} after {part}");
        }
        assert!(!want["patterns"].as_array().unwrap().is_empty());
        assert!(!want["recommendations"].as_array().unwrap().is_empty());
    }
}
