//! Which crate may depend on which (docs/architecture.md, section 1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What each crate may link, testkit (tests only) aside.
fn allowed(name: &str) -> Vec<&'static str> {
    match name {
        "core" | "stats" | "verify" => vec![],
        "net" | "model" | "testkit" => vec!["core"],
        "train-lora" => vec!["core", "stats", "verify", "model"],
        "serve" | "demo" => vec!["core", "stats", "verify", "net", "model"],
        _ => vec!["core", "stats", "verify", "net"],
    }
}

fn manifests() -> BTreeMap<String, DocumentMut> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(path.join("Cargo.toml")).unwrap();
        found.insert(name, text.parse().unwrap());
    }
    found
}

/// Names of our own crates in a table of dependencies.
fn ours(manifest: &DocumentMut, table: &str) -> Vec<String> {
    let entries = manifest.get(table).and_then(|table| table.as_table());
    let names = entries.into_iter().flat_map(|table| table.iter().map(|(name, _)| name.to_owned()));
    names.filter_map(|name| name.strip_prefix("nightshift-").map(str::to_owned)).collect()
}

#[test]
fn no_crate_links_another_against_the_map() {
    let manifests = manifests();
    assert!(manifests.len() >= 15, "the workspace was not found");
    for (name, manifest) in &manifests {
        for dependency in ours(manifest, "dependencies") {
            assert!(allowed(name).contains(&dependency.as_str()), "{name} must not link {dependency}");
        }
        assert!(ours(manifest, "build-dependencies").is_empty(), "{name} must not build with our crates");
        for dependency in ours(manifest, "dev-dependencies") {
            let program =
                !["core", "stats", "verify", "net", "model", "testkit"].contains(&dependency.as_str());
            assert!(!program, "{name}: even a test meets {dependency} by its command line only");
        }
    }
}

#[test]
fn every_crate_follows_the_workspace() {
    for (name, manifest) in manifests() {
        let package = &manifest["package"];
        assert_eq!(package["name"].as_str(), Some(format!("nightshift-{name}").as_str()));
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name} skips the lints");
        for table in ["dependencies", "dev-dependencies"] {
            let Some(entries) = manifest.get(table).and_then(|table| table.as_table()) else { continue };
            for (dependency, value) in entries {
                let inherits = value.get("workspace").and_then(toml_edit::Item::as_bool) == Some(true);
                assert!(inherits, "{name}: the version of {dependency} belongs into the root manifest");
            }
        }
    }
}

#[test]
fn only_the_owners_of_a_model_or_network_use_candle() {
    for (name, manifest) in manifests() {
        let uses =
            manifest["dependencies"].as_table().unwrap().iter().any(|(name, _)| name.starts_with("candle"));
        assert!(
            !uses || ["model", "train-lora", "serve", "demo", "synergy-weights"].contains(&name.as_str()),
            "{name} uses candle"
        );
    }
}
