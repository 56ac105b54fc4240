//! `cron/nightly_improvement.sh` finds its home and programs from its own path.

use std::process::Command;

use crate::stage::Stage;

#[test]
fn the_script_needs_no_working_directory_and_no_environment() {
    let stage = Stage::new();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cron/nightly_improvement.sh");
    let script = stage.home.path().join("cron/nightly_improvement.sh");
    stage.home.write("cron/nightly_improvement.sh", &std::fs::read_to_string(source).unwrap());
    let output = Command::new("sh")
        .arg(&script)
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(stage.calls("harvest", ""), 1);
    assert!(stage.home.path().join("sandbox_data/learning.db").exists());
}
