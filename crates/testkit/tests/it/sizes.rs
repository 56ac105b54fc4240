//! Budgets that keep a stranger comfortable.

use std::path::{Path, PathBuf};

use crate::edges::root;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_stay_small() {
    let mut found = Vec::new();
    sources(&root().join("crates"), &mut found);
    assert!(found.len() > 100, "the sources were not found");
    let mut core_lines = 0;
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        let limit = if path.ends_with("src/main.rs") { 20 } else { 600 };
        assert!(lines <= limit, "{} has {lines} lines, {limit} at most", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["utils", "common", "helpers", "manager", "misc"].contains(&name),
            "{} has no job",
            path.display()
        );
        if path.starts_with(root().join("crates/core/src")) {
            core_lines += lines;
        }
        if path.components().any(|part| part.as_os_str() == "src") {
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("//!"), "{} does not say its job", path.display());
        }
    }
    assert!(core_lines <= 7500, "core has {core_lines} lines");
}
