//! Variants of LoRA through the program: what is trained, what is written, what is refused.

use serde_json::{Value, json};

use crate::world::{base, digest, direct, home, lines, losses, quick, train};

/// Trains on eight rows for four epochs with further flags; the folder's config.
fn trained(home: &nightshift_testkit::Home, out: &str, more: &[&str]) -> Value {
    direct(home, "rows.jsonl", out, &[&quick("4")[..], more].concat()).expect(0);
    config(home, out)
}

fn config(home: &nightshift_testkit::Home, out: &str) -> Value {
    serde_json::from_str(&home.read(&format!("{out}/adapter_config.json"))).unwrap()
}

#[test]
fn patterns_and_expressions_choose_modules_and_are_written_for_peft() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let more = ["--exclude", "layers.1.mlp.up_proj", "--rank-pattern", "q_proj=8,layers.1.mlp.down_proj=2"];
    let config = trained(&home, "a", &[&more[..], &["--alpha-pattern", "v_proj=16"]].concat());
    let targets = config["target_modules"].as_array().unwrap();
    assert_eq!(targets.len(), 13, "one of fourteen is excluded: {targets:?}");
    assert_eq!(config["rank_pattern"], json!({"q_proj": 8, "model.layers.1.mlp.down_proj": 2}));
    assert_eq!(config["alpha_pattern"], json!({"v_proj": 16}));
    // Gone on from, the patterns of the folder hold.
    let more = ["--init-adapter", "a", "--batch-size", "2", "--lr", "0.01", "--epochs", "1"];
    direct(&home, "rows.jsonl", "b", &more).expect(0);
    assert_eq!(self::config(&home, "b")["rank_pattern"], config["rank_pattern"]);
    let refused = direct(&home, "rows.jsonl", "c", &["--init-adapter", "a", "--dora"]).expect(2);
    assert!(refused.stderr.contains("--dora differs"), "{}", refused.stderr);

    direct(&home, "rows.jsonl", "d", &["--targets", r".*\.1\..*(q|v)_proj", "--epochs", "1"]).expect(0);
    let names = ["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"];
    assert_eq!(self::config(&home, "d")["target_modules"], json!(names));
}

#[test]
fn every_variant_learns_and_is_another_adapter() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let variants: [&[&str]; 6] = [
        &[],
        &["--rslora"],
        &["--dora"],
        &["--loraplus-lr-ratio", "4"],
        &["--dropout", "0.2"],
        &["--neftune-noise-alpha", "5"],
    ];
    let mut seen = Vec::new();
    for (number, variant) in variants.into_iter().enumerate() {
        let out = format!("out{number}");
        let config = trained(&home, &out, variant);
        let folder = home.path().join(&out);
        let losses = losses(&folder);
        assert!(losses[losses.len() - 1] < 0.8 * losses[0], "{variant:?}: {losses:?}");
        assert_eq!(config["use_rslora"], variant.contains(&"--rslora"), "{variant:?}");
        assert_eq!(config["use_dora"], variant.contains(&"--dora"), "{variant:?}");
        let digest = digest(&folder);
        assert!(!seen.contains(&digest), "{variant:?} changes nothing");
        seen.push(digest);
        // Noise and dropout follow from the seed: the same bytes once more, and another seed's others.
        if number >= 4 {
            trained(&home, "again", variant);
            assert_eq!(self::digest(&home.path().join("again")), seen[number]);
        }
    }
    let metrics: Value = serde_json::from_str(&home.read("out5/training_config.json")).unwrap();
    assert_eq!(metrics["variant"]["neftune_noise_alpha"], 5.0);
    let report = train(&home, &["inspect", "out2", "--base", base().to_str().unwrap(), "--json"]).expect(0);
    assert_eq!(report.json()["dora"], true);
    let nll = |adapter: &str| {
        let base = base();
        let run =
            ["evaluate", "--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--json", "--adapter"];
        train(&home, &[&run[..], &[adapter]].concat()).expect(0).json()["mean_nll"].as_f64().unwrap()
    };
    let (dora, plain) = (nll("out2"), nll("out0"));
    assert!((dora - plain).abs() > 1e-6 && dora < 2.0 * plain, "{dora} {plain}");
}

#[test]
fn neither_threads_nor_passes_decide_what_dropout_and_noise_draw() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let base = base();
    let common = "--rank 4 --targets all-linear --lr 0.01 --epochs 3 --dropout 0.3 --neftune-noise-alpha 5";
    let cuts = [
        "--threads 1 --batch-size 4 --accumulation 1",
        "--threads 2 --batch-size 4 --accumulation 1",
        "--threads 1 --batch-size 1 --accumulation 4",
        "--threads 2 --batch-size 2 --accumulation 2 --packing --pack-len 90",
    ];
    let mut runs = Vec::new();
    for cut in cuts {
        let mut flags =
            vec!["--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--out", "out", "--fresh"];
        flags.extend(common.split(' ').chain(cut.split(' ')));
        train(&home, &flags).expect(0);
        runs.push(losses(&home.path().join("out")));
    }
    let mut plain = vec!["--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--out", "plain"];
    plain.extend(common.split(' ').take(6).chain(cuts[0].split(' ')));
    train(&home, &plain).expect(0);
    let plain = losses(&home.path().join("plain"));
    assert!((plain[0] - runs[0][0]).abs() > 1e-3, "noise and dropout show: {plain:?} {:?}", runs[0]);
    for (cut, run) in cuts.iter().zip(&runs) {
        assert_eq!(run.len(), 6, "{cut}");
        for (step, (a, b)) in runs[0].iter().zip(run).enumerate() {
            // The same draws; only sums of f32 come in another order, and grow with the steps.
            assert!((a - b).abs() <= 1e-6 * 5.0_f64.powi(step as i32) * a, "{cut}, step {step}: {a} {b}");
        }
    }
}

#[test]
fn gradient_checkpointing_gives_the_same_bytes() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let dora = ["--dora", "--dropout", "0.1", "--neftune-noise-alpha", "5"];
    trained(&home, "plain", &dora);
    trained(&home, "checkpointed", &[&dora[..], &["--gradient-checkpointing"]].concat());
    assert_eq!(digest(&home.path().join("plain")), digest(&home.path().join("checkpointed")));
}

#[test]
fn what_fits_no_module_is_refused_before_anything_is_written() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    for (flags, parts) in [
        (&["--targets", "q_porj"][..], &["q_porj", "did you mean `q_proj`?"][..]),
        (&["--targets", "q_proj", "--rank-pattern", "down_proj=4"], &["rank pattern `down_proj`"]),
        (&["--targets", "layers.9.mlp.up_proj"], &["layers.9.mlp.up_proj", "2 layers"]),
        (&["--rank", "64"], &["rank 64 on `model.layers.0.self_attn.q_proj`", "96 x 32: at most 32"]),
        (&["--dropout", "1.5"], &["train.dropout"]),
        (&["--targets", "(q_proj"], &["not a pattern"]),
    ] {
        let ran = direct(&home, "rows.jsonl", "out", flags).expect(2);
        for part in parts {
            assert!(ran.stderr.contains(part), "{flags:?}: `{part}` in {}", ran.stderr);
        }
        assert!(!home.path().join("out").exists(), "{flags:?}");
    }
}

#[test]
fn a_killed_dora_run_with_dropout_ends_with_the_same_bytes() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let more = ["--dora", "--dropout", "0.1", "--loraplus-lr-ratio", "4", "--checkpoint-steps", "1"];
    trained(&home, "whole", &more);
    direct(&home, "rows.jsonl", "half", &[&quick("4")[..], &more, &["--max-steps", "3"]].concat()).expect(0);
    let (whole, half) = (losses(&home.path().join("whole")), losses(&home.path().join("half")));
    assert_eq!(whole[..3], half);
    let mut home = home;
    let flags = [&quick("4")[..], &more].concat();
    home.set("NIGHTSHIFT_CRASH_AT", "train.checkpointed:3");
    direct(&home, "rows.jsonl", "killed", &flags).expect(128 + 9);
    home.unset("NIGHTSHIFT_CRASH_AT");
    let report = direct(&home, "rows.jsonl", "killed", &flags).expect(0).json();
    assert_eq!(report["resumed_from_step"], 3);
    assert_eq!(digest(&home.path().join("killed")), digest(&home.path().join("whole")));
}
