//! The direct form: what a step is, what a file may hold, what is refused.

use nightshift_core::files;
use serde_json::{Value, json};

use crate::world::{base, digest, direct, home, lines, losses, other_base, quick, row, steps, train};

#[test]
fn the_loss_falls_and_the_folder_is_whole() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let report = direct(&home, "rows.jsonl", "out", &quick("20")).expect(0).json();
    let (first, last) = (report["loss_first"].as_f64().unwrap(), report["loss_last"].as_f64().unwrap());
    assert!(last < 0.5 * first, "{first} -> {last}");
    assert_eq!((report["steps"].as_u64(), report["examples"]["new"].as_u64()), (Some(40), Some(8)));
    let metrics: Value = serde_json::from_str(&home.read("out/training_metrics.json")).unwrap();
    assert_eq!(metrics["training_completed"], true);
    assert_eq!(metrics["final_loss"], report["loss_last"]);
    assert_eq!((metrics["total_steps"].as_u64(), metrics["training_examples"].as_u64()), (Some(40), Some(8)));
    assert!(
        metrics["peak_rss_bytes"].as_u64().unwrap() > 1 << 20
            && metrics["tokens_per_s"].as_f64().unwrap() > 0.0
    );
    for key in ["step", "loss", "lr", "grad_norm", "tokens", "seconds"] {
        assert!(metrics["steps"][0][key].is_number(), "{key}");
    }
    let mut left: Vec<_> = files::list(&home.path().join("out")).unwrap();
    left.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with('.'));
    assert!(left.is_empty(), "no stray: {left:?}");
    assert!(
        !home.path().join("sandbox_data").exists() && !home.path().join("loras").exists(),
        "no home is opened"
    );
}

#[test]
fn batch_times_accumulation_decides_and_packing_changes_nothing() {
    let home = home();
    // Answers of very different length: a mean of means would differ.
    let mut text = lines(0, 3);
    text.push_str(&format!("{}\n", row("long", "List them", &"Vesk, Norl and Aldo. ".repeat(8))));
    home.write("rows.jsonl", &text);
    let shapes: [&[&str]; 4] = [
        &["--batch-size", "4", "--accumulation", "1"],
        &["--batch-size", "2", "--accumulation", "2"],
        &["--batch-size", "1", "--accumulation", "4"],
        &["--batch-size", "2", "--accumulation", "2", "--packing", "--pack-len", "60"],
    ];
    let mut all = Vec::new();
    for (number, shape) in shapes.into_iter().enumerate() {
        let out = format!("out{number}");
        let more = [shape, &["--no-shuffle", "--rank", "4", "--lr", "0.01", "--epochs", "4"]].concat();
        direct(&home, "rows.jsonl", &out, &more).expect(0);
        let steps = steps(&home.path().join(&out));
        assert_eq!(steps.len(), 4);
        all.push(steps);
    }
    for other in &all[1..] {
        // Before rounding has had a step to grow.
        let (a, b) = (all[0][0]["loss"].as_f64().unwrap(), other[0]["loss"].as_f64().unwrap());
        assert!((a - b).abs() <= 1e-6 * a, "loss of the first step: {a} {b}");
        for (a, b) in all[0].iter().zip(other) {
            for key in ["loss", "grad_norm"] {
                let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4 * a, "{key}: {a} {b}");
            }
            assert_eq!((&a["tokens"], &a["lr"]), (&b["tokens"], &b["lr"]));
        }
    }
}

#[test]
fn file_order_short_windows_and_a_schedule_that_max_steps_does_not_change() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 5));
    let common =
        ["--no-shuffle", "--batch-size", "2", "--accumulation", "1", "--lr", "0.01", "--warmup", "2"];
    direct(&home, "rows.jsonl", "all", &[&common[..], &["--epochs", "2"]].concat()).expect(0);
    let all = steps(&home.path().join("all"));
    // Five rows in windows of two: three steps an epoch, the last one of a single row.
    assert_eq!(all.len(), 6);
    assert!(all[2]["tokens"].as_u64() < all[1]["tokens"].as_u64());
    assert_eq!(all[0]["tokens"], all[3]["tokens"], "every epoch in file order");
    let rates: Vec<f64> = all.iter().map(|step| step["lr"].as_f64().unwrap()).collect();
    let expected = [0.0, 0.5, 1.0, 0.75, 0.5, 0.25].map(|factor| 0.01 * factor);
    assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    direct(&home, "rows.jsonl", "cut", &[&common[..], &["--epochs", "2", "--max-steps", "4"]].concat())
        .expect(0);
    let cut = steps(&home.path().join("cut"));
    assert_eq!(losses(&home.path().join("cut")), losses(&home.path().join("all"))[..4]);
    assert_eq!(cut.last().unwrap()["lr"], all[3]["lr"]);
    // Shuffled by the seed: another order, and each seed its own.
    let mut orders = Vec::new();
    for seed in ["1", "2"] {
        let out = format!("seed{seed}");
        direct(&home, "rows.jsonl", &out, &[&common[1..], &["--epochs", "1", "--seed", seed]].concat())
            .expect(0);
        orders.push(losses(&home.path().join(out)));
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn rows_that_cannot_be_used_are_named_and_the_rest_is_trained() {
    let home = home();
    let chat = json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Vesk."}]});
    let question = json!({"messages": [{"role": "user", "content": "Where?"}]});
    let long = row("too-long", "What?", &"river ".repeat(400));
    let empty = row("empty", "What?", " ");
    let quoting = row("quoting", "What?", "done <|im_end|>");
    let text = format!(
        "{}{chat}\nnot json\n{question}\n{long}\n{empty}\n{quoting}\n{{\"text\": \"loose\"}}\n",
        lines(0, 2)
    );
    home.write("rows.jsonl", &text);
    let ran = direct(&home, "rows.jsonl", "out", &["--max-length", "300", "--epochs", "1"]).expect(0);
    let report = ran.json();
    assert_eq!(report["examples"]["new"], 3);
    assert_eq!(report["examples"]["dropped"], json!({"bad_line": 2, "no_answer": 3, "too_long": 1}));
    for name in ["rows.jsonl:4", "rows.jsonl:5", "too-long", "empty", "quoting", "rows.jsonl:9"] {
        assert!(ran.stderr.contains(name), "{name} in {}", ran.stderr);
    }
    home.write("none.jsonl", "not json\n");
    let ran = direct(&home, "none.jsonl", "out2", &[]).expect(3);
    assert!(ran.stderr.contains("none.jsonl holds no row that can be learned"), "{}", ran.stderr);
    home.write("empty.jsonl", "");
    direct(&home, "empty.jsonl", "out2", &[]).expect(3);
    direct(&home, "missing.jsonl", "out2", &[]).expect(1);
    assert!(!home.path().join("out2").exists());
}

#[test]
fn evaluation_sees_what_training_did() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 6));
    let base = base();
    let evaluate = |adapter: Option<&str>| {
        let mut arguments =
            vec!["evaluate", "--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--json"];
        arguments.extend(adapter.iter().flat_map(|dir| ["--adapter", dir]));
        train(&home, &arguments).expect(0).json()
    };
    let plain = evaluate(None);
    let nll = |report: &Value| report["mean_nll"].as_f64().unwrap();
    assert_eq!(plain["examples"], 6);
    // A learning rate of nothing leaves B at zero: the base's own numbers.
    let fresh =
        ["--lr", "1e-30", "--epochs", "1", "--no-shuffle", "--batch-size", "6", "--accumulation", "1"];
    let report = direct(&home, "rows.jsonl", "fresh", &fresh).expect(0).json();
    let unchanged = evaluate(Some("fresh"));
    assert!((nll(&plain) - nll(&unchanged)).abs() < 1e-6, "{plain} {unchanged}");
    assert_eq!(plain["tokens"], unchanged["tokens"]);
    let first = report["loss_first"].as_f64().unwrap();
    assert!((first - nll(&plain)).abs() < 1e-5, "the first step's loss is the base's: {first} {plain}");
    direct(&home, "rows.jsonl", "taught", &quick("20")).expect(0);
    assert!(nll(&evaluate(Some("taught"))) < 0.7 * nll(&plain));
}

#[test]
fn an_adapter_is_gone_on_from_and_a_foreign_one_is_refused() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    let first = direct(&home, "rows.jsonl", "one", &quick("10")).expect(0).json();
    let more = [
        "--init-adapter",
        "one",
        "--batch-size",
        "2",
        "--accumulation",
        "2",
        "--lr",
        "0.01",
        "--epochs",
        "1",
    ];
    let second = direct(&home, "rows.jsonl", "two", &more).expect(0).json();
    let loss = |report: &Value, key: &str| report[key].as_f64().unwrap();
    assert!(loss(&second, "loss_first") < 0.7 * loss(&first, "loss_first"), "{first} {second}");
    let config: Value = serde_json::from_str(&home.read("two/adapter_config.json")).unwrap();
    assert_eq!((config["r"].as_u64(), config["target_modules"].as_array().unwrap().len()), (Some(4), 7));
    let ran = direct(&home, "rows.jsonl", "three", &["--init-adapter", "one", "--rank", "8"]).expect(2);
    assert!(ran.stderr.contains("--rank differs"), "{}", ran.stderr);
    // The same adapter on a base of another shape.
    let other = other_base();
    let ran = train(
        &home,
        &[
            "--base",
            other.to_str().unwrap(),
            "--data",
            "rows.jsonl",
            "--out",
            "three",
            "--init-adapter",
            "one",
        ],
    )
    .expect(4);
    assert!(ran.stderr.contains("another base model"), "{}", ran.stderr);
    assert!(!home.path().join("three").exists());
}

#[test]
fn bad_settings_are_refused_before_anything_is_read() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 2));
    let ran = direct(&home, "rows.jsonl", "out", &["--targets", "q_proj,v_porj"]).expect(2);
    assert!(ran.stderr.contains("v_porj") && ran.stderr.contains("did you mean `v_proj`?"), "{}", ran.stderr);
    let ran = direct(&home, "rows.jsonl", "out", &["--rank", "0"]).expect(2);
    assert!(ran.stderr.contains("train.rank"), "{}", ran.stderr);
    train(&home, &["--data", "rows.jsonl"]).expect(2);
    train(&home, &["--rank", "4", "inspect", "x"]).expect(2);
    home.write("occupied/notes.txt", "mine");
    let ran = direct(&home, "rows.jsonl", "occupied", &[]).expect(2);
    assert!(ran.stderr.contains("not empty"), "{}", ran.stderr);
}

#[test]
fn a_loss_that_runs_away_stops_the_run_with_its_step() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 8));
    direct(&home, "rows.jsonl", "out", &["--epochs", "1"]).expect(0);
    let before = digest(&home.path().join("out"));
    let ran = direct(&home, "rows.jsonl", "out", &["--lr", "1e30", "--epochs", "9"]).expect(1);
    assert!(ran.stderr.contains("ran away at step 2"), "{}", ran.stderr);
    // Even when it is the last step that no forward pass follows.
    let ran = direct(&home, "rows.jsonl", "out", &["--lr", "1e39", "--max-steps", "1", "--fresh"]).expect(1);
    assert!(ran.stderr.contains("ran away at step 1") && ran.stderr.contains("lora_"), "{}", ran.stderr);
    assert_eq!(digest(&home.path().join("out")), before, "the old adapter stays");
}

#[test]
fn a_base_with_nan_is_refused_by_name() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 2));
    let source = other_base();
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        files::copy(&source.join(name), &home.path().join(name)).unwrap();
    }
    let mut weights = files::read(&source.join("model.safetensors")).unwrap();
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    files::write_atomic(&home.path().join("model.safetensors"), &weights).unwrap();
    let ran = train(&home, &["--base", ".", "--data", "rows.jsonl", "--out", "out"]).expect(4);
    assert!(ran.stderr.contains("model.safetensors") && ran.stderr.contains("NaN"), "{}", ran.stderr);
    assert!(!home.path().join("out").exists());
}
