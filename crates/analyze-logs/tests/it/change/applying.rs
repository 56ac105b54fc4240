//! Plan, apply, keep and rollback as a person runs them.

use std::os::unix::fs::PermissionsExt;

use nightshift_core::{files, journal};
use nightshift_testkit::{Answer, FakeServer};
use serde_json::json;

use super::{APPLY, CONFIG, advice, change, raise, world};

#[test]
fn a_change_is_shown_applied_recorded_and_taken_back() {
    let home = world(&[raise()]);
    let plan = home
        .run("analyze-logs", &["plan", "--from", "report.json", "--target-config", "app/config.yaml"])
        .expect(0);
    assert!(plan.stdout.contains("-    index: 20\n+    index: 35\n"), "{}", plan.stdout);
    assert_eq!(home.read("app/config.yaml"), CONFIG);
    home.run("analyze-logs", &[&APPLY[..], &["--dry-run"]].concat()).expect(0);
    assert_eq!(home.read("app/config.yaml"), CONFIG);
    assert!(!home.path().join("sandbox_data/learning.db").exists(), "a plan makes no store");

    let applied = home.run("analyze-logs", &APPLY).expect(0).json();
    assert_eq!(applied["status"], "applied");
    let made = change(&applied);
    assert_eq!(
        (&made["before"], &made["after"], &made["status"]),
        (&json!(20), &json!(35), &json!("applied"))
    );
    assert_eq!(home.read("app/config.yaml"), CONFIG.replace("index: 20", "index: 35"));
    let again = home.run("analyze-logs", &APPLY).expect(3).json();
    assert_eq!(again["items"][0]["status"], "unchanged");

    // A person edits other keys; they stay.
    let edited =
        home.read("app/config.yaml").replace("name: \"Alpha Assistant\"   # shown", "name: Beta # mine");
    home.write("app/config.yaml", &edited);
    let back =
        home.run("analyze-logs", &["rollback", "--last", "--json", "--reason", "worse"]).expect(0).json();
    assert_eq!((&back["status"], &back["change"]["why"]), (&json!("reverted"), &json!("worse")));
    assert_eq!(home.read("app/config.yaml"), edited.replace("index: 35", "index: 20"));
    home.run("analyze-logs", &["rollback", "--last"]).expect(3);

    let store = home.store();
    let kinds: Vec<String> =
        journal::verify(store.read()).unwrap().into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, ["config.applying", "config.applied", "config.reverting", "config.reverted"]);
    let row: (String, String, String) = store
        .read()
        .query_row("SELECT improvement_id, status, changes FROM improvements_applied", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((row.0.as_str(), row.1.as_str()), (made["id"].as_str().unwrap(), "rolled_back"));
    assert!(
        row.2.contains("\"path\":\"tasks.timeouts.index\",\"old_value\":20,\"new_value\":35"),
        "{}",
        row.2
    );
    let listed = home.run("analyze-logs", &["changes", "--status", "reverted", "--json"]).expect(0).json();
    assert_eq!(listed["changes"][0]["id"], made["id"]);
}

#[test]
fn one_change_a_key_until_it_is_judged() {
    let home = world(&[raise()]);
    let applied = home.run("analyze-logs", &APPLY).expect(0).json();
    let more =
        advice("rec_2", "raise_timeout", "config_update", "task:index", json!({"suggested_timeout_s": 60}));
    home.write("report.json", &json!([more]).to_string());
    let refused = home.run("analyze-logs", &APPLY).expect(4).json();
    let reason = refused["items"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("is not judged yet"), "{reason}");
    let id = change(&applied)["id"].as_str().unwrap();
    home.run("analyze-logs", &["keep", &id[..13]]).expect(0);
    home.run("analyze-logs", &["keep", id]).expect(4);
    home.run("analyze-logs", &APPLY).expect(0);
    assert!(home.read("app/config.yaml").contains("index: 60"));
    // The older one is not what the key holds any more: it says whose value that is.
    let refused = home.run("analyze-logs", &["rollback", id]).expect(4);
    assert!(
        refused.stderr.contains("is 60, not 35") && refused.stderr.contains("roll it back first"),
        "{}",
        refused.stderr
    );
    home.run("analyze-logs", &["rollback", "--last"]).expect(0);
    home.run("analyze-logs", &["rollback", "--last"]).expect(0);
    assert_eq!(home.read("app/config.yaml"), CONFIG);
}

#[test]
fn a_key_that_a_person_changed_is_not_rolled_back() {
    let home = world(&[raise()]);
    home.run("analyze-logs", &APPLY).expect(0);
    let edited = home.read("app/config.yaml").replace("index: 35", "index: 50");
    home.write("app/config.yaml", &edited);
    let refused = home.run("analyze-logs", &["rollback", "--last"]).expect(4);
    assert!(
        refused.stderr.contains("is 50, not 35") && refused.stderr.contains("somebody else"),
        "{}",
        refused.stderr
    );
    assert_eq!(home.read("app/config.yaml"), edited);
    home.write("app/config.yaml", &edited.replace("    index: 50\n", "    other: 1\n"));
    let gone = home.run("analyze-logs", &["rollback", "--last"]).expect(4);
    assert!(gone.stderr.contains("is gone"), "{}", gone.stderr);
}

/// Several changes of one report: each is checked against the file as the one before left it.
#[test]
fn a_report_is_applied_whole_and_each_change_goes_back_alone() {
    let home = world(&[
        raise(),
        advice(
            "rec_2",
            "raise_timeout",
            "config_update",
            "task:new task",
            json!({"suggested_timeout_s": 50}),
        ),
        advice("rec_3", "route_to_cheaper_model", "model_routing", "llm:deepseek-chat", json!({})),
        advice("rec_4", "prefer_tool", "tool_strategy", "tool:shell", json!({"alternative": "search"})),
        advice("rec_5", "add_retry", "error_handling", "tool:web", json!({})),
    ]);
    let report = home.run("analyze-logs", &APPLY).expect(0).json();
    let statuses: Vec<&str> =
        report["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["applied", "applied", "applied", "applied", "not_applicable"]);
    let all = CONFIG
        .replace("index: 20\n", "index: 35\n    new task: 50\n")
        .replace("model: false", "model: true")
        .replace("- file\n", "- file\n    - search\n");
    assert_eq!(home.read("app/config.yaml"), all);
    let id = |number: usize| report["items"][number]["change"]["id"].as_str().unwrap().to_owned();
    home.run("analyze-logs", &["rollback", &id(1)]).expect(0);
    assert_eq!(home.read("app/config.yaml"), all.replace("    new task: 50\n", ""));
    for number in [0, 3, 2] {
        home.run("analyze-logs", &["rollback", &id(number)]).expect(0);
    }
    assert_eq!(home.read("app/config.yaml"), CONFIG);
    let only =
        home.run("analyze-logs", &[&APPLY[..], &["--recommendation", "rec_3"]].concat()).expect(0).json();
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    home.run("analyze-logs", &[&APPLY[..], &["--recommendation", "rec_9"]].concat()).expect(2);
}

#[test]
fn links_and_modes_stay() {
    let home = world(&[raise()]);
    let real = home.write("store/real.yaml", CONFIG);
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = home.path().join("app/config.yaml");
    files::remove_file(&link).unwrap();
    files::create_symlink("../store/real.yaml".as_ref(), &link).unwrap();
    let applied = home.run("analyze-logs", &APPLY).expect(0).json();
    assert!(change(&applied)["file"].as_str().unwrap().ends_with("store/real.yaml"));
    assert_eq!(files::read_link(&link).unwrap().to_str(), Some("../store/real.yaml"));
    assert!(home.read("store/real.yaml").contains("index: 35"));
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    let left: Vec<_> = files::list(&home.path().join("store")).unwrap();
    assert_eq!(left, [real]);
}

#[test]
fn the_program_is_told_after_apply_and_after_rollback() {
    let home = world(&[raise()]);
    let server = FakeServer::start(|_| Answer::Json(json!({"ok": true})));
    home.write("told.sh", "echo \"$NIGHTSHIFT_CHANGED_KEY\" >> told\n");
    let mut sleeper = home.command("analyze-logs", &[]);
    sleeper = {
        let mut waiting = std::process::Command::new("/bin/sh");
        waiting.args([
            "-c",
            "trap 'echo hup > hup; exit 0' HUP; echo $$ > app.pid; while :; do sleep 0.05; done",
        ]);
        waiting.current_dir(sleeper.get_current_dir().unwrap());
        waiting
    };
    let mut waiting = sleeper.spawn().unwrap();
    nightshift_testkit::wait_until("the pid file", std::time::Duration::from_secs(10), || {
        std::fs::read_to_string(home.path().join("app.pid")).ok().filter(|text| text.ends_with('\n'))
    });
    let reload = json!({"analyze_logs": {"reload": {
        "signal": {"pid_file": "app.pid"}, "http": format!("{}/reload", server.url()), "command": ["sh", "told.sh"]}}});
    home.write("nightshift.yaml", &reload.to_string());
    let applied = home.run("analyze-logs", &APPLY).expect(0).json();
    assert_eq!(change(&applied)["reload"]["state"], "done", "{applied}");
    assert!(waiting.wait().unwrap().success());
    assert_eq!((home.read("told").as_str(), home.read("hup").as_str()), ("tasks.timeouts.index\n", "hup\n"));
    assert_eq!(server.requests()[0].json()["key_path"], "tasks.timeouts.index");
    assert_eq!(server.requests()[0].path, "/reload");
    // Nobody listens to the signal any more: the rollback is done, and says so.
    let back = home.run("analyze-logs", &["rollback", "--last", "--json"]).expect(0);
    assert_eq!(back.json()["change"]["reload"]["state"], "failed");
    assert!(back.stderr.contains("the reload failed"), "{}", back.stderr);
    assert_eq!(home.read("app/config.yaml"), CONFIG);
    assert_eq!(server.requests().len(), 2, "the other ways are tried all the same");
}

#[test]
fn a_failed_reload_can_take_the_change_back() {
    let home = world(&[raise()]);
    home.write(
        "nightshift.yaml",
        "analyze_logs: {reload: {command: [sh, -c, 'echo no >&2; exit 3'], on_failure: revert}}\n",
    );
    let report = home.run("analyze-logs", &APPLY).expect(5).json();
    assert_eq!(report["items"][0]["status"], "reverted");
    assert!(change(&report)["reload"]["detail"].as_str().unwrap().contains("exited 3: no"), "{report}");
    assert_eq!(home.read("app/config.yaml"), CONFIG);
}
