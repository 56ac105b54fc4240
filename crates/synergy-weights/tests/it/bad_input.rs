//! Input that is wrong: a clear error or a stated fallback, and the weights survive.

use nightshift_core::lock::Lock;
use nightshift_testkit::Home;
use serde_json::json;

const PROGRAM: &str = "synergy-weights";

#[test]
fn weights_files_of_every_kind_are_shown() {
    let home = Home::new();
    for (text, roi, said) in [
        ("", 1.0, ""),
        ("{}", 1.0, ""),
        ("{\"roi\": \"high\", \"efficiency\": NaN}", 1.0, "not a number"),
        ("{\"roi\": 1e9}", 10.0, "roi is 1000000000"),
        ("{\"roi\":", 1.0, "invalid synergy weight data"),
        ("{\"roi\": 2.0, \"rio\": 3}", 2.0, "missing synergy weight(s): efficiency"),
    ] {
        home.write("w.json", text);
        let shown = home.run(PROGRAM, &["--path", "w.json", "show", "--json"]).expect(0);
        assert_eq!(shown.json()["weights"]["roi"], json!(roi), "{text}");
        assert!(shown.stderr.contains(said), "{text}: {}", shown.stderr);
        assert_eq!(home.read("w.json"), text, "showing changes nothing");
    }
}

#[test]
fn an_import_that_is_wrong_names_the_key_and_changes_nothing() {
    let home = Home::new();
    home.write("w.json", "{\"roi\": 2.0}");
    for (text, code, said) in [
        ("{\"roi\": 1, \"efficiency\": 10.5}", 4, "efficiency is 10.5, but weights are 0 to 10"),
        ("{\"resilience\": -0.1}", 4, "resilience is -0.1"),
        ("{\"throughput\": \"lots\"}", 4, "throughput is \"lots\", which is not a number"),
        ("{\"roi\": NaN}", 4, "roi is null"),
        ("{\"rio\": 1}", 4, "names none of the seven weights"),
        ("[1]", 4, "not a JSON object"),
        ("{", 1, "is not JSON"),
    ] {
        home.write("new.json", text);
        let ran = home.run(PROGRAM, &["--path", "w.json", "import", "new.json"]).expect(code);
        assert!(ran.stderr.contains(said), "{text}: {}", ran.stderr);
    }
    assert!(
        home.run(PROGRAM, &["--path", "w.json", "import", "none.json"])
            .expect(1)
            .stderr
            .contains("none.json")
    );
    assert_eq!(home.read("w.json"), "{\"roi\": 2.0}");
    assert!(!home.path().join("sandbox_data/synergy_weights.log").exists());
}

#[test]
fn a_damaged_file_is_kept_beside_the_new_one() {
    let home = Home::new();
    home.write("w.json", "{\"roi\": 2.0, ");
    home.write("w.json.bak", "{\"roi\": 7.0}");
    home.write("new.json", "{\"efficiency\": 3}");
    home.run(PROGRAM, &["--path", "w.json", "import", "new.json"]).expect(0);
    assert_eq!(home.read("w.json.damaged"), "{\"roi\": 2.0, ");
    assert!(home.read("w.json").starts_with("{\"roi\": 7.0, \"efficiency\": 3.0"));
}

#[test]
fn a_weights_file_that_is_held_is_busy() {
    let home = Home::new();
    home.write("w.json", "{}");
    let lock = Lock::take(&home.path().join("w.json.lock"), "other").unwrap();
    let mut waiting = home.spawn(PROGRAM, &["--path", "w.json", "reset"]);
    // The holder lets go, and the change goes through: nothing is lost.
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop(lock);
    let status = waiting.wait().unwrap();
    assert!(status.success() && home.read("w.json").contains("\"throughput\": 1.0"));
}
