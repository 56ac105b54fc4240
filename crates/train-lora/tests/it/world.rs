//! The tiny model, rows to train it on, and a home around them.

use std::path::{Path, PathBuf};

use nightshift_core::files;
use nightshift_testkit::{Home, Ran};
use serde_json::{Value, json};

/// Settings under which the tiny random model learns something within a few steps.
pub(crate) const QUICK: &str = "train:
  rank: 4
  alpha: 8
  targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
  batch_size: 2
  gradient_accumulation: 2
  learning_rate: 0.01
  num_epochs: 2
  checkpoint_steps: 2
  threads: 1
";

/// A random-weight Qwen3 folder with tokenizer and template.
pub(crate) fn base() -> PathBuf {
    fixture("qwen3")
}

/// Another base, of another shape.
pub(crate) fn other_base() -> PathBuf {
    fixture("llama3")
}

fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model").join(name);
    files::read(&path.join("config.json")).expect("the fixture is there");
    std::path::absolute(path).unwrap()
}

/// A home that trains on the tiny model with [`QUICK`].
pub(crate) fn home() -> Home {
    let home = Home::new();
    home.write("nightshift.yaml", &format!("base: {}\n{QUICK}", base().display()));
    home
}

/// Copies the tiny model into the home, as `base/`.
pub(crate) fn base_inside(home: &Home) -> PathBuf {
    let inside = home.path().join("base");
    files::create_dir(&inside).unwrap();
    for file in files::list(&base()).unwrap().into_iter().filter(|path| path.is_file()) {
        files::copy(&file, &inside.join(file.file_name().unwrap())).unwrap();
    }
    home.write("nightshift.yaml", &format!("base: base\n{QUICK}"));
    inside
}

/// Runs the program.
#[track_caller]
pub(crate) fn train(home: &Home, arguments: &[&str]) -> Ran {
    home.run("train-lora", arguments)
}

/// A harvested row.
pub(crate) fn row(id: &str, question: &str, answer: &str) -> Value {
    json!({
        "instruction": question, "input": "", "output": answer, "reasoning": "two members agree",
        "quality_score": 0.8, "harvest_timestamp": 1772416800.0, "id": id, "interaction_id": format!("i-{id}"),
        "tier": "majority", "legacy_score": 0.7, "split": "train",
    })
}

/// The rows `from`..`to` as JSON lines; each has its own question.
pub(crate) fn lines(from: usize, to: usize) -> String {
    let rivers = ["Vesk", "Norl", "Aldo", "Brin", "Cosk", "Delt"];
    let line = |n: usize| {
        let answer = format!("The river is {}.", rivers[n % rivers.len()]);
        row(&format!("r{n}"), &format!("What is the river of city {n}?"), &answer).to_string()
    };
    (from..to).flat_map(|n| [line(n), "\n".to_owned()]).collect()
}

/// A home with one harvest of `count` rows.
pub(crate) fn home_with_rows(count: usize) -> Home {
    let home = home();
    home.write("training_data/harvest_20260301.jsonl", &lines(0, count));
    home
}

/// Digest of the newest release's tensors and config.
pub(crate) fn latest(home: &Home) -> String {
    digest(&home.path().join("loras/latest"))
}

/// Digest of an adapter folder's tensors and config.
#[track_caller]
pub(crate) fn digest(folder: &Path) -> String {
    nightshift_core::release::digest_dir(folder).unwrap()
}

/// Losses of the steps in a folder's `training_metrics.json`.
pub(crate) fn losses(folder: &Path) -> Vec<f64> {
    steps(folder).iter().map(|step| step["loss"].as_f64().unwrap()).collect()
}

/// The steps in a folder's `training_metrics.json`.
#[track_caller]
pub(crate) fn steps(folder: &Path) -> Vec<Value> {
    let text = files::read_text(&folder.join("training_metrics.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["steps"].as_array().unwrap().clone()
}

/// The direct form on `data` into `out` (both below the home), with further arguments.
pub(crate) fn direct(home: &Home, data: &str, out: &str, more: &[&str]) -> Ran {
    let base = base();
    let mut arguments = vec!["--base", base.to_str().unwrap(), "--data", data, "--out", out, "--json"];
    if !more.contains(&"--threads") {
        arguments.extend(["--threads", "1"]);
    }
    arguments.extend(more);
    train(home, &arguments)
}

/// Settings of [`QUICK`] as flags, with so many epochs.
pub(crate) fn quick(epochs: &str) -> Vec<&str> {
    let flags = "--rank 4 --alpha 8 --targets all-linear --batch-size 2 --accumulation 2 --lr 0.01 --epochs";
    flags.split(' ').chain([epochs]).collect()
}
