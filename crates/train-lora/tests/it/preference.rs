//! Learning from judged answers through the program.

use serde_json::{Value, json};

use crate::world::{digest, direct, home, lines, losses, steps};

const DPO: [&str; 2] = ["--objective", "dpo"];
const KTO: [&str; 2] = ["--objective", "kto"];
const SMALL: [&str; 10] =
    ["--rank", "4", "--batch-size", "2", "--accumulation", "2", "--lr", "0.002", "--epochs", "6"];

fn pairs(count: usize) -> String {
    let row = |n: usize| {
        let prompt = format!("Where is city {n}?");
        json!({"prompt": prompt, "chosen": "By the river Vesk.", "rejected": "I do not know."}).to_string()
    };
    (0..count).map(|n| row(n) + "\n").collect()
}

fn judgements(count: usize) -> String {
    let row = |n: usize| {
        let answer = if n.is_multiple_of(2) { "By the river Vesk." } else { "I do not know." };
        json!({"prompt": format!("Where is city {n}?"), "completion": answer, "label": n.is_multiple_of(2)})
            .to_string()
    };
    (0..count).map(|n| row(n) + "\n").collect()
}

fn rewards(step: &Value, key: &str) -> f64 {
    step["rewards"][key].as_f64().unwrap()
}

#[test]
fn dpo_tells_chosen_from_rejected_however_the_rows_are_cut() {
    let home = home();
    home.write("pairs.jsonl", &pairs(8));
    direct(&home, "pairs.jsonl", "out", &[&DPO[..], &SMALL].concat()).expect(0);
    let found = steps(&home.path().join("out"));
    // A fresh adapter is its own reference: no reward, and the loss of a coin.
    assert!((found[0]["loss"].as_f64().unwrap() - 2.0_f64.ln()).abs() < 1e-6, "{}", found[0]);
    assert!(rewards(&found[0], "margin").abs() < 1e-6);
    let last = found.last().unwrap();
    assert!(rewards(last, "margin") > 0.1 && rewards(last, "accuracy") == 1.0, "{last}");
    assert!(last["loss"].as_f64().unwrap() < 0.9 * 2.0_f64.ln(), "{last}");

    let whole = ["--batch-size", "4", "--accumulation", "1"];
    let more = [&DPO[..], &SMALL[..2], &whole, &SMALL[6..]].concat();
    for (out, packing) in [("one", &[][..]), ("packed", &["--packing", "--pack-len", "90"])] {
        direct(&home, "pairs.jsonl", out, &[&more[..], packing].concat()).expect(0);
        for (a, b) in losses(&home.path().join("out")).iter().zip(losses(&home.path().join(out))) {
            assert!((a - b).abs() < 1e-4 * a, "{out}: {a} {b}");
        }
    }
    let config: Value = serde_json::from_str(&home.read("out/training_config.json")).unwrap();
    assert_eq!(config["objective"]["dpo"]["beta"], 0.1);
}

#[test]
fn kto_learns_from_labels_and_from_pairs() {
    let home = home();
    home.write("judged.jsonl", &judgements(8));
    let more = [&KTO[..], &SMALL, &["--undesirable-weight", "1.5"]].concat();
    direct(&home, "judged.jsonl", "out", &more).expect(0);
    let found = steps(&home.path().join("out"));
    let last = found.last().unwrap();
    assert!(last["loss"].as_f64().unwrap() < found[0]["loss"].as_f64().unwrap(), "{last}");
    assert!(rewards(last, "margin") > 0.05 && rewards(last, "kl") >= 0.0, "{last}");
    home.write("pairs.jsonl", &pairs(4));
    let report = direct(&home, "pairs.jsonl", "split", &[&KTO[..], &SMALL].concat()).expect(0).json();
    assert_eq!(report["examples"]["new"], 8, "a pair is two judged answers");
    let alone = ["--batch-size", "1", "--accumulation", "1"];
    let refused = direct(&home, "judged.jsonl", "no", &[&KTO[..], &alone].concat()).expect(2);
    assert!(refused.stderr.contains("at least two rows"), "{}", refused.stderr);
}

#[test]
fn held_out_pairs_are_judged_by_the_objective() {
    let home = home();
    home.write("pairs.jsonl", &pairs(8));
    home.write("held.jsonl", &pairs(12).split_inclusive('\n').skip(8).collect::<String>());
    let more = [&DPO[..], &SMALL, &["--eval-data", "held.jsonl"]].concat();
    direct(&home, "pairs.jsonl", "out", &more).expect(0);
    let metrics: Value = serde_json::from_str(&home.read("out/training_metrics.json")).unwrap();
    let evaluations = metrics["evaluations"].as_array().unwrap();
    let loss = |at: usize| evaluations[at]["loss"].as_f64().unwrap();
    assert!((loss(0) - 2.0_f64.ln()).abs() < 1e-6, "{evaluations:?}");
    assert!(loss(evaluations.len() - 1) < 0.95 * loss(0), "{evaluations:?}");
}

#[test]
fn a_killed_preference_run_ends_with_the_same_bytes() {
    for (objective, rows) in [(DPO, pairs(8)), (KTO, judgements(8))] {
        let mut home = home();
        home.write("rows.jsonl", &rows);
        let more = [&objective[..], &SMALL, &["--checkpoint-steps", "1", "--dropout", "0.1"]].concat();
        direct(&home, "rows.jsonl", "whole", &more).expect(0);
        home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:3");
        direct(&home, "rows.jsonl", "killed", &more).expect(128 + 9);
        home.unset("NIGHTSHIFT_CRASH_AT");
        direct(&home, "rows.jsonl", "killed", &more).expect(0);
        assert_eq!(digest(&home.path().join("killed")), digest(&home.path().join("whole")));
    }
}

#[test]
fn rows_of_another_kind_are_refused_with_what_to_do() {
    let home = home();
    home.write("pairs.jsonl", &pairs(4));
    home.write("answers.jsonl", &lines(0, 4));
    let refused = direct(&home, "pairs.jsonl", "out", &[]).expect(4);
    assert!(refused.stderr.contains("--objective dpo"), "{}", refused.stderr);
    let refused = direct(&home, "answers.jsonl", "out", &DPO).expect(4);
    assert!(refused.stderr.contains("`chosen` and `rejected`"), "{}", refused.stderr);
    let refused = direct(&home, "pairs.jsonl", "out", &[&DPO[..], &["--desirable-weight", "2"]].concat());
    assert!(refused.expect(2).stderr.contains("--desirable-weight"));
}
