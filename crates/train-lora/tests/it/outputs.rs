//! `merge`, `export`, `inspect`: what leaves this program for others.

use nightshift_core::files;
use serde_json::{Value, json};

use crate::world::{base, direct, home, home_with_rows, lines, other_base, quick, train};

#[test]
fn a_merged_model_answers_as_base_and_adapter_do() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    direct(&home, "rows.jsonl", "tuned", &quick("10")).expect(0);
    let report =
        train(&home, &["merge", "--adapter", "tuned", "--out", "merged", "--dtype", "f32", "--json"])
            .expect(0)
            .json();
    assert!(report["check"]["max_abs_logit_difference"].as_f64().unwrap() <= 1e-4, "{report}");
    assert!(report["check"]["adapter_effect"].as_f64().unwrap() > 1e-2, "{report}");
    assert_eq!((&report["changed"], &report["dtypes"]), (&json!(14), &json!(["F32"])));
    let nll = |arguments: &[&str]| {
        let report =
            train(&home, &[&["evaluate", "--data", "rows.jsonl", "--json"], arguments].concat()).expect(0);
        report.json()["mean_nll"].as_f64().unwrap()
    };
    let (apart, together) = (nll(&["--adapter", "tuned"]), nll(&["--base", "merged"]));
    assert!((apart - together).abs() < 1e-5, "{apart} {together}");
    assert!((apart - nll(&[])).abs() > 0.1, "the adapter does something");
    // As it came in: four shards of bf16; the rounding is told.
    let report = train(&home, &["merge", "--adapter", "tuned", "--out", "same", "--json"]).expect(0).json();
    assert_eq!((&report["dtypes"], &report["files"]), (&json!(["BF16"]), &json!(4)));
    assert!(report["check"]["mean_kl"].as_f64().unwrap() > 0.0);
    assert!(report["check"]["top1_agreement"].as_f64().unwrap() > 0.5);
    for name in
        ["tokenizer.json", "chat_template.jinja", "generation_config.json", "model.safetensors.index.json"]
    {
        assert!(home.path().join("same").join(name).exists(), "{name}");
    }
    let strays = files::list(home.path()).unwrap();
    assert!(strays.iter().all(|path| !path.to_string_lossy().contains(".tmp-")), "{strays:?}");
}

#[test]
fn a_merge_refuses_what_it_should_not_touch() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    direct(&home, "rows.jsonl", "tuned", &quick("1")).expect(0);
    home.write("occupied/notes.txt", "mine");
    let ran = train(&home, &["merge", "--adapter", "tuned", "--out", "occupied"]).expect(2);
    assert!(ran.stderr.contains("occupied is not empty"), "{}", ran.stderr);
    let other = other_base();
    let ran = train(&home, &["merge", "--base", other.to_str().unwrap(), "--adapter", "tuned", "--out", "x"])
        .expect(4);
    assert!(ran.stderr.contains("shape"), "{}", ran.stderr);
    // A base of the same shape and with other weights: the fingerprint tells.
    let twin = crate::world::base_inside(&home);
    let shard = twin.join("model-00001-of-00004.safetensors");
    let mut bytes = files::read(&shard).unwrap();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    files::write_atomic(&shard, &bytes).unwrap();
    let ran = train(&home, &["merge", "--base", "base", "--adapter", "tuned", "--out", "x"]).expect(4);
    assert!(ran.stderr.contains("was trained on the base"), "{}", ran.stderr);
    assert!(!home.path().join("x").exists() && home.path().join("occupied/notes.txt").exists());
    // An empty folder is as good as none.
    files::create_dir(&home.path().join("empty")).unwrap();
    let here = base();
    train(
        &home,
        &["merge", "--base", here.to_str().unwrap(), "--adapter", "tuned", "--out", "empty", "--no-check"],
    )
    .expect(0);
    assert!(home.path().join("empty/config.json").exists());
}

#[test]
fn an_adapter_and_a_model_are_exported_and_shown() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    direct(&home, "rows.jsonl", "tuned", &quick("1")).expect(0);
    let export = ["export", "--format", "gguf", "--adapter", "tuned", "--out", "a.gguf", "--json"];
    let report = train(&home, &export).expect(0).json();
    assert_eq!(
        (&report["kind"], &report["architecture"], &report["tensors"]),
        (&json!("adapter"), &json!("qwen3"), &json!(28))
    );
    assert_eq!((&report["alpha"], &report["folded_modules"]), (&json!(8.0), &json!(0)));
    let ran = train(&home, &export).expect(2);
    assert!(ran.stderr.contains("a.gguf exists"), "{}", ran.stderr);
    let shown = train(&home, &["inspect", "a.gguf", "--json"]).expect(0).json();
    assert_eq!(shown["metadata"]["adapter.lora.alpha"], json!(8.0));
    assert_eq!(shown["tensors"].as_array().unwrap().len(), 28);
    let report = train(&home, &["export", "--out", "base.gguf", "--dtype", "f16", "--json"]).expect(0).json();
    assert_eq!((&report["kind"], &report["vocabulary"]), (&json!("model"), &json!(320)));
    home.write("broken.gguf", "GGUF and nothing more");
    train(&home, &["inspect", "broken.gguf"]).expect(4);
    train(&home, &["export", "--adapter", "tuned", "--dtype", "f16", "--out", "b.gguf"]).expect(2);
    // Forms that llama.cpp does not have.
    for (key, value, why) in [
        ("use_dora", json!(true), "no DoRA"),
        ("modules_to_save", json!(["lm_head"]), "saved modules"),
        ("target_modules", json!(["q_proj", "lm_head"]), "tied head"),
        ("bias", json!("all"), "biases"),
    ] {
        let mut config: Value = serde_json::from_str(&home.read("tuned/adapter_config.json")).unwrap();
        config[key] = value;
        home.write("odd/adapter_config.json", &config.to_string());
        files::copy(
            &home.path().join("tuned/adapter_model.safetensors"),
            &home.path().join("odd/adapter_model.safetensors"),
        )
        .unwrap();
        let ran = train(&home, &["export", "--adapter", "odd", "--out", "odd.gguf"]).expect(4);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("train-lora merge"), "{}", ran.stderr);
        assert!(!home.path().join("odd.gguf").exists());
    }
}

#[test]
fn a_release_says_where_it_comes_from_and_who_takes_it() {
    let home = home_with_rows(6);
    home.write("training_data/harvest_20260228.jsonl", &lines(10, 13));
    train(&home, &["--rank", "24"]).expect(0);
    let report = train(&home, &["inspect", "loras/latest", "--json"]).expect(0).json();
    assert_eq!(report["trained_on"]["nights"], json!({"20260228": 3, "20260301": 6}));
    assert_eq!(report["trained_on"]["examples"]["new"], 6);
    assert_eq!(report["trained_on"]["dataset_sha256"], report["manifest"]["dataset_sha256"]);
    let module = &report["modules"][0];
    let relative = module["norm_update"].as_f64().unwrap() / module["norm_weight"].as_f64().unwrap();
    assert!((module["relative"].as_f64().unwrap() - relative).abs() < 1e-12);
    assert_eq!(report["layers"].as_array().unwrap().len(), 2);
    let squares: f64 = report["modules"].as_array().unwrap()[..7]
        .iter()
        .map(|module| module["norm_update"].as_f64().unwrap().powi(2))
        .sum();
    assert!((report["layers"][0]["norm_update"].as_f64().unwrap() - squares.sqrt()).abs() < 1e-9);
    let how = |server: &str| {
        let list = report["servers"].as_array().unwrap();
        list.iter().find(|verdict| verdict["server"] == server).unwrap()["how"].as_str().unwrap().to_owned()
    };
    assert!(how("vLLM").contains("--max-lora-rank 32"), "{}", how("vLLM"));
    assert!(how("llama.cpp").contains("--lora adapter.gguf"));
    let text = train(&home, &["inspect", "loras/latest"]).expect(0).stdout;
    for part in ["20260301 (6)", "Ollama", "of |W|", "MB", "layer 1 (7 modules)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_form_that_servers_refuse_is_said_before_the_first_step() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 2));
    let report = direct(
        &home,
        "rows.jsonl",
        "out",
        &["--rank", "16", "--targets", "q_proj,k_proj,v_proj,o_proj", "--dora", "--dry-run"],
    )
    .expect(0)
    .json();
    assert!(report["warnings"][0].as_str().unwrap().contains("vLLM will not take this adapter"), "{report}");
    // 16 x (inputs + outputs) and the magnitudes of the outputs, 4 bytes each, on q, k, v, o of two layers, and
    // the headers.
    let widths = (32 + 96) + (32 + 48) + (32 + 48) + (96 + 32);
    let numbers = 4 * (16 * widths + 96 + 48 + 48 + 32) * 2;
    let size = report["adapter_bytes"].as_u64().unwrap();
    assert!(size > numbers && size < numbers + 24 * 200, "{size} {numbers}");
    let plain = direct(&home, "rows.jsonl", "out", &["--rank", "16", "--epochs", "1"]).expect(0).json();
    assert_eq!(
        plain["warnings"].as_array().unwrap().iter().filter(|w| w.to_string().contains("vLLM")).count(),
        0
    );
    let real = files::read(&home.path().join("out/adapter_model.safetensors")).unwrap().len() as f64;
    let planned = plain["adapter_bytes"].as_f64().unwrap();
    assert!((real / planned - 1.0).abs() < 0.05, "{real} {planned}");
}
