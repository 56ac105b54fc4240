//! Members that misbehave: the others carry on, nothing is lost, and the report says who failed.

use nightshift_testkit::Answer;
use serde_json::json;

use crate::world::{FOREVER, asked, council, home, member, wise};

#[test]
fn one_bad_member_of_three_does_not_stop_the_night() {
    type Fault = fn() -> Answer;
    let faults: [(&str, Fault, &str); 8] = [
        ("stalls", || Answer::Stall(FOREVER), "did not answer in time"),
        ("resets", || Answer::Reset, "broke"),
        ("500", || Answer::Status(500, "text/plain", "oops".into(), vec![]), "500"),
        (
            "429",
            || Answer::Status(429, "application/json", "{}".into(), vec![("retry-after".into(), "0".into())]),
            "429",
        ),
        ("html", || Answer::Status(200, "text/html", "<html>login</html>".into(), vec![]), "unusable"),
        ("garbage", || Answer::Raw(b"\x00\x01\x02\r\n\r\n".to_vec()), ""),
        ("truncated", || Answer::Truncated("{\"choices\": [".into()), "broke"),
        (
            "401",
            || {
                Answer::Status(
                    401,
                    "application/json",
                    "{\"error\":{\"message\":\"bad key\"}}".into(),
                    vec![],
                )
            },
            "bad key",
        ),
    ];
    for (name, fault, says) in faults {
        let home = home(2);
        let servers = [wise(), wise(), member(move |_| fault())];
        council(&home, &servers.each_ref(), "    concurrency: 6\n");
        let report = home.run("harvest", &["--json"]).expect(0).json();
        assert_eq!(report["accepted"], 2, "{name}: {report}");
        assert_eq!(report["tiers"], json!({"majority": 2}), "{name}: never unanimous without the third");
        let failed = report["members"][2]["failed"].as_u64().unwrap();
        assert!(failed > 0, "{name}: {report}");
        let row = home.read("training_data/harvest_20260302.jsonl");
        assert!(row.contains("\"mode\":\"reduced\""), "{name}: {row}");
        let errors: Vec<String> = {
            let store = home.store();
            let mut statement =
                store.read().prepare("SELECT error FROM council_calls WHERE state = 'failed'").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert!(!errors.is_empty() && errors.iter().all(|error| error.contains(says)), "{name}: {errors:?}");
    }
}

#[test]
fn a_retired_model_is_said_before_anything_is_spent() {
    let home = home(2);
    let servers = [wise(), wise()];
    council(&home, &servers.each_ref(), "");
    let text = home.read("nightshift.yaml").replacen("\"model\":\"m\"", "\"model\":\"gone\"", 1);
    home.write("nightshift.yaml", &text);
    let ran = home.run("harvest", &[]).expect(8);
    assert!(ran.stderr.contains("the model `gone` is not offered; offered: m"), "{}", ran.stderr);
    assert_eq!((asked(&servers[0]), asked(&servers[1])), (0, 2));
}

#[test]
fn no_member_at_all_is_upstream_unavailable_and_a_later_run_asks_again() {
    let home = home(2);
    let dead = [member(|_| Answer::Reset), member(|_| Answer::Reset)];
    council(&home, &dead.each_ref(), "");
    let ran = home.run("harvest", &[]).expect(8);
    assert!(ran.stderr.contains("too few council members answered"), "{}", ran.stderr);
    let alive = [wise(), wise()];
    council(&home, &alive.each_ref(), "");
    assert_eq!(home.run("harvest", &["--json"]).expect(0).json()["accepted"], 2);
}

#[test]
fn replies_in_the_wrong_form_do_not_vote() {
    let home = home(2);
    let servers = [wise(), wise(), member(|_| Answer::chat("Sure! Here you go: Brask"))];
    council(&home, &servers.each_ref(), "");
    let report = home.run("harvest", &["--json"]).expect(0).json();
    assert_eq!(report["tiers"], json!({"majority": 2}));
    let row = home.read("training_data/harvest_20260302.jsonl");
    assert!(row.contains("\"mode\":\"full\"") && row.contains("\"agreement\":2"), "{row}");
}
