//! Success, feedback, tags, calibration.

use nightshift_testkit::Home;

fn log(home: &Home, extra: &[&str]) -> String {
    let mut arguments = vec!["log", "--query", "q", "--response", "a", "--json"];
    arguments.extend(extra);
    home.run("memory", &arguments).expect(0).json()["id"].as_str().unwrap().to_owned()
}

fn succeeded(home: &Home, id: &str) -> Option<bool> {
    home.run("memory", &["show", id, "--json"]).expect(0).json()["succeeded"].as_bool()
}

#[test]
fn feedback_decides_and_the_recorded_value_stays() {
    let home = Home::new();
    let sure = log(&home, &["--confidence", "0.9"]);
    let unsure = log(&home, &["--confidence", "0.6"]);
    let unknown = log(&home, &[]);
    assert_eq!([&sure, &unsure, &unknown].map(|id| succeeded(&home, id)), [Some(true), Some(false), None]);
    home.run("memory", &["feedback", &sure, "down", "--correction", "b"]).expect(0);
    home.run("memory", &["feedback", &unsure, "0.5"]).expect(0);
    assert_eq!([&sure, &unsure].map(|id| succeeded(&home, id)), [Some(false), Some(true)]);
    let shown = home.run("memory", &["show", &sure, "--json"]).expect(0).json();
    assert_eq!(shown["interaction"]["success"], true, "fixed when recorded");
    assert_eq!(shown["opinions"][0]["correction"], "b");
    home.run("memory", &["feedback", &sure, "sideways"]).expect(2);
    home.run("memory", &["feedback", "no-such-id", "up"]).expect(3);
}

#[test]
fn tags_come_and_go() {
    let home = Home::new();
    let id = log(&home, &["--tag", "unit"]);
    let tags = |arguments: &[&str]| home.run("memory", arguments).expect(0).json()["tags"].to_string();
    assert_eq!(tags(&["tag", &id, "json", "unit", "--json"]), r#"["json","unit"]"#);
    assert_eq!(tags(&["tag", &id, "json", "--remove", "--json"]), r#"["unit"]"#);
    home.run("memory", &["list", "--tag", "json"]).expect(3);
}

#[test]
fn calibration_needs_both_kinds_and_then_ranks() {
    let home = Home::new();
    let mut rows = String::new();
    for n in 0..200 {
        let p = f64::from(n) / 200.0;
        rows.push_str(&format!(
            "{{\"ts\":\"2026-03-01T00:00:00Z\",\"query\":\"q{n}\",\"response\":\"a\",\"min_token_prob\":{p},\"id\":\"i{n}\"}}\n"
        ));
    }
    home.write("rows.jsonl", &rows);
    home.run("memory", &["import", "rows.jsonl"]).expect(0);
    home.run("memory", &["calibrate"]).expect(3);
    let mut store = home.store();
    let write = |n: i32, value: f64| {
        format!(
            "INSERT INTO feedback VALUES ('f{n}', 'i{n}', '2026-03-01T00:00:00Z', 'user', 'f{n}', {value}, NULL, NULL);"
        )
    };
    // Right with probability near p: every fifth answer breaks the rule.
    let sql: String = (0..200).map(|n| write(n, if (n > 100) ^ (n % 5 == 0) { 1.0 } else { -1.0 })).collect();
    store.write(|tx| Ok(tx.execute_batch(&sql)?)).unwrap();
    let report = home.run("memory", &["calibrate", "--json"]).expect(0).json();
    assert!(report["auc"].as_f64().unwrap() > 0.75 && report["slope"].as_f64().unwrap() > 0.0, "{report}");
    let backwards = "UPDATE feedback SET value = -value";
    store.write(|tx| Ok(tx.execute_batch(backwards)?)).unwrap();
    home.run("memory", &["calibrate"]).expect(4);
    assert_eq!(nightshift_core::journal::verify(store.read()).unwrap().len(), 1, "one change, one entry");
}
