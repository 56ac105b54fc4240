//! Several files as one step.

use nightshift_core::commit::{self, Commit};
use nightshift_core::crash::CrashPoint;
use nightshift_core::files;

#[test]
fn a_torn_line_is_completed_and_a_whole_one_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (log, intent) = (dir.path().join("log"), dir.path().join("intent"));
    files::append_line(&log, "first").unwrap();
    let text = "second\\nthird\\n";
    for torn in ["", "sec", "second\n", "second\nthird\n"] {
        files::write_atomic(&log, format!("first\n{torn}").as_bytes()).unwrap();
        let step = format!(r#"{{"replace":[],"append":{{"path":{log:?},"from":6,"text":"{text}"}}}}"#);
        files::write_atomic(&intent, step.as_bytes()).unwrap();
        assert!(commit::finish(&intent).unwrap());
        assert_eq!(files::read_text(&log).unwrap(), "first\nsecond\nthird\n", "torn at {torn:?}");
        assert!(!commit::finish(&intent).unwrap(), "the intent is gone");
    }
}

#[test]
fn a_foreign_last_line_without_an_end_is_not_joined() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    files::write_atomic(&log, b"broken line").unwrap();
    let step = Commit::new(dir.path().join("intent")).append(&log, &["mine".into()]);
    step.run(&CrashPoint::default()).unwrap();
    assert_eq!(files::read_text(&log).unwrap(), "broken line\nmine\n");
}

#[test]
fn links_are_followed_and_modes_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    files::write_atomic(&file, b"old").unwrap();
    files::make_private(&file).unwrap();
    files::create_symlink(&file, &link).unwrap();
    let step = Commit::new(dir.path().join("intent")).replace(&link, b"new".to_vec());
    step.replace(&dir.path().join("deep/er"), b"made".to_vec()).run(&CrashPoint::default()).unwrap();
    assert_eq!(files::read(&file).unwrap(), b"new");
    assert_eq!(files::read_link(&link).unwrap(), file);
    assert_eq!(files::read(&dir.path().join("deep/er")).unwrap(), b"made");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(files::list(dir.path()).unwrap().len(), 3, "nothing else is left");
}

#[test]
fn an_intent_that_is_something_else_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let intent = dir.path().join("intent");
    files::write_atomic(&intent, b"my notes").unwrap();
    assert!(commit::finish(&intent).unwrap_err().chain().contains("not the intent file"));
    assert!(intent.exists());
}
