//! Crashes and stops: what is resumed, and that it ends with the same bytes.

use std::time::Duration;

use nightshift_core::files;
use nightshift_testkit::{Home, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{digest, direct, home, home_with_rows, latest, lines, losses, quick, train};

const ROWS: usize = 13;

fn undisturbed() -> String {
    let home = home_with_rows(ROWS);
    train(&home, &[]).expect(0);
    latest(&home)
}

fn checkpoints(home: &Home) -> Vec<String> {
    let work = files::list(&home.path().join("sandbox_data/work")).unwrap();
    let lists = work.iter().flat_map(|folder| files::list(folder).unwrap());
    lists.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn killed_at_checkpoints_it_resumes_to_the_same_bytes() {
    let expected = undisturbed();
    // 13 rows in windows of four, two epochs: eight steps, a checkpoint after every second.
    let mut home = home_with_rows(ROWS);
    for step in [2_u64, 4, 6, 8] {
        home.set("NIGHTSHIFT_CRASH_AT", &format!("train.checkpointed:{step}"));
        train(&home, &[]).expect(128 + 9);
        assert!(!home.path().join("loras/latest").exists(), "nothing half-done is visible");
        assert!(checkpoints(&home).contains(&format!("step-{step:08}")));
    }
    home.unset("NIGHTSHIFT_CRASH_AT");
    let report = train(&home, &["--json"]).expect(0).json();
    assert_eq!((report["resumed_from_step"].as_u64(), report["steps"].as_u64()), (Some(8), Some(8)));
    assert_eq!(latest(&home), expected);
    assert_eq!(losses(&home.path().join("loras/latest")).len(), 8, "the steps before the kills are there");
    assert_eq!(checkpoints(&home).len(), 0, "the work folder is cleared");
}

#[test]
fn a_kill_while_publishing_is_finished_by_the_next_run() {
    let expected = undisturbed();
    for point in ["train.staged", "train.published"] {
        let mut home = home_with_rows(ROWS);
        home.set("NIGHTSHIFT_CRASH_AT", point);
        train(&home, &[]).expect(128 + 9);
        home.unset("NIGHTSHIFT_CRASH_AT");
        let report = train(&home, &["--json"]).expect(0).json();
        assert_eq!(report["resumed_from_step"].as_u64(), Some(8), "{point}");
        assert_eq!(latest(&home), expected, "{point}");
        let again = train(&home, &["--json"]).expect(0).json();
        assert_eq!(again["adapter_id"], report["adapter_id"], "{point}");
        let strays = files::list(&home.path().join("loras")).unwrap();
        assert!(strays.iter().all(|path| !path.to_string_lossy().contains(".tmp-")), "{strays:?}");
    }
}

#[test]
fn half_written_and_foreign_checkpoints_are_passed_over_with_a_note() {
    let expected = undisturbed();
    let mut home = home_with_rows(ROWS);
    home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:4");
    train(&home, &[]).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    let work = files::list(&home.path().join("sandbox_data/work")).unwrap().remove(0);
    let newest = work.join("step-00000004/optimizer.safetensors");
    let whole = files::read(&newest).unwrap();
    files::write_atomic(&newest, &whole[..whole.len() / 2]).unwrap();
    // One of another run, newer than all.
    files::create_dir(&work.join("step-00000006")).unwrap();
    for name in ["state.json", "adapter_model.safetensors", "optimizer.safetensors"] {
        let from = work.join("step-00000002").join(name);
        files::copy(&from, &work.join("step-00000006").join(name)).unwrap();
    }
    let state = files::read_text(&work.join("step-00000006/state.json")).unwrap();
    let foreign = state.replace("\"rank\":4", "\"rank\":5");
    files::write_atomic(&work.join("step-00000006/state.json"), foreign.as_bytes()).unwrap();
    let ran = train(&home, &["--json"]).expect(0);
    assert_eq!(ran.json()["resumed_from_step"].as_u64(), Some(2));
    assert!(
        ran.stderr.contains("step-00000004 is passed over") && ran.stderr.contains("damaged"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("step-00000006 is passed over"), "{}", ran.stderr);
    assert!(ran.stderr.contains("rank is 5 there and 4 here"), "{}", ran.stderr);
    assert_eq!(latest(&home), expected);
}

#[test]
fn sigterm_leaves_a_checkpoint_and_143() {
    let mut arguments = quick("120");
    arguments.extend(["--checkpoint-steps", "0"]);
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let base = crate::world::base();
    let mut line =
        vec!["--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--out", "out", "--threads", "1"];
    line.extend(&arguments);
    line.push("-v");
    let mut child = home.spawn("train-lora", &line);
    wait_until("the first steps", Duration::from_secs(60), || {
        let log = files::read_text(&home.path().join("train-lora.err")).unwrap_or_default();
        log.contains("step=3 ").then_some(())
    });
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!home.path().join("out/adapter_config.json").exists());
    let resumed = direct(&home, "rows.jsonl", "out", &arguments).expect(0).json();
    assert!(resumed["resumed_from_step"].as_u64().unwrap() >= 3, "{resumed}");
    direct(&home, "rows.jsonl", "whole", &arguments).expect(0);
    assert_eq!(digest(&home.path().join("out")), digest(&home.path().join("whole")));
}

#[test]
fn other_settings_do_not_resume() {
    let mut home = home_with_rows(ROWS);
    home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:4");
    train(&home, &[]).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    let report = train(&home, &["--json", "--lr", "0.02"]).expect(0).json();
    assert!(report["resumed_from_step"].is_null());
}
