//! Evaluation, early stop, limits, curves and memory: what a run is told, and what it says.

use nightshift_core::files;
use serde_json::{Value, json};

use crate::world::{direct, home, home_with_rows, lines, losses, quick, row, steps, train};

/// The lines of a run's `metrics.jsonl`.
fn curve(home: &nightshift_testkit::Home, folder: &str) -> Vec<Value> {
    let text = home.read(&format!("{folder}/metrics.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rows whose answers have nothing to do with those of [`lines`]: learning those makes these worse.
fn unrelated(count: usize) -> String {
    let one =
        |n: usize| row(&format!("e{n}"), &format!("Count up to {n}"), "one two three four five").to_string();
    (0..count).map(|n| one(n) + "\n").collect()
}

#[test]
fn the_best_state_is_kept_and_training_stops_when_it_no_longer_falls() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    home.write("eval.jsonl", &unrelated(4));
    let more = |keep: &'static str| {
        let flags = ["--eval-data", "eval.jsonl", "--eval-every", "2", "--early-stop", "2", "--keep", keep];
        [quick("40"), flags.to_vec()].concat()
    };
    let report = direct(&home, "rows.jsonl", "best", &more("best")).expect(0).json();
    assert_eq!((&report["ended"], &report["examples"]["evaluation"]), (&json!("early_stop"), &json!(4)));
    let done = report["steps"].as_u64().unwrap();
    assert!(done < 80, "{report}");
    let metrics: Value = serde_json::from_str(&home.read("best/training_metrics.json")).unwrap();
    let evals = metrics["evaluations"].as_array().unwrap();
    let loss = |eval: &Value| eval["loss"].as_f64().unwrap();
    let lowest = evals[1..].iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
    assert_eq!((&report["published_step"], &report["eval_loss"]), (&lowest["step"], &lowest["loss"]));
    assert!(report["published_step"].as_u64().unwrap() < done, "the best is not the last: {report}");
    // What lies in the folder is that state: measured by itself it has that loss.
    let base = crate::world::base();
    let evaluate = |adapter: &str| {
        let base = base.to_str().unwrap();
        let line = ["evaluate", "--base", base, "--adapter", adapter, "--data", "eval.jsonl", "--json"];
        train(&home, &line).expect(0).json()["mean_nll"].as_f64().unwrap()
    };
    assert!((evaluate("best") - loss(lowest)).abs() < 1e-6);
    let report = direct(&home, "rows.jsonl", "last", &more("last")).expect(0).json();
    assert_eq!((report["published_step"].as_u64(), report["steps"].as_u64()), (Some(done), Some(done)));
    assert!(evaluate("last") > evaluate("best"));
    // Evaluating changed nothing of the training.
    direct(&home, "rows.jsonl", "plain", &[quick("40"), vec!["--max-steps", "6"]].concat()).expect(0);
    assert_eq!(losses(&home.path().join("plain")), losses(&home.path().join("last"))[..6]);
}

#[test]
fn held_out_questions_are_not_trained_on_and_an_empty_share_is_refused() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 30));
    let flags = [quick("1"), vec!["--eval-share", "0.3"]].concat();
    let report = direct(&home, "rows.jsonl", "out", &flags).expect(0).json();
    let (rows, held) = (&report["examples"]["new"], &report["examples"]["evaluation"]);
    assert_eq!(rows.as_u64().unwrap() + held.as_u64().unwrap(), 30);
    assert!((3..16).contains(&held.as_u64().unwrap()), "{held}");
    assert!(report["eval_loss"].as_f64().unwrap() < report["eval_loss_first"].as_f64().unwrap());
    // Equal questions, however written, leave the training by name.
    let shouted = row("shouted", "  WHAT is the river of city 3?", "Vesk.");
    home.write("eval.jsonl", &format!("{shouted}\n"));
    let flags = [quick("1"), vec!["--eval-data", "eval.jsonl"]].concat();
    let ran = direct(&home, "rows.jsonl", "out2", &flags).expect(0);
    assert_eq!(ran.json()["examples"]["dropped"], json!({"evaluation": 1}));
    assert!(ran.stderr.contains("left out (evaluation): rows.jsonl:4 (r3)"), "{}", ran.stderr);
    let ran = direct(&home, "rows.jsonl", "out3", &["--eval-share", "0.0001"]).expect(3);
    assert!(ran.stderr.contains("held out no question"), "{}", ran.stderr);
    let ran = direct(&home, "rows.jsonl", "out3", &["--early-stop", "2"]).expect(2);
    assert!(ran.stderr.contains("--eval-share"), "{}", ran.stderr);
    assert!(!home.path().join("out3").exists());
}

#[test]
fn a_night_holds_out_the_same_questions_and_publishes_the_best_state() {
    let home = home_with_rows(30);
    let report = train(&home, &["--json", "--eval-share", "0.3", "--eval-every", "3"]).expect(0).json();
    let direct_home = crate::world::home();
    direct_home.write("rows.jsonl", &lines(0, 30));
    let flags = [quick("1"), vec!["--eval-share", "0.3"]].concat();
    let by_file = direct(&direct_home, "rows.jsonl", "out", &flags).expect(0).json();
    assert_eq!(report["examples"]["evaluation"], by_file["examples"]["evaluation"]);
    assert!(report["published_step"].as_u64().unwrap() > 0 && report["eval_loss"].is_number(), "{report}");
    let picture = home.read("loras/latest/loss.svg");
    assert!(picture.contains("evaluation: best"), "{picture}");
    assert!(curve(&home, "loras/latest")[0]["eval_loss"].is_number());
}

#[test]
fn a_minute_limit_ends_the_direct_form_at_a_step_and_publishes() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let flags = [quick("100000"), vec!["--max-minutes", "0.02"]].concat();
    let ran = direct(&home, "rows.jsonl", "out", &flags).expect(0);
    let report = ran.json();
    assert_eq!((&report["ended"], &report["status"]), (&json!("max_minutes"), &json!("done")));
    let done = steps(&home.path().join("out"));
    assert!(!done.is_empty() && done.len() < 200_000);
    train(&home, &["inspect", "out"]).expect(0);
    // The schedule is that of the whole run: next to nothing of it has passed.
    assert!(done.last().unwrap()["lr"].as_f64().unwrap() > 0.0099);
}

#[test]
fn the_curves_are_written_as_the_run_goes() {
    let mut home = home();
    home.write("rows.jsonl", &lines(0, 8));
    home.write("eval.jsonl", &unrelated(2));
    let more =
        ["--eval-data", "eval.jsonl", "--eval-every", "2", "--tensorboard", "tb", "--checkpoint-every", "3"];
    let flags = [quick("3"), more.to_vec()].concat();
    home.set("NIGHTSHIFT_CRASH_AT", "train.stepped:5");
    direct(&home, "rows.jsonl", "out", &flags).expect(128 + 9);
    // Steps 0 (the start) to 4 were drawn before the fifth was killed.
    let numbers =
        |lines: &[Value]| lines.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers(&curve(&home, "out")), [0, 1, 2, 3, 4]);
    home.unset("NIGHTSHIFT_CRASH_AT");
    direct(&home, "rows.jsonl", "out", &flags).expect(0);
    let lines = curve(&home, "out");
    assert_eq!(numbers(&lines), [0, 1, 2, 3, 4, 5, 6], "no line twice");
    for key in ["loss", "lr", "grad_norm", "tokens", "tokens_per_s", "rss_bytes", "epoch"] {
        assert!(lines[3][key].is_number(), "{key}: {}", lines[3]);
    }
    assert!(
        lines.iter().all(|line| line.get("eval_loss").is_some() == (line["step"].as_u64().unwrap() % 2 == 0))
    );
    let accuracy = |line: &Value| line["mean_token_accuracy"].as_f64().unwrap();
    assert!(accuracy(&lines[6]) > accuracy(&lines[1]) && accuracy(&lines[6]) <= 1.0);
    let runs = files::list(&home.path().join("tb")).unwrap();
    assert_eq!(runs.len(), 1, "one run, killed or not: {runs:?}");
    let events = files::read(&files::list(&runs[0]).unwrap()[0]).unwrap();
    assert_eq!(events.windows(10).filter(|bytes| bytes == b"train/loss").count(), 6);
    assert_eq!(events.windows(9).filter(|bytes| bytes == b"eval/loss").count(), 4);
    assert!(home.read("out/loss.svg").starts_with("<svg"));
}

#[test]
fn memory_is_told_before_and_refused_with_what_would_fit() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 64));
    let flags = ["--batch-size", "64", "--accumulation", "1", "--epochs", "1", "--threads", "2", "--dry-run"];
    let ran = direct(&home, "rows.jsonl", "out", &flags).expect(0);
    let total = ran.json()["memory"]["total_bytes"].as_u64().unwrap();
    let parts = ["base_bytes", "adapter_bytes", "activations_bytes", "program_bytes"];
    let sum: u64 = parts.iter().map(|part| ran.json()["memory"][*part].as_u64().unwrap()).sum();
    assert_eq!(sum, total);
    let tight = (total - 1).to_string();
    let ran = direct(&home, "rows.jsonl", "out", &[&flags[..], &["--max-memory", &tight]].concat()).expect(4);
    assert!(ran.stderr.contains("train.max_memory allows"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--batch-size 1 --gradient-accumulation 64"), "{}", ran.stderr);
    assert!(ran.stderr.contains("with the same numbers"), "{}", ran.stderr);
    let ran = direct(&home, "rows.jsonl", "out", &["--max-memory", "1MB"]).expect(4);
    assert!(ran.stderr.contains("even one row at a time needs"), "{}", ran.stderr);
    assert!(!home.path().join("out").exists());
    let night = home_with_rows(6);
    let ran = train(&night, &["--max-memory", "100KB"]).expect(4);
    assert!(ran.stderr.contains("the base alone takes"), "{}", ran.stderr);
    let planned = train(&night, &["--dry-run", "--json"]).expect(0).json();
    assert!(planned["memory"]["total_bytes"].as_u64().unwrap() > 1_000_000, "{planned}");
}

#[test]
fn a_run_that_ran_away_names_step_tensor_and_rows_and_keeps_the_last_good_state() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let flags = [
        "--no-shuffle",
        "--batch-size",
        "2",
        "--accumulation",
        "2",
        "--lr",
        "1e30",
        "--threads",
        "2",
        "--checkpoint-every",
        "100",
    ];
    let ran = direct(&home, "rows.jsonl", "out", &flags).expect(1);
    assert!(ran.stderr.contains("ran away at step 2"), "{}", ran.stderr);
    // Of the window's four rows the two of the pass that was found first, on whichever thread.
    let named = |line: usize| ran.stderr.contains(&format!("rows.jsonl:{line} (r{})", line - 1));
    assert_eq!((1..=8).filter(|line| named(*line)).count(), 2, "{}", ran.stderr);
    assert_eq!((5..=8).filter(|line| named(*line)).count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("the state of step 1 is kept in out/.checkpoints"), "{}", ran.stderr);
    assert!(home.path().join("out/.checkpoints/step-00000001/adapter_model.safetensors").exists());
    assert!(!home.path().join("out/adapter_model.safetensors").exists());
    // A kept state is a PEFT folder.
    train(&home, &["inspect", "out/.checkpoints/step-00000001"]).expect(0);
}
