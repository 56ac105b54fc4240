//! `inspect`: what it shows, and that it finds what is wrong.

use nightshift_core::files;
use serde_json::{Value, json};

use crate::world::{base, base_inside, direct, home, home_with_rows, lines, quick, train};

#[test]
fn a_release_is_shown_with_its_facts() {
    let home = home_with_rows(6);
    let id = train(&home, &["--json"]).expect(0).json()["adapter_id"].as_str().unwrap().to_owned();
    let report = train(&home, &["inspect", &id, "--json"]).expect(0).json();
    assert_eq!((&report["status"], &report["valid"]), (&json!("valid"), &json!(true)));
    assert_eq!(
        (&report["rank"], &report["alpha"], &report["modules"].as_array().unwrap().len()),
        (&json!(4), &json!(8.0), &14)
    );
    assert_eq!(report["manifest"]["adapter_id"], id);
    assert!(report["modules"][0]["norm_update"].as_f64().unwrap() > 0.0);
    assert_eq!(report["training"]["training_examples"], 6);
    assert_eq!(report["digest"], report["manifest"]["digest"]);
}

#[test]
fn what_is_wrong_is_exit_4_with_file_and_key() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    direct(&home, "rows.jsonl", "out", &quick("1")).expect(0);
    train(&home, &["inspect", "out"]).expect(0);
    let path = home.path().join("out/adapter_config.json");
    let good = files::read_text(&path).unwrap();
    let mut config: Value = serde_json::from_str(&good).unwrap();
    config.as_object_mut().unwrap().remove("use_rslora");
    files::write_atomic(&path, config.to_string().as_bytes()).unwrap();
    let ran = train(&home, &["inspect", "out", "--json"]).expect(4);
    assert!(ran.json()["problems"][0].as_str().unwrap().contains("use_rslora"), "{}", ran.stdout);
    files::write_atomic(&path, good.as_bytes()).unwrap();
    let tensors = home.path().join("out/adapter_model.safetensors");
    let bytes = files::read(&tensors).unwrap();
    files::write_atomic(&tensors, &bytes[..bytes.len() - 8]).unwrap();
    let ran = train(&home, &["inspect", "out"]).expect(4);
    assert!(ran.stdout.contains("adapter_model.safetensors"), "{}", ran.stdout);
    train(&home, &["inspect", "nowhere"]).expect(4);
}

#[test]
fn without_a_base_the_shapes_are_taken_from_the_adapter() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    direct(&home, "rows.jsonl", "out", &quick("1")).expect(0);
    home.write("nightshift.yaml", "{}\n");
    let path = home.path().join("out/adapter_config.json");
    let moved = files::read_text(&path).unwrap().replace(base().to_str().unwrap(), "somebody/elses-model");
    files::write_atomic(&path, moved.as_bytes()).unwrap();
    let report = train(&home, &["inspect", "out", "--json"]).expect(0).json();
    assert!(report["checked_against"].is_null());
    assert_eq!(
        (&report["base"], report["modules"].as_array().unwrap().len()),
        (&json!("somebody/elses-model"), 14)
    );
}

#[test]
fn a_release_is_not_measured_on_another_base_of_the_same_shape() {
    let home = home_with_rows(6);
    let inside = base_inside(&home);
    home.write("rows.jsonl", &lines(0, 4));
    train(&home, &[]).expect(0);
    let evaluate = ["evaluate", "--adapter", "loras/latest", "--data", "rows.jsonl"];
    train(&home, &evaluate).expect(0);
    let shard = inside.join("model-00004-of-00004.safetensors");
    let mut bytes = files::read(&shard).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    files::write_atomic(&shard, &bytes).unwrap();
    let ran = train(&home, &evaluate).expect(4);
    assert!(ran.stderr.contains("was trained on the base"), "{}", ran.stderr);
}
