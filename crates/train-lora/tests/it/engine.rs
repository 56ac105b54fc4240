//! `--engine command`: what an external trainer gets, and that nothing it may do wrong is published.
//! The trainers here are shell scripts; `scripts/check-peers` runs a real one.

use std::path::Path;
use std::time::Duration;

use nightshift_core::files;
use nightshift_testkit::{Home, Ran, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::world::{direct, home, home_with_rows, lines, other_base, quick, steps, train};

/// Gives back the adapter in `$3` after the lines of `before` have run; `$4` tokens, `$5` the status.
fn script(home: &Home, name: &str, before: &str) -> String {
    let text = format!(
        r#"set -eu
job=$1 out=$2 adapter=$3 tokens=$4 status=${{5:-done}}
echo run >>"{home}/{name}.runs"
echo $$ >"{home}/{name}.pid"
mkdir -p "$out/adapter"
cp "$adapter"/adapter_config.json "$adapter"/adapter_model.safetensors "$out/adapter/" 2>/dev/null || true
echo '{{"step": 1, "loss": 4.5, "lr": 0.01, "tokens": 100, "eval_loss": 4.0}}' >"$out/metrics.jsonl"
echo 'not a step' >>"$out/metrics.jsonl"
echo '{{"step": 2, "loss": 4.25, "lr": 0.005, "tokens": 90}}' >>"$out/metrics.jsonl"
sha=0
[ -f "$out/adapter/adapter_model.safetensors" ] && sha=$(sha256sum "$out/adapter/adapter_model.safetensors" | cut -d' ' -f1)
{before}
printf '{{"schema": 1, "status": "%s", "message": "because", "steps": 2, "scored_tokens": %s, "wall_s": 1.5, "trainer": "copy 1.0", "adapter_sha256": "%s"}}' "$status" "$tokens" "$sha" >"$out/result.tmp"
mv "$out/result.tmp" "$out/result.json"
"#,
        home = home.path().display()
    );
    home.write(&format!("{name}.sh"), &text).display().to_string()
}

/// A home with rows, an adapter called `good`, and the number of scored tokens of one pass.
fn world() -> (Home, u64) {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    direct(&home, "rows.jsonl", "good", &quick("4")).expect(0);
    let tokens = steps(&home.path().join("good"))[0]["answer_tokens"].as_u64().unwrap();
    (home, tokens)
}

/// Trains with the script; the adapter it gives back lies in `adapter`.
fn run(home: &Home, script: &str, adapter: &str, tokens: u64, more: &[&str]) -> Ran {
    let adapter = home.path().join(adapter);
    let status = more.iter().find_map(|flag| flag.strip_prefix("status=")).unwrap_or("done");
    let command = format!("sh {script} {{job}} {{out}} '{}' {tokens} {status}", adapter.display());
    let flags: Vec<&str> = more.iter().copied().filter(|flag| !flag.starts_with("status=")).collect();
    let engine = ["--engine", "command", "--engine-command", &command];
    direct(home, "rows.jsonl", "out", &[quick("2").as_slice(), &engine, &flags].concat())
}

fn gone(home: &Home, name: &str) {
    let pid: i32 = home.read(&format!("{name}.pid")).trim().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    wait_until("the trainer to be gone", Duration::from_secs(10), || {
        test_kill_process(pid).is_err().then_some(())
    });
}

#[test]
fn the_job_is_complete_and_the_result_is_measured_and_written() {
    let (mut home, tokens) = world();
    home.set("NIGHTSHIFT_ADMIN_KEY", "secret");
    home.set("CUDA_VISIBLE_DEVICES", "3");
    home.set("MY_TOKEN", "let through");
    let seen = home.path().join("seen");
    let path = script(&home, "good", &format!("cp -r \"$job\" '{0}'; env >'{0}/env'", seen.display()));
    let report =
        run(&home, &path, "good", tokens, &["--engine-env", "MY_*", "--no-shuffle"]).expect(0).json();
    let engine = &report["engine"];
    assert_eq!(
        (&engine["trainer"], &engine["steps"], &report["steps"]),
        (&json!("copy 1.0"), &json!(2), &json!(2))
    );
    assert_eq!((&engine["evaluated_on"], &engine["evaluated_rows"]), (&json!("train"), &json!(4)));
    assert!(engine["nll_adapter"].as_f64().unwrap() < engine["nll_base"].as_f64().unwrap(), "{engine}");
    assert_eq!((&report["loss_first"], &report["loss_last"]), (&json!(4.5), &json!(4.25)));
    assert!(report["warnings"].to_string().contains("1 lines of metrics.jsonl"), "{report}");
    let tensors =
        |folder: &str| files::read(&home.path().join(folder).join("adapter_model.safetensors")).unwrap();
    assert!(tensors("good") == tensors("out"), "the tensors arrive as they were");
    assert!(!home.path().join("out/.checkpoints").exists());

    let job: Value = serde_json::from_str(&home.read("seen/job.json")).unwrap();
    assert_eq!(
        (&job["schema"], &job["lora"]["r"], &job["lora"]["alpha"]),
        (&json!(1), &json!(4), &json!(8.0))
    );
    assert_eq!(
        (&job["optim"]["window"], &job["optim"]["epochs"], &job["optim"]["max_steps"]),
        (&json!(4), &json!(2), &json!(2))
    );
    assert_eq!(
        (&job["data"]["train_rows"], &job["resume_from"], &job["init_adapter"]),
        (&json!(4), &Value::Null, &Value::Null)
    );
    assert!(!home.read("seen/job.json").contains("scored_tokens"), "the job does not give the answer away");
    let rows: Vec<Value> =
        home.read("seen/train.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[2]["id"]), (4, &json!("rows.jsonl:3 (r2)")));
    assert_eq!(rows[0]["messages"][1]["role"], "assistant");
    let bytes = files::read(&seen.join("tokens.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| -> Vec<i64> {
        let view = file.tensor(name).unwrap();
        view.data().as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    };
    let (ids, labels, offsets) = (numbers("train.ids"), numbers("train.labels"), numbers("train.offsets"));
    assert_eq!((offsets.len(), *offsets.last().unwrap() as usize, labels.len()), (5, ids.len(), ids.len()));
    assert_eq!(labels.iter().filter(|label| **label != -100).count() as u64, tokens);
    assert!(ids.iter().zip(&labels).all(|(id, label)| *label == -100 || label == id));
    let environment = home.read("seen/env");
    for part in [
        "NIGHTSHIFT_RUN_ID=",
        "HF_HUB_OFFLINE=1",
        "WANDB_MODE=offline",
        "OMP_NUM_THREADS=1",
        "CUDA_VISIBLE_DEVICES=3",
        "MY_TOKEN=let through",
    ] {
        assert!(environment.contains(part), "{part} in {environment}");
    }
    assert!(!environment.contains("secret"), "{environment}");
}

#[test]
fn whatever_comes_back_wrong_is_refused_and_the_old_adapter_stays() {
    let (home, tokens) = world();
    // An untrained adapter, one of a higher rank, one on other matrices, one of another base, one with NaN.
    let still = "--rank 4 --alpha 8 --targets all-linear --max-steps 1 --warmup 1";
    direct(&home, "rows.jsonl", "zero", &still.split(' ').collect::<Vec<_>>()).expect(0);
    direct(&home, "rows.jsonl", "rank8", &["--rank", "8", "--lr", "0.01", "--epochs", "2"]).expect(0);
    let other = other_base();
    let foreign =
        ["--base", other.to_str().unwrap(), "--data", "rows.jsonl", "--out", "foreign", "--rank", "4"];
    train(&home, &foreign).expect(0);
    let model = "adapter_model.safetensors";
    files::create_dir(&home.path().join("nan")).unwrap();
    files::copy(&home.path().join("good/adapter_config.json"), &home.path().join("nan/adapter_config.json"))
        .unwrap();
    let mut bytes = files::read(&home.path().join("good").join(model)).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    files::write_atomic(&home.path().join("nan").join(model), &bytes).unwrap();
    let file = "\"$out/adapter/adapter_model.safetensors\"";
    let resum = format!("sha=$(sha256sum {file} | cut -d' ' -f1)");
    let cases: [(&str, &str, String, &str, u64, i32, &str); 14] = [
        ("fails", "good", "echo out of memory >&2; exit 3".into(), "", tokens, 1, "out of memory"),
        ("silent", "good", "exit 0".into(), "", tokens, 4, "ended without writing it"),
        ("status", "good", String::new(), "status=failed", tokens, 4, "status `failed`: because"),
        (
            "garbage",
            "good",
            "echo garbage >\"$out/result.json\"; exit 0".into(),
            "",
            tokens,
            4,
            "not a result",
        ),
        ("swapped", "good", format!("echo x >>{file}"), "", tokens, 4, "not the file that result.json names"),
        ("half", "good", format!("truncate -s -8 {file}; {resum}"), "", tokens, 4, "cut short"),
        ("zero", "zero", String::new(), "", tokens, 4, "nothing was trained"),
        ("rank", "rank8", String::new(), "", tokens, 4, "rank 8 on layer 0 q_proj, but 4"),
        ("base", "foreign", String::new(), "", tokens, 4, "shape"),
        ("nan", "nan", String::new(), "", tokens, 4, "NaN"),
        ("masks", "good", String::new(), "", tokens + tokens / 40 + 1, 4, "it masks, cuts or drops"),
        (
            "pickle",
            "good",
            format!("mv {file} \"$out/adapter/adapter_model.bin\""),
            "",
            tokens,
            4,
            "never opened",
        ),
        ("pipe", "good", format!("rm {file}; mkfifo {file}"), "", tokens, 4, "no plain file"),
        ("gone", "good", "rm -r \"$out/adapter\"".into(), "", tokens, 4, "adapter_config.json"),
    ];
    direct(&home, "rows.jsonl", "out", &quick("1")).expect(0);
    let before = crate::world::digest(&home.path().join("out"));
    for (name, adapter, before_result, status, tokens, code, why) in cases {
        let path = script(&home, name, &before_result);
        let more: Vec<&str> = [status].into_iter().filter(|status| !status.is_empty()).collect();
        let ran = run(&home, &path, adapter, tokens, &more).expect(code);
        assert!(ran.stderr.contains(why), "{name}: {why} in {}", ran.stderr);
        assert_eq!(crate::world::digest(&home.path().join("out")), before, "{name}");
    }
    // Fewer matrices were asked for than came back.
    let path = script(&home, "targets", "");
    let command = format!("sh {path} {{job}} {{out}} '{}' {tokens}", home.path().join("good").display());
    let narrow = ["--rank", "4", "--targets", "q_proj", "--engine", "command", "--engine-command", &command];
    let ran = direct(&home, "rows.jsonl", "out", &narrow).expect(4);
    assert!(ran.stderr.contains("k_proj, which was not asked for"), "{}", ran.stderr);
    // The same command again: the refused result is set aside, so the program runs anew.
    let path = script(&home, "twice", "test $(wc -l <'../../../twice.runs') -gt 1 || exit 0");
    run(&home, &path, "good", tokens, &[]).expect(4);
    run(&home, &path, "good", tokens, &[]).expect(0);
    let ran =
        direct(&home, "rows.jsonl", "out", &["--engine", "command", "--engine-command", "/no/such/program"])
            .expect(1);
    assert!(ran.stderr.contains("cannot start the trainer"), "{}", ran.stderr);
}

#[test]
fn a_night_publishes_what_the_command_trained() {
    let home = home_with_rows(6);
    train(&home, &[]).expect(0);
    let release = files::read_link(&home.path().join("loras/latest")).unwrap();
    let per_epoch: u64 = steps(&home.path().join("loras/latest"))[..2]
        .iter()
        .map(|step| step["answer_tokens"].as_u64().unwrap())
        .sum();
    let path = script(&home, "night", "");
    let adapter = home.path().join("loras").join(&release);
    let config = format!(
        "{}  engine: command\n  engine_command: [sh, '{path}', '{{job}}', '{{out}}', '{}', '{per_epoch}']\n",
        home.read("nightshift.yaml"),
        adapter.display()
    );
    home.write("nightshift.yaml", &config);
    let report = train(&home, &["--seed", "9", "--json"]).expect(0).json();
    assert_eq!((&report["status"], &report["engine"]["trainer"]), (&json!("done"), &json!("copy 1.0")));
    // The same bytes came back: the same release.
    assert_eq!(report["adapter_id"].as_str(), release.to_str());
    assert!(
        files::list(&home.path().join("sandbox_data/work")).unwrap().is_empty(),
        "the work folder is cleared"
    );
    home.write("nightshift.yaml", &config.replace("engine_command", "engine_minutes: 1\n  #"));
    train(&home, &["--seed", "10"]).expect(2);
}

#[test]
fn a_trainer_that_takes_too_long_or_goes_silent_is_ended() {
    let (home, tokens) = world();
    let path = script(&home, "long", "sleep 60 & while true; do echo alive; sleep 0.1; done");
    let ran =
        run(&home, &path, "good", tokens, &["--engine-minutes", "0.02", "--engine-stale-minutes", "0.01"])
            .expect(10);
    assert!(ran.stderr.contains("was ended after"), "{}", ran.stderr);
    gone(&home, "long");
    let path = script(&home, "stuck", "sleep 60");
    let ran = run(&home, &path, "good", tokens, &["--engine-stale-minutes", "0.005"]).expect(1);
    assert!(ran.stderr.contains("no progress for"), "{}", ran.stderr);
    gone(&home, "stuck");
    assert!(!home.path().join("out/adapter_config.json").exists());
}

/// Starts a training and waits until its trainer runs.
fn start(home: &Home, name: &str, path: &str, tokens: u64) -> (std::process::Child, Vec<String>) {
    let command = format!("sh {path} {{job}} {{out}} '{}' {tokens}", home.path().join("good").display());
    let base = crate::world::base().display().to_string();
    let fixed = ["--base", &base, "--data", "rows.jsonl", "--out", "out", "--threads", "1", "--json"];
    let engine = ["--engine", "command", "--engine-command", &command];
    let arguments: Vec<String> =
        [&fixed[..], &quick("2"), &engine].concat().into_iter().map(str::to_owned).collect();
    let child = home.spawn("train-lora", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let ready = home.path().join(format!("{name}.pid"));
    wait_until("the trainer", Duration::from_secs(20), || {
        files::read_text(&ready).ok().filter(|text| !text.is_empty())
    });
    (child, arguments)
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn asked_to_stop_it_ends_even_a_trainer_that_will_not() {
    let (home, tokens) = world();
    let path = script(&home, "deaf", "trap '' TERM; while true; do sleep 1; done");
    let (mut child, _) = start(&home, "deaf", &path, tokens);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    gone(&home, "deaf");
}

#[test]
fn after_a_kill_a_stray_is_ended_and_a_finished_job_is_taken_over() {
    let (home, tokens) = world();
    // The first run is killed while its trainer works: the next start ends that one and trains anew.
    let path = script(&home, "stray", "test $(wc -l <'../../../stray.runs') -gt 1 || sleep 60");
    let (mut child, arguments) = start(&home, "stray", &path, tokens);
    let first = home.read("stray.pid");
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    train(&home, &arguments).expect(0);
    assert_ne!(home.read("stray.pid"), first);
    let first = Pid::from_raw(first.trim().parse().unwrap()).unwrap();
    wait_until("the stray to be gone", Duration::from_secs(10), || {
        test_kill_process(first).is_err().then_some(())
    });
    files::remove_dir(&home.path().join("out")).unwrap();

    // The trainer ends while nobody watches: its work is not done again.
    let path = script(&home, "orphan", "sleep 1");
    let (mut child, arguments) = start(&home, "orphan", &path, tokens);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let done = home.path().join("out/.checkpoints/engine/out/result.json");
    wait_until("the job to end", Duration::from_secs(20), || done.exists().then_some(()));
    train(&home, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
    assert_eq!(home.read("orphan.runs").lines().count(), 1);
    assert!(Path::new(&home.path().join("out/adapter_config.json")).exists());
}
