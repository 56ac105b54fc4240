//! The nightly form: what a night is trained on, and what leaves the old state alone.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nightshift_core::files;
use nightshift_core::lock::Lock;
use nightshift_testkit::binary;
use serde_json::json;

use crate::world::{base, home, home_with_rows, latest, lines, row, train};

#[test]
fn a_night_publishes_a_release_with_everything_around_it() {
    let home = home_with_rows(6);
    let ran = train(&home, &["--json"]).expect(0);
    let report = ran.json();
    let id = report["adapter_id"].as_str().unwrap();
    assert_eq!(report["examples"]["new"], 6);
    assert_eq!(report["steps"], 4, "six rows in windows of four, two epochs");
    let latest = files::read_link(&home.path().join("loras/latest")).unwrap();
    assert_eq!(latest.to_str(), Some(id));
    let read = |name: &str| home.read(&format!("loras/latest/{name}"));
    let config: serde_json::Value = serde_json::from_str(&read("training_config.json")).unwrap();
    for key in [
        "base_model",
        "training_data",
        "output_dir",
        "batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "num_epochs",
        "lora_rank",
        "lora_alpha",
        "max_seq_length",
        "training_timestamp",
        "training_examples",
    ] {
        assert!(!config[key].is_null(), "{key}");
    }
    assert_eq!(config["training_timestamp"], "2026-03-02T02:00:00.000000Z");
    let manifest: serde_json::Value = serde_json::from_str(&read("manifest.json")).unwrap();
    assert_eq!(manifest["dataset_sha256"], report["dataset_sha256"]);
    assert_eq!(manifest["base_fingerprint"], report["base_fingerprint"]);
    let log = home.read("logs/training_20260302_020000.log");
    assert!(log.contains(&format!("published {id}")), "{log}");
    let store = home.store();
    let metric = |name: &str| -> f64 {
        let sql = "SELECT value FROM metrics WHERE name = ?1";
        store.read().query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    assert_eq!(metric("autogen_training_completed_total"), 1.0);
    assert!(metric("autogen_training_loss") > 0.0 && metric("autogen_training_duration_seconds") > 0.0);
    train(&home, &["inspect", "loras/latest", "--json"]).expect(0);
}

#[test]
fn too_few_rows_are_exit_3_with_a_sentence() {
    let home = home();
    let ran = train(&home, &["--json"]).expect(3);
    assert!(ran.stderr.contains("no adapter: 0 of 5 rows"), "{}", ran.stderr);
    let ran = train(&home_with_rows(3), &["--json"]).expect(3);
    assert_eq!(ran.json()["error"]["message"], "no adapter: 3 of 5 rows");
    // The environment name of the documents.
    let mut home = home_with_rows(3);
    home.set("MIN_FAILURES_TO_TRAIN", "3");
    train(&home, &[]).expect(0);
    // Rows that turn out to be unusable do not count.
    let home = home_with_rows(4);
    home.write(
        "training_data/harvest_20260302.jsonl",
        &format!("{}\n", row("long", "Q", &"x ".repeat(3000))),
    );
    let ran = train(&home, &[]).expect(3);
    assert!(ran.stderr.contains("4 of 5") && ran.stderr.contains("1 too_long"), "{}", ran.stderr);
}

#[test]
fn a_bad_line_is_named_and_the_newest_answer_wins() {
    let home = home_with_rows(6);
    let newer =
        format!("{{half a row\n{}\n", row("again", "what is the river of city 0?", "The river is Delt."));
    let path = home.write("training_data/harvest_20260302.jsonl", &newer);
    let ran = train(&home, &["--json"]).expect(0);
    let report = ran.json();
    assert_eq!(report["examples"]["dropped"], json!({"bad_line": 1, "duplicate": 1}));
    assert_eq!((&report["examples"]["new"], &report["examples"]["older"]), (&json!(1), &json!(5)));
    assert!(
        ran.stderr.contains(&format!("{}:1", path.display())) && ran.stderr.contains("r0"),
        "{}",
        ran.stderr
    );
}

#[test]
fn older_rows_give_way_to_time_and_the_newest_harvest_does_not() {
    let home = home();
    home.write("training_data/harvest_20260227.jsonl", &lines(0, 40));
    home.write("training_data/harvest_20260228.jsonl", &lines(40, 60));
    home.write("training_data/harvest_20260301.jsonl", &lines(60, 66));
    let report = train(&home, &["--json", "--dry-run"]).expect(0).json();
    assert_eq!((&report["examples"]["new"], &report["examples"]["older"]), (&json!(6), &json!(60)));
    assert!(report["estimated_s"].as_f64().unwrap() > 0.0);
    let report = train(&home, &["--json", "--max-minutes", "1e-7"]).expect(0).json();
    assert_eq!((&report["examples"]["new"], &report["examples"]["older"]), (&json!(6), &json!(0)));
    assert_eq!(report["examples"]["dropped"]["no_time"], 60);
}

#[test]
fn a_dry_run_changes_nothing() {
    let home = home_with_rows(6);
    let before = files::list(home.path()).unwrap();
    let report = train(&home, &["--json", "--dry-run"]).expect(0).json();
    assert_eq!((&report["status"], &report["steps"]), (&json!("planned"), &json!(4)));
    assert_eq!(files::list(home.path()).unwrap(), before);
}

#[test]
fn the_same_rows_are_trained_once_and_a_banned_adapter_is_not_made_again() {
    let home = home_with_rows(6);
    let first = train(&home, &["--json"]).expect(0).json();
    let again = train(&home, &["--json"]).expect(0).json();
    assert_eq!((&again["status"], &again["adapter_id"]), (&json!("already_published"), &first["adapter_id"]));
    let id = first["adapter_id"].as_str().unwrap();
    let mut store = home.store();
    store.write(|tx| nightshift_core::release::mark(tx, id, "bad", Some("lost too much"))).unwrap();
    let ran = train(&home, &[]).expect(3);
    assert!(
        ran.stderr.contains("nothing new since") && ran.stderr.contains("lost too much"),
        "{}",
        ran.stderr
    );
    train(&home, &["--seed", "7"]).expect(0);
}

#[test]
fn one_training_at_a_time_and_a_broken_base_is_refused() {
    let home = home_with_rows(6);
    let lock = Lock::take(&home.path().join("sandbox_data/locks/train.lock"), "test").unwrap();
    let ran = train(&home, &[]).expect(7);
    assert!(ran.stderr.contains("locked by test"), "{}", ran.stderr);
    drop(lock);
    train(&home, &["--base", "nowhere"]).expect(4);
    assert!(!home.path().join("loras").exists());
    home.write("nightshift.yaml", "train: {min_examples: 2}\n");
    train(&home, &[]).expect(9);
}

/// The largest adapter that the small base takes.
const LARGE: [&str; 4] = ["--rank", "32", "--targets", "all-linear"];

#[test]
fn a_full_disk_while_publishing_leaves_the_old_latest() {
    let mut home = home_with_rows(6);
    train(&home, &["--rank", "4"]).expect(0);
    let before = latest(&home);
    // Trained to the end, killed just before publishing: the next run only has to publish.
    home.set("NIGHTSHIFT_CRASH_AT", "train.staged");
    train(&home, &LARGE).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    // A limit on the file size stands in for the full disk: 150 KiB, the adapter has more.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 300; exec \"$@\"", "sh"]).arg(binary("train-lora"));
    shell.args(LARGE).current_dir(home.path()).env_clear().env("PATH", "/usr/bin:/bin");
    shell.env("NIGHTSHIFT_NOW", "2026-03-02T02:00:00Z").process_group(0);
    let output = shell.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("adapter_model.safetensors"), "{stderr}");
    assert_eq!(latest(&home), before);
    let strays = files::list(&home.path().join("loras")).unwrap();
    assert!(strays.iter().all(|path| !path.to_string_lossy().contains(".tmp-")), "{strays:?}");
    // With room again nothing is lost.
    let report = train(&home, &[&["--json"][..], &LARGE].concat()).expect(0).json();
    assert!(report["resumed_from_step"].as_u64().is_some());
    assert_ne!(latest(&home), before);
}

#[test]
fn the_base_in_the_config_may_be_overridden() {
    let home = home_with_rows(6);
    home.write("nightshift.yaml", "train: {rank: 4, num_epochs: 1, threads: 1}\n");
    let report = train(&home, &["--base", base().to_str().unwrap(), "--json"]).expect(0).json();
    assert_eq!(report["steps"], 1);
}

/// Rows as a harvest writes them, the failed answer beside the accepted one.
fn with_rejected(from: usize, to: usize) -> String {
    let rows = lines(from, to);
    let row = |line: &str| {
        let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["rejected"] = json!("I do not know any river.");
        format!("{row}\n")
    };
    rows.lines().map(row).collect()
}

#[test]
fn a_night_learns_what_the_config_says() {
    let home = home();
    let plain = home.read("nightshift.yaml");
    home.write(
        "training_data/harvest_20260301.jsonl",
        &format!("{}{}", with_rejected(0, 6), row("alone", "Who?", "Brin.")),
    );
    let long = row("long", &"river ".repeat(60), "The answer.").to_string();
    home.write("training_data/harvest_20260302.jsonl", &format!("{long}\n"));
    let run = |more: &str, expect: i32| {
        home.write("nightshift.yaml", &format!("{plain}{more}"));
        train(&home, &["--json", "--dry-run"]).expect(expect)
    };
    let examples = |more: &str| run(more, 0).json()["examples"].clone();
    let limit = "  max_length: 80\n";
    assert_eq!(examples(limit)["dropped"], json!({"too_long": 1}));
    let cut = examples(&format!("{limit}  overlong: truncate\n"));
    assert_eq!((&cut["truncated"], &cut["dropped"]), (&json!(1), &json!({})));
    let ran = run(&format!("{limit}  overlong: error\n"), 4);
    assert!(ran.stderr.contains("1 rows are too long") && ran.stderr.contains("long"), "{}", ran.stderr);

    let dpo = examples("  objective: dpo\n");
    assert_eq!((&dpo["new"], &dpo["dropped"]), (&json!(6), &json!({"no_rejected": 2})));
    let ran = run("  objective: dpo\n  min_examples: 9\n", 3);
    assert!(ran.stderr.contains("6 of 9 rows"), "{}", ran.stderr);
    // Each accepted answer is wanted, each failed one is not.
    let kto = examples("  objective: kto\n  beta: 0.2\n");
    assert_eq!((&kto["new"], &kto["older"]), (&json!(1), &json!(13)));
    for objective in ["dpo", "kto"] {
        home.write("nightshift.yaml", &format!("{plain}  objective: {objective}\n"));
        let report = train(&home, &["--json", "--lr", "0.001"]).expect(0).json();
        assert_eq!(report["status"], "done", "{report}");
        let steps = crate::world::steps(&home.path().join("loras/latest"));
        let accuracy = |step: &serde_json::Value| step["rewards"]["accuracy"].as_f64().unwrap();
        assert!(accuracy(&steps[steps.len() - 1]) > 0.7, "{objective}: {steps:?}");
    }
    // A flag holds over the file.
    let report = train(&home, &["--json", "--dry-run", "--objective", "sft"]).expect(0).json();
    assert_eq!(report["examples"]["older"], 7);
    train(&home, &["--replay-share", "0.5"]).expect(2);
}

#[test]
fn a_night_replays_a_file_beside_its_own_answers() {
    let home = home_with_rows(6);
    let tools = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
                       "tools": [{"type": "function", "function": {"name": "f"}}]});
    let text = json!({"prompt": "1 2", "completion": " 3"});
    // Row 5 is asked by the harvest as well: its answer holds.
    home.write("general.jsonl", &format!("{}{tools}\n{text}\n", lines(5, 12)));
    let plain = home.read("nightshift.yaml");
    home.write("nightshift.yaml", &format!("{plain}  replay: general.jsonl\n  replay_ratio: 0.5\n"));
    let ran = train(&home, &["--json"]).expect(0);
    let report = ran.json();
    let examples = &report["examples"];
    assert_eq!(
        (&examples["new"], &examples["replay"], &examples["replay_pool"]),
        (&json!(6), &json!(3), &json!(6))
    );
    assert_eq!(examples["dropped"], json!({"no_answer": 2}), "by name: {}", ran.stderr);
    assert_eq!(train(&home, &["--json"]).expect(0).json()["status"], "already_published");
    // Another file is another training.
    home.write("general.jsonl", &lines(20, 30));
    assert_eq!(train(&home, &["--json"]).expect(0).json()["status"], "done");
    home.write("nightshift.yaml", &plain);
    let report = train(&home, &["--json", "--replay", "general.jsonl", "--dry-run"]).expect(0).json();
    assert_eq!(report["examples"]["replay_pool"], 10);
}
