//! The command lines of the documents, one by one, and the deployment files.

use std::path::{Path, PathBuf};

use nightshift_testkit::Home;
use serde_json::{Value, json};

use crate::rows::telling;

const PROGRAM: &str = "synergy-weights";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A home as the documents describe it: weights by hand, history recorded by another program as JSON.
fn home() -> Home {
    let home = Home::new();
    home.write(
        "synergy_weights.json",
        r#"{"roi": 1.2, "efficiency": 0.8, "resilience": 1.0,
 "antifragility": 1.0, "reliability": 1.0,
 "maintainability": 1.0, "throughput": 1.0}"#,
    );
    home.write("sandbox_data/synergy_history.json", &json!(telling(60, 0)).to_string());
    home
}

#[test]
fn customising_the_weights_step_by_step() {
    let home = home();
    let words = |line: &str| home.run(PROGRAM, &line.split(' ').collect::<Vec<_>>());
    let shown = words("--path synergy_weights.json show").expect(0);
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).unwrap()["roi"], json!(1.2));
    words("--path synergy_weights.json export --out weights.json").expect(0);
    words("--path synergy_weights.json import weights.json").expect(0);
    words("--path synergy_weights.json train sandbox_data/synergy_history.db").expect(0);
    let trained: Value = serde_json::from_str(&home.read("synergy_weights.json")).unwrap();
    assert!(trained["efficiency"].as_f64() > Some(0.8), "{trained}");
    words("--path synergy_weights.json reset").expect(0);
    let drawn = words("history --log sandbox_data/synergy_weights.log --plot").expect(0);
    assert!(
        drawn.stdout.contains("efficiency") && home.path().join("sandbox_data/synergy_weights.svg").exists()
    );
}

#[test]
fn the_standalone_trainer() {
    let mut home = home();
    let line = "auto-train --history-file sandbox_data/synergy_history.db --weights-file sandbox_data/synergy_weights.json --run-once";
    let words: Vec<&str> = line.split(' ').collect();
    home.set("SYNERGY_WEIGHTS_LR", "0.05");
    home.run(PROGRAM, &words).expect(0);
    assert_eq!(home.read("sandbox_data/last_ts.json"), "{\"last_id\": 60}");
    assert!(home.path().join("sandbox_data/synergy_history.db").exists(), "the JSON was taken over");
    home.run(PROGRAM, &words).expect(3);
}

/// Command lines in the compose file: the services and what they start.
fn services() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(root().join("docker-compose.synergy.yml")).unwrap();
    let file: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let services = file["services"].as_mapping().unwrap();
    let command = |value: &serde_yaml::Value| {
        let words = value["command"].as_sequence().unwrap();
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    services.iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), command(value))).collect()
}

/// What the units start.
fn units() -> Vec<(String, Vec<String>)> {
    let unit = |name: &str| {
        let text = std::fs::read_to_string(root().join("deploy").join(name)).unwrap();
        let mut section = "";
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(name) => section = name,
                None => assert!(!section.is_empty() && line.contains('='), "{name}:{}: {line}", number + 1),
            }
        }
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = start.split(' ').map(str::to_owned);
        assert!(words.next().unwrap().ends_with("/synergy-weights"), "{start}");
        (name.to_owned(), words.collect())
    };
    ["synergy-exporter.service", "synergy-trainer.service"].map(unit).into()
}

#[test]
fn deployment_files_start_what_there_is() {
    let (services, units) = (services(), units());
    let names: Vec<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["synergy_exporter", "synergy_trainer"]);
    let home = home();
    for (name, words) in services.iter().chain(&units) {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--dry-run", "--json"]).collect();
        assert_eq!(home.run(PROGRAM, &words).expect(0).json()["status"], json!("planned"), "{name}");
    }
    let compose = std::fs::read_to_string(root().join("docker-compose.synergy.yml")).unwrap();
    let dockerfile = compose.lines().find_map(|line| line.trim().strip_prefix("dockerfile: ")).unwrap();
    assert!(root().join(dockerfile).is_file(), "{dockerfile}");
}
