//! The weights file: whatever it holds, and changes that lose nothing.

use std::path::Path;

use nightshift_core::clock::Clock;
use nightshift_core::crash::CrashPoint;
use nightshift_core::env::Env;
use nightshift_core::files;
use nightshift_core::signal::Stop;
use nightshift_core::synergy::start::{Source, Start, overrides};
use nightshift_core::synergy::weights::{Change, Held, Loaded, read};
use nightshift_core::synergy::{METRICS, UNIT, log};

fn load(dir: &Path, text: &str) -> Loaded {
    let path = dir.join("w.json");
    files::write_atomic(&path, text.as_bytes()).unwrap();
    read(&path, &Start::unit()).unwrap()
}

fn write(path: &Path, weights: [f64; 7], reason: &str) {
    let (clock, stop) = (Clock::new(None), Stop::default());
    let held = Held::take(path, "test", &clock, &stop).unwrap();
    let before = held.read(&Start::unit()).unwrap();
    let log = path.with_file_name("w.log");
    let change = Change { log: &log, at: "2026-03-01T02:00:00.25Z".parse().unwrap(), reason };
    held.write(&before, &weights, &change, &CrashPoint::default()).unwrap();
}

#[test]
fn whatever_the_file_holds_there_are_seven_weights() {
    let dir = tempfile::tempdir().unwrap();
    for (text, roi, note) in [
        ("", 1.0, ""),
        ("{}", 1.0, ""),
        ("  \n", 1.0, ""),
        ("{\"roi\": 2.5}", 2.5, "missing synergy weight(s): efficiency, resilience"),
        ("{\"roi\": \"2.5\", \"unknown\": [1]}", 2.5, "missing synergy weight(s)"),
        ("{\"roi\": \"high\"}", 1.0, "not a number"),
        ("{\"roi\": NaN}", 1.0, "not a number"),
        ("{\"roi\": null}", 1.0, "not a number"),
        ("{\"roi\": 11}", 10.0, "roi is 11"),
        ("{\"roi\": -3}", 0.0, "roi is -3"),
        ("{\"roi\": 2", 1.0, "invalid synergy weight data"),
        ("[1, 2]", 1.0, "not a JSON object"),
    ] {
        let loaded = load(dir.path(), text);
        assert_eq!(loaded.weights[0], roi, "{text}");
        assert_eq!(loaded.weights[1..], UNIT[1..], "{text}");
        let notes = loaded.notes.join("\n");
        assert!(notes.contains(note) && note.is_empty() == notes.is_empty(), "{text}: {notes}");
    }
}

#[test]
fn a_damaged_file_falls_back_to_its_backup_and_both_survive_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    write(&path, [2.0; 7], "first");
    write(&path, [3.0; 7], "second");
    files::write_atomic(&path, b"{\"roi\": 3.0, \"effic").unwrap();
    let loaded = read(&path, &Start::unit()).unwrap();
    assert_eq!((loaded.weights, loaded.sources[0].clone()), ([2.0; 7], Source::Backup));
    write(&path, [4.0; 7], "third");
    assert_eq!(read(&path, &Start::unit()).unwrap().weights, [4.0; 7]);
    assert_eq!(files::read_text(&dir.path().join("w.json.damaged")).unwrap(), "{\"roi\": 3.0, \"effic");
    assert!(files::read_text(&dir.path().join("w.json.bak")).unwrap().contains("2.0"), "the good copy stays");
    // The copy of other programs has another name.
    files::write_atomic(&dir.path().join("o.bak"), b"{\"roi\": 5}").unwrap();
    files::write_atomic(&dir.path().join("o.json"), b"\xff\xfe").unwrap();
    assert_eq!(read(&dir.path().join("o.json"), &Start::unit()).unwrap().weights[0], 5.0);
}

#[test]
fn doc_unknown_keys_and_form_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    load(dir.path(), "{\n  \"_doc\": \"a doc\",\n  \"roi\": 1,\n  \"mine\": [1, 2]\n}");
    write(&path, [2.5; 7], "x");
    let text = files::read_text(&path).unwrap();
    assert!(
        text.starts_with("{\n  \"_doc\": \"a doc\",\n  \"roi\": 2.5,\n  \"mine\": [")
            && text.contains("throughput")
    );
    files::remove_file(&path).unwrap();
    write(&path, [1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0], "x");
    let plain = "{\"roi\": 1.0, \"efficiency\": 0.5, \"resilience\": 1.0, \"antifragility\": 1.0, \
                 \"reliability\": 1.0, \"maintainability\": 1.0, \"throughput\": 2.0}";
    assert_eq!(files::read_text(&path).unwrap(), plain, "one line, as Python's json.dumps writes it");
}

#[test]
fn the_log_keeps_its_readers_and_its_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    write(&path, [2.0; 7], "import x");
    write(&path, [3.0; 7], "reset");
    let log_path = dir.path().join("w.log");
    let text = files::read_text(&log_path).unwrap();
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("{\"timestamp\":1772330400.25,\"roi\":1.0,"), "{first}");
    // Other programs turn every value of the first line into a number.
    let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(first).unwrap();
    assert!(line.values().all(serde_json::Value::is_number) && line.len() == 8, "{first}");
    files::append_line(&log_path, "broken line").unwrap();
    let log = log::read(&log_path).unwrap();
    let reasons: Vec<Option<&str>> = log.entries.iter().map(|entry| entry.reason.as_deref()).collect();
    assert_eq!((reasons.as_slice(), log.bad), ([None, Some("import x"), Some("reset")].as_slice(), 1));
    assert_eq!(log.entries[2].weights, [3.0; 7]);
}

#[test]
fn concurrent_changes_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    let (clock, stop) = (Clock::new(None), Stop::default());
    std::thread::scope(|scope| {
        for index in 0..METRICS.len() {
            let (path, clock, stop) = (&path, &clock, &stop);
            scope.spawn(move || {
                for _ in 0..5 {
                    let held = Held::take(path, "test", clock, stop).unwrap();
                    let before = held.read(&Start::unit()).unwrap();
                    let mut weights = before.weights;
                    weights[index] += 1.0;
                    let log = path.with_file_name("w.log");
                    let change = Change { log: &log, at: clock.now(), reason: "+1" };
                    held.write(&before, &weights, &change, &CrashPoint::default()).unwrap();
                }
            });
        }
    });
    assert_eq!(read(&path, &Start::unit()).unwrap().weights, [6.0; 7]);
    assert_eq!(log::read(&dir.path().join("w.log")).unwrap().entries.len(), 36);
}

#[test]
fn start_weights_come_in_order_and_single_ones_are_overridden() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        files::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        dir.path().join(name).display().to_string()
    };
    let baseline =
        file("baseline.yaml", "other: 1\nsynergy_weights: {roi: 2, efficiency: 20, resilience: x}\n");
    let settings = file("settings.json", r#"{"default_synergy_weights": {"roi": 3, "resilience": 4}}"#);
    let json = (r#"{"roi": 5, "throughput": 6}"#).to_owned();
    let start = Start::from_env(&Env::from_pairs([
        ("ALIGNMENT_BASELINE_METRICS_PATH", baseline),
        ("SANDBOX_SETTINGS_PATH", settings),
        ("DEFAULT_SYNERGY_WEIGHTS", json.clone()),
    ]));
    assert_eq!(start.weights, [2.0, 10.0, 4.0, 1.0, 1.0, 1.0, 6.0]);
    assert_eq!(
        (&start.sources[0], &start.sources[2], &start.sources[3]),
        (&Source::Baseline, &Source::Settings, &Source::Unit)
    );
    let broken = file("broken.yml", "synergy_weights: [");
    let start = Start::from_env(&Env::from_pairs([
        ("ALIGNMENT_BASELINE_METRICS_PATH", broken),
        ("SANDBOX_SETTINGS_YAML", "/nowhere".into()),
        ("DEFAULT_SYNERGY_WEIGHTS", json),
    ]));
    assert_eq!((start.weights[0], start.notes.len()), (5.0, 3), "{:?}", start.notes);
    let found = overrides(&Env::from_pairs([("SYNERGY_WEIGHT_THROUGHPUT", "2.5")])).unwrap();
    let loaded = read(&dir.path().join("none.json"), &Start::unit()).unwrap().overridden(&found);
    assert_eq!(loaded.weights[6], 2.5);
    assert_eq!(loaded.sources[6], Source::Environment("SYNERGY_WEIGHT_THROUGHPUT".into()));
    for bad in ["11", "x", "NaN"] {
        let failure = overrides(&Env::from_pairs([("SYNERGY_WEIGHT_ROI", bad)])).unwrap_err();
        assert!(failure.exit().code() == 9 && failure.chain().contains("SYNERGY_WEIGHT_ROI"));
    }
}
