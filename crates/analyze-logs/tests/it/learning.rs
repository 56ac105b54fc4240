//! The learning store: writing, asking, an original's file, several writers, retention.

use std::os::unix::fs::PermissionsExt;

use nightshift_analyze_logs::learning::{
    Filter, Metric, prune, read_correlations, read_improvements, read_metrics, read_patterns,
    read_recommendations, statistics, store_correlation, store_metric, store_patterns,
};
use nightshift_analyze_logs::pattern::{Pattern, PatternType};
use nightshift_analyze_logs::series::Correlation;
use nightshift_core::clock::parse_time;
use nightshift_core::jiff::Timestamp;
use nightshift_core::rusqlite::Connection;
use nightshift_core::store::Store;
use nightshift_testkit::Home;
use serde_json::{Map, Value, json};

fn at(time: &str) -> Timestamp {
    parse_time(time).unwrap()
}

fn pattern(kind: PatternType, about: &str, impact: f64) -> Pattern {
    Pattern {
        pattern_id: Pattern::id(kind, &[about]),
        pattern_type: kind,
        description: format!("about {about}"),
        occurrences: 5,
        impact_score: impact,
        first_seen: Some("2026-03-01T00:00:00Z".into()),
        last_seen: Some("2026-03-02T00:00:00Z".into()),
        operation: Some(format!("tool:{about}")),
        template: None,
        metadata: json!({"wasted_s": 2.5, "evidence": [{"file": "a", "offset": 3, "excerpt": "x"}]})
            .as_object()
            .cloned()
            .unwrap(),
    }
}

/// A file as the original makes it, with rows of its own.
fn original(path: &std::path::Path) {
    nightshift_core::files::create_dir(path.parent().unwrap()).unwrap();
    Connection::open(path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE patterns_detected (id INTEGER PRIMARY KEY AUTOINCREMENT, pattern_id TEXT UNIQUE NOT NULL,
                pattern_type TEXT NOT NULL, description TEXT NOT NULL, occurrences INTEGER NOT NULL,
                impact_score REAL NOT NULL, first_seen TIMESTAMP NOT NULL, last_seen TIMESTAMP NOT NULL,
                examples TEXT, metadata TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
                updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
             CREATE TABLE improvements_applied (id INTEGER PRIMARY KEY AUTOINCREMENT, improvement_id TEXT UNIQUE NOT NULL,
                recommendation_title TEXT NOT NULL, action_type TEXT NOT NULL, changes TEXT NOT NULL,
                status TEXT NOT NULL, applied_at TIMESTAMP, rolled_back_at TIMESTAMP, error TEXT, metadata TEXT,
                created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
             CREATE TABLE success_metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, metric_type TEXT NOT NULL,
                metric_name TEXT NOT NULL, value REAL NOT NULL, period_start TIMESTAMP NOT NULL,
                period_end TIMESTAMP NOT NULL, metadata TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
             CREATE TABLE correlations (id INTEGER PRIMARY KEY AUTOINCREMENT, correlation_type TEXT NOT NULL,
                entity_a TEXT NOT NULL, entity_b TEXT NOT NULL, correlation_score REAL NOT NULL,
                sample_size INTEGER NOT NULL, metadata TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
                updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
             CREATE TABLE pruned_skills (id INTEGER PRIMARY KEY AUTOINCREMENT, skill_id TEXT UNIQUE NOT NULL,
                pruned_at TIMESTAMP, reason TEXT, performance_data TEXT, created_at TIMESTAMP);
             CREATE INDEX idx_patterns_type ON patterns_detected(pattern_type);
             CREATE INDEX idx_patterns_impact ON patterns_detected(impact_score DESC);
             INSERT INTO patterns_detected (pattern_id, pattern_type, description, occurrences, impact_score, first_seen,
                last_seen, examples, metadata) VALUES
                ('pat_20260203_021500_140234', 'inefficient_tool_chain', 'search -> browse', 3, 4.5,
                 '2026-02-03T00:15:00', '2026-02-03 02:15:00', '[\"a\"]', '{\"k\": 1}'),
                ('pat_20260203_021500_140235', 'recurring_error', 'boom', 12, 6.0,
                 '2026-02-03T00:15:00', '2026-02-03T02:15:00', 'not json', NULL);
             INSERT INTO improvements_applied (improvement_id, recommendation_title, action_type, changes, status,
                applied_at) VALUES
                ('imp_20260203_021500', 'More time', 'config_update', '{\"path\": \"a.b\"}', 'applied', '2026-02-03T02:15:00'),
                ('imp_20260203_021501', 'Less', 'model_routing', '{}', 'rolled_back', '2026-02-03T02:16:00');
             INSERT INTO success_metrics (metric_type, metric_name, value, period_start, period_end) VALUES
                ('success_rate', 'improvement_application', 0.5, '2026-02-03T02:00:00', '2026-02-03T02:15:00');
             INSERT INTO correlations (correlation_type, entity_a, entity_b, correlation_score, sample_size) VALUES
                ('task', 'a', 'b', -0.9, 10), ('task', 'a', 'c', 0.4, 10);
             INSERT INTO pruned_skills (skill_id, reason) VALUES ('pdf', 'unused');",
        )
        .unwrap();
}

#[test]
fn an_original_file_is_found_opened_and_keeps_its_rows() {
    let home = Home::new();
    let path = home.path().join("data/learning.db");
    original(&path);
    // Found at data/learning.db, for the home has no store of its own.
    let found = home.run("analyze-logs", &["patterns", "--json"]).expect(0).json();
    assert_eq!(found["db"], path.display().to_string());
    let patterns = found["patterns"].as_array().unwrap();
    assert_eq!(patterns.len(), 2);
    assert_eq!((&patterns[0]["description"], &patterns[0]["examples"]), (&json!("boom"), &json!("not json")));
    assert_eq!(patterns[1]["metadata"], json!({"k": 1}));
    assert!(path.with_extension("db.backup-v0").exists());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let skill: String = Connection::open(&path)
        .unwrap()
        .query_row("SELECT reason FROM pruned_skills WHERE skill_id = 'pdf'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(skill, "unused");
    // Its own names, in any case, and its filters.
    let count = |arguments: &[&str]| {
        let all = [arguments, &["--json"]].concat();
        let report = home.run("analyze-logs", &all).expect(0).json();
        report[arguments[0]].as_array().unwrap().len()
    };
    assert_eq!(count(&["patterns", "--type", "INEFFICIENT_TOOL_CHAIN"]), 1);
    assert_eq!(count(&["patterns", "--type", "inefficient-chain"]), 1);
    assert_eq!(count(&["patterns", "--min-impact", "5"]), 1);
    assert_eq!(count(&["patterns", "--limit", "1"]), 1);
    assert_eq!(count(&["improvements"]), 2);
    assert_eq!(count(&["improvements", "--status", "APPLIED", "--action-type", "config_update"]), 1);
    assert_eq!(count(&["metrics", "--type", "success_rate", "--name", "improvement_application"]), 1);
    assert_eq!(count(&["metrics", "--since", "2026-02-03T02:10:00Z", "--until", "2026-02-04"]), 1);
    home.run("analyze-logs", &["metrics", "--since", "2026-02-04"]).expect(3);
    let correlations = home.run("analyze-logs", &["correlations", "--json"]).expect(0).json();
    assert_eq!(correlations["correlations"][0]["entity_b"], "b", "by the absolute score");
    assert_eq!(count(&["correlations", "--name", "c"]), 1);
    let held = home.run("analyze-logs", &["store", "--json"]).expect(0).json();
    assert_eq!(held["statistics"]["patterns_by_type"]["inefficient_tool_chain"], 1);
    assert_eq!(held["statistics"]["improvements_by_status"], json!({"applied": 1, "rolled_back": 1}));
}

#[test]
fn a_named_store_must_exist_and_no_store_is_nothing_to_do() {
    let home = Home::new();
    let ran = home.run("analyze-logs", &["patterns"]).expect(3);
    assert!(ran.stderr.contains("analyze --store"), "{}", ran.stderr);
    home.run("analyze-logs", &["patterns", "--db", "no.db"]).expect(1);
    home.write("text.db", "this is no database, but long enough to look like one at first sight");
    home.run("analyze-logs", &["patterns", "--db", "text.db"]).expect(1);
}

#[test]
fn the_same_finding_updates_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("learning.db")).unwrap();
    let mut one = pattern(PatternType::RecurringError, "web", 3.0);
    let other = pattern(PatternType::RecurringError, "shell", 8.0);
    let both = [one.clone(), other];
    store.write(|tx| store_patterns(tx, at("2026-03-02T02:00:00Z"), &both)).unwrap();
    one.occurrences = 9;
    one.first_seen = Some("2026-03-02T00:00:00Z".into());
    one.last_seen = Some("2026-03-03T00:00:00Z".into());
    store.write(|tx| store_patterns(tx, at("2026-03-03T02:00:00Z"), std::slice::from_ref(&one))).unwrap();
    let rows = read_patterns(store.read(), &Filter::default()).unwrap();
    assert_eq!(rows.len(), 2);
    let row = &rows[1];
    assert_eq!((&row["pattern_id"], &row["occurrences"]), (&json!(one.pattern_id), &json!(9)));
    assert_eq!(row["first_seen"], "2026-03-01T00:00:00Z");
    assert_eq!(row["last_seen"], "2026-03-03T00:00:00Z");
    assert_eq!(row["metadata"]["analyses"], 2);
    assert_eq!(row["metadata"]["operation"], "tool:web");
    assert_eq!(row["examples"][0]["offset"], 3);
    assert_ne!(row["created_at"], row["updated_at"]);
}

#[test]
fn metrics_and_correlations_update_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("learning.db")).unwrap();
    let now = at("2026-03-02T02:00:00Z");
    let metric = |value: f64, end: &'static str| Metric {
        metric_type: "p95_ms",
        metric_name: "tool:web",
        value,
        start: "2026-03-01T00:00:00Z",
        end,
        metadata: Map::new(),
    };
    let ids = store
        .write(|tx| {
            Ok([
                store_metric(tx, now, &metric(10.0, "2026-03-02T00:00:00Z"))?,
                store_metric(tx, now, &metric(20.0, "2026-03-02T00:00:00Z"))?,
                store_metric(tx, now, &metric(30.0, "2026-03-03T00:00:00Z"))?,
            ])
        })
        .unwrap();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
    assert!(store.write(|tx| store_metric(tx, now, &metric(f64::NAN, "x"))).is_err());
    let values: Vec<Value> = read_metrics(store.read(), &Filter::default())
        .unwrap()
        .iter()
        .map(|row| row["value"].clone())
        .collect();
    assert_eq!(values, [json!(30.0), json!(20.0)]);
    for score in [0.2, -0.7] {
        let correlation = Correlation {
            correlation_type: "errors_together".into(),
            entity_a: "a".into(),
            entity_b: "b".into(),
            score,
            sample_size: 40,
            metadata: Map::new(),
        };
        store.write(|tx| store_correlation(tx, now, &correlation)).unwrap();
    }
    let rows = read_correlations(store.read(), &Filter { least: Some(0.5), ..Filter::default() }).unwrap();
    assert_eq!((rows.len(), &rows[0]["correlation_score"]), (1, &json!(-0.7)));
}

#[test]
fn writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("learning.db");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut store = Store::open(path).unwrap();
                for round in 0..10 {
                    let own = pattern(PatternType::SlowOperation, &format!("{writer}-{round}"), 1.0);
                    let shared = pattern(PatternType::SlowOperation, "shared", 1.0);
                    store.write(|tx| store_patterns(tx, at("2026-03-02T02:00:00Z"), &[own, shared])).unwrap();
                }
            });
        }
    });
    let store = Store::open(&path).unwrap();
    assert_eq!(statistics(store.read()).unwrap().total_patterns, 41);
    let rows = read_patterns(store.read(), &Filter::default()).unwrap();
    let shared = rows.iter().find(|row| row["description"] == "about shared").unwrap();
    assert_eq!(shared["metadata"]["analyses"], 40);
}

#[test]
fn what_is_old_leaves_and_open_improvements_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("learning.db");
    original(&path);
    let mut store = Store::open(&path).unwrap();
    store
        .write(|tx| {
            tx.execute_batch(
                "UPDATE patterns_detected SET updated_at = '2026-02-03 02:15:00';
                 UPDATE improvements_applied SET updated_at = '2026-02-03 02:15:00';
                 UPDATE correlations SET updated_at = 'some day';
                 INSERT INTO improvements_applied (improvement_id, recommendation_title, action_type, changes, status,
                    updated_at) VALUES ('imp_new', 'x', 'config_update', '{}', 'failed', '2026-03-01T00:00:00Z');",
            )?;
            store_patterns(tx, at("2026-03-01T02:00:00Z"), &[pattern(PatternType::Burst, "new", 1.0)])
        })
        .unwrap();
    let now = at("2026-03-10T00:00:00Z");
    assert_eq!(store.write(|tx| prune(tx, now, 0)).unwrap().patterns, 0, "0 keeps everything");
    let dropped = store.write(|tx| prune(tx, now, 30)).unwrap();
    assert_eq!((dropped.patterns, dropped.metrics, dropped.improvements), (2, 1, 1));
    assert_eq!(dropped.correlations, 0, "a time that cannot be read is no reason to drop a row");
    let left: Vec<Value> = read_improvements(store.read(), &Filter::default())
        .unwrap()
        .iter()
        .map(|row| row["improvement_id"].clone())
        .collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&json!("imp_20260203_021500")), "applied, and still open: {left:?}");
    assert!(left.contains(&json!("imp_new")));
}

#[test]
fn an_analysis_fills_the_store() {
    let home = Home::new();
    home.write("logs/a.jsonl", &crate::reports::log());
    let report = home.run("analyze-logs", &["analyze", "--store", "--json"]).expect(0).json();
    let stored = &report["stored"];
    assert!(stored["metrics"].as_u64().unwrap() > 3);
    assert_eq!(stored["patterns"], report["patterns"].as_array().unwrap().len());
    let metrics = || {
        let report = home.run("analyze-logs", &["metrics", "--name", "tool:web", "--json"]).expect(0).json();
        report["metrics"].as_array().unwrap().clone()
    };
    let first = metrics();
    let rate = first.iter().find(|row| row["metric_type"] == "success_rate").unwrap();
    assert_eq!(rate["value"], 0.8);
    // Once more: the same numbers of the same time, no further rows. A dry run writes nothing.
    home.run("analyze-logs", &["analyze", "--store"]).expect(0);
    assert_eq!(metrics(), first);
    home.run("analyze-logs", &["analyze", "--db", "other.db", "--dry-run"]).expect(0);
    assert!(!home.path().join("other.db").exists());
    home.run("analyze-logs", &["analyze", "--db", "other.db"]).expect(0);
    let store = Store::open(&home.path().join("other.db")).unwrap();
    assert!(read_recommendations(store.read(), &Filter::default()).is_ok());
    assert!(statistics(store.read()).unwrap().total_metrics > 3);
}
