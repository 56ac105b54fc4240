//! Kill -9 at many points of a run with everything on; foreign checkpoints; a full disk while saving.

use std::process::Command;
use std::time::Duration;

use nightshift_core::files;
use nightshift_testkit::{Home, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{digest, direct, home, lines, quick, train};

/// Six steps with dropout, evaluation, early stop and best state; a checkpoint after every second.
fn everything() -> Vec<&'static str> {
    let more = "--init-adapter start --batch-size 2 --accumulation 2 --lr 0.01 --epochs 3 --eval-data eval.jsonl \
                --eval-every 1 --early-stop 4 --keep best --checkpoint-every 2 --tensorboard tb";
    more.split_whitespace().collect()
}

/// A home with rows, and an adapter with dropout to go on from.
fn prepared() -> Home {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    home.write("eval.jsonl", &lines(20, 23));
    direct(&home, "rows.jsonl", "start", &quick("1")).expect(0);
    let config = home.read("start/adapter_config.json");
    let dropout = config.replace("\"lora_dropout\": 0.0", "\"lora_dropout\": 0.25");
    assert_ne!(config, dropout);
    home.write("start/adapter_config.json", &dropout);
    home
}

/// What must not depend on where a run was killed: everything but times and memory.
fn account(home: &Home, out: &str) -> (String, Vec<Value>, Value) {
    let mut lines: Vec<Value> = home
        .read(&format!("{out}/metrics.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &mut lines {
        for key in ["seconds", "tokens_per_s", "rss_bytes"] {
            line.as_object_mut().unwrap().remove(key);
        }
    }
    let metrics: Value = serde_json::from_str(&home.read(&format!("{out}/training_metrics.json"))).unwrap();
    let counters = ["total_steps", "tokens", "eval_loss", "published_step", "ended", "loss_first"];
    let counters = counters.iter().map(|key| metrics[*key].clone()).collect();
    (digest(&home.path().join(out)), lines, counters)
}

#[test]
fn killed_at_ten_points_it_ends_as_if_nothing_had_happened() {
    let mut home = prepared();
    direct(&home, "rows.jsonl", "whole", &everything()).expect(0);
    let expected = account(&home, "whole");
    assert_eq!(expected.1.len(), 7, "the start and six steps");
    let points = [
        "train.stepped:1",
        "train.evaluated:1",
        "train.best_kept:1",
        "train.stepped:2",
        "train.checkpoint_staged:2",
        "train.checkpointed:2",
        "train.evaluated:3",
        "train.stepped:4",
        "train.checkpoint_staged:4",
        "train.best_kept:5",
        "train.checkpointed:6",
    ];
    // Each point alone on a run of its own, then all of them one after the other on one run.
    for point in points {
        home.set("NIGHTSHIFT_CRASH_AT", point);
        direct(&home, "rows.jsonl", "once", &everything()).expect(128 + 9);
        assert!(!home.path().join("once/adapter_config.json").exists(), "{point}: nothing half-done");
        home.unset("NIGHTSHIFT_CRASH_AT");
        direct(&home, "rows.jsonl", "once", &everything()).expect(0);
        assert_eq!(account(&home, "once"), expected, "{point}");
        files::remove_dir(&home.path().join("once")).unwrap();
    }
    for point in points {
        home.set("NIGHTSHIFT_CRASH_AT", point);
        let code = direct(&home, "rows.jsonl", "often", &everything()).code;
        assert!(code == 128 + 9, "{point}: {code}");
    }
    home.unset("NIGHTSHIFT_CRASH_AT");
    direct(&home, "rows.jsonl", "often", &everything()).expect(0);
    assert_eq!(account(&home, "often"), expected);
    assert!(!home.path().join("often/.checkpoints").exists());
}

#[test]
fn killed_at_any_instant_it_resumes() {
    let home = prepared();
    direct(&home, "rows.jsonl", "whole", &everything()).expect(0);
    let base = crate::world::base();
    let mut line =
        vec!["--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--out", "out", "--threads", "1"];
    line.extend(everything());
    let mut child = home.spawn("train-lora", &line);
    // Not a named point: wherever it is when the second line of the curve appears.
    wait_until("the first step", Duration::from_secs(60), || {
        let text = files::read_text_if_any(&home.path().join("out/metrics.jsonl")).unwrap()?;
        (text.lines().count() >= 2 || child.try_wait().unwrap().is_some()).then_some(())
    });
    // It may have ended by then; killing it is then without effect, and so is going on.
    let _ = kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::KILL);
    child.wait().unwrap();
    direct(&home, "rows.jsonl", "out", &everything()).expect(0);
    assert_eq!(account(&home, "out"), account(&home, "whole"));
}

#[test]
fn a_checkpoint_of_another_run_is_refused_with_what_differs() {
    let mut home = prepared();
    let flags = |rank: &'static str| {
        vec!["--rank", rank, "--batch-size", "2", "--accumulation", "2", "--checkpoint-every", "1"]
    };
    home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:2");
    direct(&home, "rows.jsonl", "out", &flags("4")).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    let refused = |arguments: &[&str], data: &str, says: &str| {
        let ran = direct(&home, data, "out", arguments).expect(4);
        assert!(
            ran.stderr.contains("holds step 2 of another run") && ran.stderr.contains(says),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("--fresh"), "{}", ran.stderr);
    };
    refused(&flags("8"), "rows.jsonl", "rank is 4 there and 8 here");
    home.write("other.jsonl", &lines(3, 9));
    refused(&flags("4"), "other.jsonl", "rows_sha256 is ");
    let other = crate::world::other_base();
    let line = ["--base", other.to_str().unwrap(), "--data", "rows.jsonl", "--out", "out", "--threads", "1"];
    let ran = train(&home, &[&line[..], &flags("4")].concat()).expect(4);
    assert!(ran.stderr.contains("base_fingerprint is "), "{}", ran.stderr);
    assert!(home.path().join("out/.checkpoints/step-00000002").exists(), "and nothing was touched");
    let report = direct(&home, "rows.jsonl", "out", &[flags("8"), vec!["--fresh"]].concat()).expect(0).json();
    assert!(report["resumed_from_step"].is_null() && !home.path().join("out/.checkpoints").exists());
}

#[test]
fn a_disk_that_is_full_while_saving_leaves_the_old_checkpoint() {
    let mut home = prepared();
    direct(&home, "rows.jsonl", "whole", &everything()).expect(0);
    home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:2");
    direct(&home, "rows.jsonl", "out", &everything()).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    let moments =
        files::read(&home.path().join("out/.checkpoints/step-00000002/optimizer.safetensors")).unwrap();
    // A limit on file sizes answers writes beyond it as a full disk does: the adapter fits, the moments do not.
    let base = crate::world::base();
    let mut arguments =
        vec!["--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--out", "out", "--threads", "1"];
    arguments.extend(everything());
    let program = home.command("train-lora", &arguments);
    let blocks = moments.len() * 3 / 4 / 512;
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    limited.arg(program.get_program()).args(program.get_args()).current_dir(home.path()).env_clear();
    limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("going on after step 2") && said.contains("optimizer.safetensors"), "{said}");
    let left: Vec<_> = files::list(&home.path().join("out/.checkpoints")).unwrap();
    assert!(left.iter().any(|path| path.ends_with("step-00000002")), "{left:?}");
    assert!(!left.iter().any(|path| path.ends_with("step-00000004")), "{left:?}");
    let report = direct(&home, "rows.jsonl", "out", &everything()).expect(0).json();
    assert_eq!(report["resumed_from_step"], 2);
    assert_eq!(account(&home, "out"), account(&home, "whole"));
}

#[test]
fn sigint_is_130_and_goes_on_from_there() {
    let home = prepared();
    let base = crate::world::base();
    let line = [
        vec!["--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--out", "out", "--threads", "1"],
        quick("150"),
        vec!["--checkpoint-every", "0"],
    ]
    .concat();
    let mut child = home.spawn("train-lora", &line);
    wait_until("the first steps", Duration::from_secs(60), || {
        let text = files::read_text_if_any(&home.path().join("out/metrics.jsonl")).unwrap()?;
        (text.lines().count() >= 3).then_some(())
    });
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said = home.read("train-lora.err");
    assert!(said.contains("a checkpoint of step"), "{said}");
    let more = [quick("150"), vec!["--checkpoint-every", "0"]].concat();
    let resumed = direct(&home, "rows.jsonl", "out", &more).expect(0).json();
    assert!(resumed["resumed_from_step"].as_u64().unwrap() >= 3, "{resumed}");
}
