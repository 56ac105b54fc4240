//! Training on a base held as NF4 or bf16, and quantised folders.

use nightshift_core::files;
use serde_json::{Value, json};

use crate::world::{base, digest, direct, home, home_with_rows, lines, losses, quick, train};

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    quick("8").into_iter().chain(more.iter().copied()).collect()
}

fn nll(home: &nightshift_testkit::Home, more: &[&str]) -> f64 {
    let base = base();
    let mut arguments = vec!["evaluate", "--data", "rows.jsonl", "--json", "--threads", "1"];
    if !more.contains(&"--base") {
        arguments.extend(["--base", base.to_str().unwrap()]);
    }
    arguments.extend(more);
    train(home, &arguments).expect(0).json()["mean_nll"].as_f64().unwrap()
}

#[test]
fn an_adapter_trained_on_nf4_works_on_the_unquantised_base() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 6));
    direct(&home, "rows.jsonl", "plain", &with(&[])).expect(0);
    for (out, flags) in [("four", vec!["--quantize", "nf4"]), ("half", vec!["--dtype", "bf16"])] {
        direct(&home, "rows.jsonl", out, &with(&flags)).expect(0);
        let (before, after) = (nll(&home, &[]), nll(&home, &["--adapter", out]));
        assert!(after < 0.7 * before, "{out}: {before} -> {after}");
        let held = nll(&home, &[&["--adapter", out], flags.as_slice()].concat());
        assert!((held - after).abs() < 0.3 * after, "{out}: {held} {after}");
        let config: Value = serde_json::from_str(&home.read(&format!("{out}/training_config.json"))).unwrap();
        let metrics: Value =
            serde_json::from_str(&home.read(&format!("{out}/training_metrics.json"))).unwrap();
        let (kind, dtype) = if out == "four" { ("nf4", "f32") } else { ("none", "bf16") };
        assert_eq!((&config["quantize"], &config["dtype"]), (&json!(kind), &json!(dtype)));
        let linear = if out == "four" { "nf4" } else { "bf16" };
        assert_eq!(metrics["base_held"]["linear"], linear);
        let peft = home.read(&format!("{out}/adapter_config.json"));
        assert!(!peft.contains("nf4") && !peft.contains("quant"), "no trace of it: {peft}");
    }
    let (plain, four) = (losses(&home.path().join("plain")), losses(&home.path().join("four")));
    assert_ne!(plain[0], four[0]);
    // The fixture's files are bf16: held as such they lose nothing; the activations are rounded.
    let half = losses(&home.path().join("half"));
    assert!(plain.iter().zip(&half).all(|(a, b)| (a - b).abs() < 1e-2 * a), "{plain:?} {half:?}");
}

#[test]
fn a_quantised_folder_trains_as_quantising_while_loading_does() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 6));
    let base = base();
    let report = train(&home, &["quantize", "--base", base.to_str().unwrap(), "--out", "small", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        (&report["base_held"]["linear"], &report["base_held"]["embedding"]),
        (&json!("nf4"), &json!("bf16"))
    );
    let config: Value = serde_json::from_str(&home.read("small/config.json")).unwrap();
    assert_eq!(config["quantization_config"]["quant_method"], "bitsandbytes");
    for name in ["tokenizer.json", "chat_template.jinja"] {
        assert_eq!(
            files::read(&base.join(name)).unwrap(),
            files::read(&home.path().join("small").join(name)).unwrap()
        );
    }
    direct(&home, "rows.jsonl", "a", &with(&["--quantize", "nf4", "--dtype", "bf16"])).expect(0);
    let mut arguments = vec!["--base", "small", "--data", "rows.jsonl", "--out", "b", "--threads", "1"];
    arguments.extend(with(&["--dtype", "bf16"]));
    train(&home, &arguments).expect(0);
    assert_eq!(losses(&home.path().join("a")), losses(&home.path().join("b")));
    assert_eq!(nll(&home, &["--base", "small"]), nll(&home, &["--quantize", "nf4"]));
    // Its adapters go to the base that the folder was made from, which alone can take them in.
    let refused = train(&home, &["merge", "--base", "small", "--adapter", "b", "--out", "m"]).expect(4);
    assert!(refused.stderr.contains("is quantised"), "{}", refused.stderr);
    let merged = train(&home, &["merge", "--adapter", "b", "--out", "m", "--dtype", "f32", "--json"]);
    let merged = merged.expect(0).json();
    assert!(merged["check"]["max_abs_logit_difference"].as_f64().unwrap() <= 1e-4, "{merged}");
    assert!(merged["warnings"].to_string().contains("held as NF4"), "{merged}");
    // Not into a folder that holds something, and not twice.
    let again = train(&home, &["quantize", "--base", base.to_str().unwrap(), "--out", "small"]).expect(2);
    assert!(again.stderr.contains("not empty"), "{}", again.stderr);
    let twice = train(&home, &["quantize", "--base", "small", "--out", "smaller"]).expect(4);
    assert!(twice.stderr.contains("quantised already"), "{}", twice.stderr);
}

#[test]
fn an_adapter_trained_on_nf4_is_merged_and_exported_with_the_unquantised_base() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 6));
    direct(&home, "rows.jsonl", "four", &with(&["--quantize", "nf4", "--dora"])).expect(0);
    direct(&home, "rows.jsonl", "plain", &with(&["--quantize", "nf4"])).expect(0);
    for adapter in ["four", "plain"] {
        let out = format!("merged-{adapter}");
        let report =
            train(&home, &["merge", "--adapter", adapter, "--out", &out, "--dtype", "f32", "--json"]);
        let report = report.expect(0).json();
        assert!(report["check"]["max_abs_logit_difference"].as_f64().unwrap() <= 1e-4, "{report}");
        assert!(report["warnings"].to_string().contains("held as NF4"), "{report}");
        let (apart, together) = (nll(&home, &["--adapter", adapter]), nll(&home, &["--base", &out]));
        assert!((apart - together).abs() < 1e-5, "{adapter}: {apart} {together}");
        assert!(together < 0.7 * nll(&home, &[]), "{adapter}: it learned what it is for");
    }
    let report =
        train(&home, &["export", "--adapter", "plain", "--out", "a.gguf", "--json"]).expect(0).json();
    assert!(report["warnings"].to_string().contains("held as NF4"), "{report}");
    // The file is that of any other adapter: nothing of the quantisation is in it.
    let shown = train(&home, &["inspect", "a.gguf", "--json"]).expect(0).json();
    assert_eq!(
        (&shown["metadata"]["general.type"], shown["tensors"].as_array().unwrap().len()),
        (&json!("adapter"), 28)
    );
    let base = base();
    train(&home, &["quantize", "--base", base.to_str().unwrap(), "--out", "small"]).expect(0);
    let ran = train(&home, &["export", "--base", "small", "--out", "small.gguf"]).expect(4);
    assert!(
        ran.stderr.contains("llama-quantize") && !home.path().join("small.gguf").exists(),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_night_quantises_when_the_config_says_so() {
    let home = home_with_rows(6);
    let plain = home.read("nightshift.yaml");
    home.write("nightshift.yaml", &format!("{plain}  quantize: nf4\n  dtype: bf16\n"));
    let report = train(&home, &["--json"]).expect(0).json();
    assert_eq!(
        (&report["base_held"]["linear"], &report["base_held"]["embedding"]),
        (&json!("nf4"), &json!("bf16"))
    );
    assert_eq!(train(&home, &["--json"]).expect(0).json()["status"], "already_published");
    // Another way to hold the base is another training.
    home.write("nightshift.yaml", &plain);
    let other = train(&home, &["--json"]).expect(0).json();
    assert_ne!(other["adapter_id"], report["adapter_id"]);
    let adapter = home.path().join("loras").join(report["adapter_id"].as_str().unwrap());
    assert_ne!(digest(&adapter), digest(&home.path().join("loras/latest")));
}
