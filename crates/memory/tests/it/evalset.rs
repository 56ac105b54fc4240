//! Evaluation sets.

use nightshift_testkit::Home;

const GATE: &str = r#"{"id":"g1","messages":[{"role":"user","content":"What is the river of Velmora?"}],"reference":"Tanno"}
{"id":"g2","messages":[{"role":"user","content":"3 + 4"}],"reference":"7","check":{"kind":"number"}}
"#;

#[test]
fn registered_hashed_versioned_and_sealed() {
    let home = Home::new();
    home.write("gate.jsonl", GATE);
    home.run("memory", &["log", "--query", "what is the  river of velmora"]).expect(0);
    let first = home.run("memory", &["evalset", "add", "gate", "gate.jsonl", "--json"]).expect(0).json();
    assert_eq!((first["set"]["version"].as_i64(), first["sealed"].as_i64()), (Some(1), Some(1)));
    let second = home.run("memory", &["evalset", "add", "gate", "gate.jsonl", "--json"]).expect(0).json();
    assert_eq!(
        (second["set"]["version"].as_i64(), &second["set"]["sha256"]),
        (Some(2), &first["set"]["sha256"])
    );

    home.run("memory", &["log", "--query", "What is the river of Velmora?"]).expect(0);
    home.run("memory", &["log", "--query", "What is the river of Lindor?"]).expect(0);
    let rows = home.run("memory", &["list", "--json"]).expect(0).json();
    let sealed: Vec<_> = rows["interactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["interaction"]["no_train"].as_bool().unwrap())
        .collect();
    assert_eq!(sealed, [false, true, true], "newest first: only the other country may train");

    home.write("report.jsonl", GATE.lines().next().unwrap());
    let ran =
        home.run("memory", &["evalset", "add", "report", "report.jsonl", "--purpose", "report"]).expect(4);
    assert!(ran.stderr.contains("`g1` is also in the gate set `gate`"), "{}", ran.stderr);
    let listed = home.run("memory", &["evalset", "list", "--json"]).expect(0).json();
    assert_eq!(listed["sets"].as_array().unwrap().len(), 1);
}

#[test]
fn a_set_with_a_hole_is_refused_by_line() {
    let home = Home::new();
    for (text, part) in [
        (format!("{GATE}nonsense\n"), "set.jsonl:3: "),
        (format!("{GATE}{GATE}"), "set.jsonl:3: the id `g1` occurs twice"),
        (GATE.replace("\"number\"", "\"nmuber\""), "set.jsonl:2: item `g2`: check: unknown variant `nmuber`"),
        (GATE.replace(",\"reference\":\"Tanno\"", ""), "set.jsonl:1: item `g1` needs a reference"),
    ] {
        home.write("set.jsonl", &text);
        let ran = home.run("memory", &["evalset", "add", "gate", "set.jsonl"]).expect(4);
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
    home.run("memory", &["evalset", "list"]).expect(3);
}
