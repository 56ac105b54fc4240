//! Killed for real at every step: the next start finishes the change or undoes it, once.

use nightshift_core::{files, journal};

use super::{APPLY, CONFIG, change, raise, world};

/// The config, the statuses of its changes, and no leftovers.
#[track_caller]
fn settled(home: &nightshift_testkit::Home, config: &str, statuses: &[&str]) {
    assert_eq!(home.read("app/config.yaml"), config);
    let listed = home.run("analyze-logs", &["changes", "--json"]).json();
    let found: Vec<&str> = listed["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["status"].as_str().unwrap())
        .collect();
    assert_eq!(found, statuses);
    assert_eq!(files::list(&home.path().join("app")).unwrap().len(), 1, "nothing is left beside the config");
    journal::verify(home.store().read()).unwrap();
}

#[test]
fn killed_while_applying() {
    let new = CONFIG.replace("index: 20", "index: 35");
    for (point, written) in [
        ("change.intended", false),
        ("change.staged", false),
        ("change.written", true),
        ("change.recorded", true),
    ] {
        let mut home = world(&[raise()]);
        home.write("nightshift.yaml", "analyze_logs: {reload: {command: [sh, -c, 'echo x >> reloads']}}\n");
        home.set("NIGHTSHIFT_CRASH_AT", point);
        home.run("analyze-logs", &APPLY).expect(137);
        home.unset("NIGHTSHIFT_CRASH_AT");
        assert_eq!(home.read("app/config.yaml"), if written { &new } else { CONFIG }, "{point}");
        // The next one to come repairs first: what was written is there, what was not is applied now.
        let next = home.run("analyze-logs", &APPLY);
        if written {
            next.expect(3);
            settled(&home, &new, &["applied"]);
        } else {
            next.expect(0);
            settled(&home, &new, &["applied", "failed"]);
        }
        assert_eq!(home.read("reloads"), "x\n", "{point}: told once");
        home.run("analyze-logs", &["rollback", "--last"]).expect(0);
        assert_eq!(home.read("app/config.yaml"), CONFIG);
    }
}

#[test]
fn killed_while_rolling_back() {
    for point in ["change.reverting", "change.staged", "change.undone", "change.reverted"] {
        let mut home = world(&[raise()]);
        let applied = home.run("analyze-logs", &APPLY).expect(0).json();
        home.set("NIGHTSHIFT_CRASH_AT", point);
        home.run("analyze-logs", &["rollback", "--last"]).expect(137);
        home.unset("NIGHTSHIFT_CRASH_AT");
        let id = change(&applied)["id"].as_str().unwrap();
        // It was decided: the next start goes through with it, and then there is nothing left to do.
        home.run("analyze-logs", &["rollback", id]).expect(4);
        settled(&home, CONFIG, &["reverted"]);
    }
}

#[test]
fn a_person_who_edits_between_crash_and_repair_is_respected() {
    let mut home = world(&[raise()]);
    home.run("analyze-logs", &APPLY).expect(0);
    home.set("NIGHTSHIFT_CRASH_AT", "change.reverting");
    home.run("analyze-logs", &["rollback", "--last"]).expect(137);
    home.unset("NIGHTSHIFT_CRASH_AT");
    let edited = CONFIG.replace("index: 20", "index: 99");
    home.write("app/config.yaml", &edited);
    home.run("analyze-logs", &["rollback", "--last"]).expect(3);
    settled(&home, &edited, &["reverted"]);
}
