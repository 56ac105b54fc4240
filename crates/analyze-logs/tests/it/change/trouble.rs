//! Configs that cannot or must not be changed: each is refused, and left as it was.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nightshift_core::files;
use nightshift_testkit::binary;
use serde_json::json;

use super::{APPLY, CONFIG, raise, world};

#[test]
fn files_that_are_not_there_not_ours_or_no_config() {
    let home = world(&[raise()]);
    let apply = |file: &str| {
        home.run("analyze-logs", &["apply", "--from", "report.json", "--target-config", file])
            .expect(4)
            .stderr
    };
    assert!(apply("app/none.yaml").contains("cannot find the config"));
    assert!(apply("app").contains("is no file"));
    home.write("app/notes.txt", "tasks: 1\n");
    assert!(apply("app/notes.txt").contains("is not a .yaml"));
    home.write("app/tabs.yaml", "tasks:\n\ttimeouts: 1\n");
    assert!(apply("app/tabs.yaml").contains("cannot be edited"));
    home.write("app/twice.yaml", "tasks: {timeouts: {index: 1}}\ntasks: {}\n");
    assert!(apply("app/twice.yaml").contains("duplicate"));
    files::write_atomic(&home.path().join("app/bytes.yaml"), b"tasks: {timeouts: {index: \"\xff\"}}\n")
        .unwrap();
    assert!(apply("app/bytes.yaml").contains("is not UTF-8"));
    home.write("app/empty.yaml", "");
    assert!(apply("app/empty.yaml").contains("no shipped rules fit"));
    home.run("analyze-logs", &["apply", "--from", "report.json"]).expect(2);
    home.run("analyze-logs", &["apply", "--from", "app/empty.yaml", "--target-config", "app/config.yaml"])
        .expect(2);
    home.run("analyze-logs", &["changes"]).expect(3);
}

#[test]
fn read_only_and_hard_linked_files_are_left_alone() {
    let home = world(&[raise()]);
    let path = home.path().join("app/config.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    let refused = home.run("analyze-logs", &APPLY).expect(4).json();
    assert!(refused["items"][0]["reason"].as_str().unwrap().contains("is read-only"), "{refused}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::hard_link(&path, home.path().join("app/other.yaml")).unwrap();
    let refused = home.run("analyze-logs", &APPLY).expect(4).json();
    assert!(refused["items"][0]["reason"].as_str().unwrap().contains("hard links"), "{refused}");
    assert_eq!(home.read("app/config.yaml"), CONFIG);
}

/// Anchors that other keys share, seen from the command line.
#[test]
fn a_value_that_others_share_is_refused() {
    let home = world(&[raise()]);
    let shared = "tasks: {timeouts: {index: &t 20, other: *t}}\n";
    home.write("app/config.yaml", shared);
    let refused = home.run("analyze-logs", &APPLY).expect(4).json();
    assert!(refused["items"][0]["reason"].as_str().unwrap().contains("more than this key"), "{refused}");
    assert_eq!(home.read("app/config.yaml"), shared);
}

/// The library's view: planned, then a person edits, then it is applied.
#[test]
fn a_config_that_was_edited_between_plan_and_apply_is_refused_and_recorded() {
    use nightshift_analyze_logs::change::{Filter, Status, Target, apply, list, plan};
    let dir = tempfile::tempdir().unwrap();
    let ctx = nightshift_core::Ctx::for_test(dir.path());
    let file = dir.path().join("config.yaml");
    files::write_atomic(&file, CONFIG.as_bytes()).unwrap();
    let mut store = ctx.store().unwrap();
    let target = Target::open(&ctx, &file, None).unwrap();
    let advice = serde_json::from_value(raise()).unwrap();
    let planned = plan(&ctx, Some(&store), &target, &[advice]).unwrap();
    let edited = format!("{CONFIG}# a remark\n");
    files::write_atomic(&file, edited.as_bytes()).unwrap();
    let failure = apply(&ctx, &mut store, &planned[0]).unwrap_err();
    assert_eq!(failure.exit().code(), 4);
    assert!(failure.chain().contains("was edited since the plan"), "{}", failure.chain());
    assert_eq!(files::read_text(&file).unwrap(), edited);
    let listed = list(store.read(), Filter::default()).unwrap();
    assert_eq!((listed.len(), listed[0].status), (1, Status::Refused));
    let status: String =
        store.read().query_row("SELECT status FROM improvements_applied", [], |row| row.get(0)).unwrap();
    assert_eq!(status, "failed");
}

/// A limit on the size of files stands for the full disk: the config is larger, the store is smaller.
#[test]
fn a_full_disk_leaves_the_config_as_it_was() {
    let home = world(&[raise()]);
    home.run(
        "analyze-logs",
        &[
            "apply",
            "--from",
            "report.json",
            "--target-config",
            "app/config.yaml",
            "--recommendation",
            "rec_1",
        ],
    )
    .expect(0);
    home.run("analyze-logs", &["rollback", "--last"]).expect(0);
    let large = format!("{CONFIG}{}", "# padding\n".repeat(120_000));
    home.write("app/config.yaml", &large);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 1900; exec \"$@\"", "sh"])
        .arg(binary("analyze-logs"))
        .args(APPLY);
    shell.current_dir(home.path()).env("NIGHTSHIFT_HOME", home.path());
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the config is as it was"));
    assert_eq!(home.read("app/config.yaml"), large);
    assert_eq!(files::list(&home.path().join("app")).unwrap().len(), 1);
    let listed = home.run("analyze-logs", &["changes", "--status", "failed", "--json"]).expect(0).json();
    assert_eq!(listed["changes"].as_array().unwrap().len(), 1);
    home.run("analyze-logs", &APPLY).expect(0);
}

#[test]
fn another_one_at_it_is_busy() {
    let home = world(&[raise()]);
    let path = home.path().join("sandbox_data/locks/config-changes.lock");
    let lock = nightshift_core::lock::Lock::take(&path, "a test").unwrap();
    let mut child = home.command("analyze-logs", &APPLY).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it waits for the lock");
    assert_eq!(home.read("app/config.yaml"), CONFIG);
    drop(lock);
    assert!(child.wait().unwrap().success());
    assert!(home.read("app/config.yaml").contains("index: 35"));
}

#[test]
fn from_stdin_and_single_recommendations() {
    use std::io::Write;
    let home = world(&[]);
    let mut command = home
        .command("analyze-logs", &["plan", "--from", "-", "--target-config", "app/config.yaml", "--json"]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(raise().to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["status"], &report["rules"]), (&json!("planned"), &json!("alpha")));
}
