//! Invariant I4: training never sees an evaluation item, nor what is marked `no_train`.

use nightshift_core::clock::parse_time;
use nightshift_core::evalset::{self, EvalItem, Purpose};
use nightshift_core::interaction::{self, Interaction, Message};
use nightshift_core::rusqlite::params;
use nightshift_core::store::Store;
use serde_json::Value;

use crate::world::{home, lines, row, train};

fn seal(store: &mut Store, name: &str, purpose: Purpose, question: &str) {
    let item = EvalItem {
        id: "item".into(),
        messages: vec![Message::user(question)],
        reference: Some("x".into()),
        check: Value::Null,
    };
    let now = parse_time("2026-03-01T00:00:00Z").unwrap();
    store.write(|tx| evalset::register(tx, now, (name, purpose, "test"), &[item])).unwrap();
}

/// An answer of the served model, `n` seconds after the day began.
pub(crate) fn answered(n: usize, question: &str, answer: &str, min_token_prob: f64) -> Interaction {
    let text = serde_json::json!({
        "id": format!("0195500000007000800000000000{n:04}"), "ts": format!("2026-03-01T00:00:{n:02}.000000Z"),
        "target": "nightshift", "query": question, "response": answer, "success": min_token_prob > 0.7,
        "min_token_prob": min_token_prob, "confidence": min_token_prob, "finish_reason": "stop",
        "source": "serve", "source_id": format!("s{n}"),
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn sealed_rows_never_enter_and_are_named() {
    let home = home();
    let gate = row("gate", "what IS the capital of Norland ?", "Vesk.");
    let report = row("report", "Name the longest river of the northern lands please", "Brin.");
    let marked = row("marked", "Where do I live?", "In Vesk.");
    let mut holdout = row("held", "Is this kept apart?", "Yes.");
    holdout["split"] = "holdout".into();
    let rows = format!("{gate}\n{report}\n{marked}\n{holdout}\n{}", lines(0, 6));
    home.write("training_data/harvest_20260301.jsonl", &rows);
    let mut store = home.store();
    seal(&mut store, "gate", Purpose::Gate, "What is the capital of Norland?");
    seal(&mut store, "report", Purpose::Report, "Name the longest river of the northern lands, please!");
    seal(&mut store, "traffic", Purpose::Traffic, "What is the river of city 1?");
    let mut private = answered(1, "Where do I live?", "In Vesk.", 0.2);
    (private.id, private.no_train) = ("i-marked".into(), true);
    // Sure answers, one of them to a sealed question, one that must not be trained on.
    let mut kept_back = answered(3, "My code word?", "Brin", 0.99);
    kept_back.no_train = true;
    store
        .write(|tx| {
            interaction::insert(tx, &private)?;
            interaction::insert(tx, &answered(2, "what is the capital of norland", "Vesk", 0.99))?;
            interaction::insert(tx, &kept_back)?;
            interaction::insert(tx, &answered(4, "Who sings?", "Aldo", 0.99))
        })
        .unwrap();
    let ran = train(&home, &["--json"]).expect(0);
    let report = ran.json();
    assert_eq!(report["examples"]["new"], 6);
    assert_eq!(report["examples"]["dropped"], serde_json::json!({"holdout": 1, "no_train": 1, "sealed": 2}));
    assert_eq!(report["examples"]["replay_pool"], 1, "only the answer about singing");
    for name in ["gate", "report", "marked", "held"] {
        assert!(ran.stderr.contains(&format!(": {name}: ")), "{name} in {}", ran.stderr);
    }
    assert!(ran.stderr.contains("item `item` of the evaluation set `report`"), "{}", ran.stderr);
}

#[test]
fn an_evaluation_set_that_comes_after_the_plan_is_respected() {
    let mut home = home();
    home.write("training_data/harvest_20260301.jsonl", &lines(0, 6));
    let mut store = home.store();
    store.write(|tx| interaction::insert(tx, &answered(4, "Who sings in the hall?", "Aldo", 0.99))).unwrap();
    home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:2");
    train(&home, &[]).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    seal(&mut store, "late", Purpose::Gate, "Who sings in the hall?");
    let report = train(&home, &["--json"]).expect(0).json();
    assert!(report["resumed_from_step"].is_null(), "the old plan is given up: {report}");
    assert_eq!(report["examples"]["replay_pool"], 0);
}

#[test]
fn replay_takes_sure_undoubted_and_confirmed_answers_only() {
    let home = home();
    home.write("training_data/harvest_20260301.jsonl", &lines(0, 6));
    let mut store = home.store();
    let cases = [
        // (question, probability, outcome of the harvest, feedback, replayed)
        ("sure", 0.95, None, None, true),
        ("unsure", 0.5, None, None, false),
        ("confirmed by the council", 0.5, Some("false_alarm"), None, true),
        ("confirmed, but called wrong", 0.5, Some("false_alarm"), Some(-1.0), false),
        ("corrected", 0.95, Some("accepted"), None, false),
        ("flagged, no agreement", 0.95, Some("abstained"), None, false),
        ("sure and called wrong", 0.95, None, Some(-1.0), false),
        ("What is the river of city 2?", 0.95, None, None, false),
        ("sure", 0.96, None, None, false), // the same question again
    ];
    store
        .write(|tx| {
            for (n, (question, probability, outcome, feedback, _)) in cases.iter().enumerate() {
                let row = answered(n, question, "Aldo", *probability);
                interaction::insert(tx, &row)?;
                if let Some(outcome) = outcome {
                    tx.execute(
                        "INSERT INTO harvest_items VALUES (?1, 'run', ?2, ?3, NULL, 'test', NULL)",
                        params![row.id, row.ts, outcome],
                    )?;
                }
                if let Some(value) = feedback {
                    let feedback = interaction::Feedback {
                        id: format!("f{n}"),
                        interaction_id: row.id,
                        ts: row.ts,
                        source: "user".into(),
                        source_id: format!("f{n}"),
                        value: *value,
                        comment: None,
                        correction: None,
                    };
                    interaction::insert_feedback(tx, &feedback)?;
                }
            }
            Ok(())
        })
        .unwrap();
    let report = train(&home, &["--json", "--replay-ratio", "2"]).expect(0).json();
    let expected = cases.iter().filter(|case| case.4).count();
    assert_eq!(report["examples"]["replay_pool"].as_u64(), Some(expected as u64), "{report}");
    assert_eq!(report["examples"]["replay"], 2, "no row is replayed twice in an epoch");
}
