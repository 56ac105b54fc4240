//! The scripts and manifests of `examples/engines/`: at least they parse, and the page names them all.
//! (Python is compiled, and TRL really run, by `scripts/check-peers`.)

use std::path::{Path, PathBuf};
use std::process::Command;

use nightshift_core::files;

fn engines() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/engines");
    files::list(&folder).unwrap()
}

fn of(ending: &str) -> Vec<PathBuf> {
    engines().into_iter().filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

#[test]
fn shell_scripts_parse_and_stop_at_the_first_error() {
    let scripts = [of("sh"), of("sbatch")].concat();
    assert!(scripts.len() >= 6, "{scripts:?}");
    for script in scripts {
        let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let text = files::read_text(&script).unwrap();
        assert!(text.starts_with("#!/bin/") && text.contains("set -eu"), "{}", script.display());
    }
}

#[test]
fn manifests_are_yaml_with_what_the_contract_asks() {
    let parse = |text: &str| -> serde_json::Value { serde_yaml::from_str(text).unwrap() };
    for path in of("yaml") {
        let value = parse(&files::read_text(&path).unwrap());
        assert!(value["kind"].is_string() && value["metadata"]["name"].is_string(), "{}", path.display());
        if value["kind"] == "Job" {
            assert_eq!(value["spec"]["backoffLimit"], 0, "one attempt: train-lora decides on another");
            assert_eq!(value["spec"]["template"]["spec"]["restartPolicy"], "Never");
        }
    }
    assert!(of("yaml").len() >= 2);
}

#[test]
fn the_page_names_every_example() {
    let page = include_str!("../../../../docs/engines.md");
    for path in [of("sh"), of("py"), of("sbatch")].concat() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let part = ["axolotl_config.py"].contains(&name);
        assert!(part || page.contains(name), "docs/engines.md does not name {name}");
    }
}
