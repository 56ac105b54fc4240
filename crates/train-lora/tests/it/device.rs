//! `--device`: what a build or a machine without a GPU says. Runs on a device are unit tests of the crate.

use crate::world::{direct, home, lines, train};

/// A build with the feature looks for the GPU and refuses; one without says how to make one that does.
const REFUSED: i32 = if cfg!(feature = "cuda") { 4 } else { 2 };

#[test]
fn a_gpu_that_cannot_be_used_is_refused_before_anything_is_written() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 6));
    let ran = direct(&home, "rows.jsonl", "out", &["--device", "cuda:99"]).expect(REFUSED);
    assert!(ran.stderr.contains("train.device is `cuda:99`"), "{}", ran.stderr);
    let remedy = if cfg!(feature = "cuda") { "nvidia-smi" } else { "--features cuda" };
    assert!(ran.stderr.contains(remedy), "{}", ran.stderr);
    assert!(!home.path().join("out").exists());
    let base = crate::world::base();
    let arguments =
        ["evaluate", "--base", base.to_str().unwrap(), "--data", "rows.jsonl", "--device", "cuda:99"];
    train(&home, &arguments).expect(REFUSED);
    // From the file, for the nightly form.
    let settings = home.read("nightshift.yaml");
    home.write("nightshift.yaml", &format!("{settings}  device: cuda:99\n"));
    home.write("training_data/harvest_20260301.jsonl", &lines(0, 6));
    train(&home, &[]).expect(REFUSED);
    train(&home, &["--device", "cpu"]).expect(0);
}

#[test]
fn names_and_settings_that_do_not_fit_are_refused_by_name() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 6));
    let ran = direct(&home, "rows.jsonl", "out", &["--device", "gpu"]).expect(2);
    assert!(ran.stderr.contains("train.device is `gpu`: write cpu, cuda, or cuda:N"), "{}", ran.stderr);
    let ran = direct(&home, "rows.jsonl", "out", &["--device", "cpu", "--max-steps", "1"]).expect(0);
    assert!(ran.json()["device"].is_null(), "the processor is not named");
}
