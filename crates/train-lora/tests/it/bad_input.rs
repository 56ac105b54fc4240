//! Files that must not be misread, or not even opened. (Bad rows are in `data` and `direct`, checkpoints in
//! `killed` and `resume`, settings in `variant` and `direct`.)

use std::process::Command;

use nightshift_core::files;
use nightshift_testkit::Home;

use crate::world::{base, base_inside, direct, home, lines, quick, train};

const TRAIN: [&str; 8] = ["--base", "base", "--data", "rows.jsonl", "--out", "out", "--epochs", "1"];

/// A pipe under the name of a pickle: whoever opens it waits for ever.
fn pipe(home: &Home, name: &str) {
    let made = Command::new("mkfifo").arg(home.path().join(name)).status().unwrap();
    assert!(made.success());
}

#[test]
fn fp4_checkpoints_are_refused_and_never_misread() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    let source = base();
    train(&home, &["quantize", "--base", source.to_str().unwrap(), "--out", "base"]).expect(0);
    train(&home, &TRAIN).expect(0);
    let config = home.read("base/config.json");
    // Said in the config, and said by nothing but the names of the tensors.
    home.write("base/config.json", &config.replace("\"nf4\"", "\"fp4\""));
    let ran = train(&home, &[&TRAIN[..], &["--fresh"]].concat()).expect(4);
    assert!(ran.stderr.contains("FP4"), "{}", ran.stderr);
    home.write("base/config.json", &config);
    for shard in files::list(&home.path().join("base")).unwrap() {
        if shard.extension().is_some_and(|ending| ending == "safetensors") {
            let bytes = files::read(&shard).unwrap();
            let (from, to) = (b"bitsandbytes__nf4", b"bitsandbytes__fp4");
            let mut changed = bytes.clone();
            for at in 0..bytes.len() - from.len() {
                if &bytes[at..at + from.len()] == from {
                    changed[at..at + to.len()].copy_from_slice(to);
                }
            }
            assert_ne!(changed, bytes);
            files::write_atomic(&shard, &changed).unwrap();
        }
    }
    for command in [&TRAIN[..], &["evaluate", "--base", "base", "--data", "rows.jsonl"]] {
        let ran = train(&home, command).expect(4);
        assert!(ran.stderr.contains("FP4") && ran.stderr.contains("NF4"), "{}", ran.stderr);
    }
}

#[test]
fn pickles_are_named_and_never_opened() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 4));
    let inside = base_inside(&home);
    for path in files::list(&inside).unwrap() {
        if path.to_string_lossy().contains(".safetensors") {
            files::remove_file(&path).unwrap();
        }
    }
    pipe(&home, "base/pytorch_model.bin");
    let ran = train(&home, &TRAIN).expect(4);
    assert!(ran.stderr.contains("pytorch_model.bin") && ran.stderr.contains("pickled"), "{}", ran.stderr);
    // An adapter to go on from, to look at, to measure and to merge.
    let base = base();
    let base = base.to_str().unwrap();
    direct(&home, "rows.jsonl", "tuned", &quick("1")).expect(0);
    files::remove_file(&home.path().join("tuned/adapter_model.safetensors")).unwrap();
    pipe(&home, "tuned/adapter_model.bin");
    let commands: [&[&str]; 4] = [
        &["--base", base, "--data", "rows.jsonl", "--out", "next", "--init-adapter", "tuned"],
        &["inspect", "tuned", "--base", base],
        &["evaluate", "--base", base, "--adapter", "tuned", "--data", "rows.jsonl"],
        &["merge", "--base", base, "--adapter", "tuned", "--out", "merged"],
    ];
    for command in commands {
        let ran = train(&home, command).expect(4);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("adapter_model.bin") && said.contains("pickled"), "{command:?}: {said}");
    }
    assert!(!home.path().join("next").exists() && !home.path().join("merged").exists());
}
