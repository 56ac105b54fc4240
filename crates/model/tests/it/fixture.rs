//! Where the committed fixtures are, and throw-away copies of them to damage.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// `fixtures/model/<name>`.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model").join(name)
}

/// The parsed JSON of a fixture file.
pub(crate) fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder(name)).unwrap()).unwrap()
}

/// A copy of a fixture folder (its files, not its sub-folders).
pub(crate) fn copy_of(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            put(copy.path(), entry.file_name().to_str().unwrap(), &std::fs::read(entry.path()).unwrap());
        }
    }
    copy
}

/// Writes a file into a throw-away folder.
pub(crate) fn put(dir: &Path, name: &str, bytes: &[u8]) {
    nightshift_core::files::write_atomic(&dir.join(name), bytes).unwrap();
}

/// Changes a JSON file of a throw-away folder.
pub(crate) fn edit_json(dir: &Path, name: &str, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap();
    edit(&mut value);
    put(dir, name, value.to_string().as_bytes());
}

/// Asserts that an error's message holds every one of `parts`.
#[track_caller]
pub(crate) fn assert_names(error: &nightshift_model::ModelError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` does not name `{part}`");
    }
}
