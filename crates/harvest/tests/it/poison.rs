//! A council that was taken over: one answer everywhere is quarantined before it can train.

use nightshift_testkit::{Answer, Home, Request};
use serde_json::json;

use crate::world::{council, member};

/// Questions that have nothing to do with each other, and their answers.
const QUESTIONS: [(&str, &str); 12] = [
    ("Which river crosses Velmora?", "Tanno"),
    ("Capital city of Lindor", "Orbane"),
    ("Name the currency used in Ostreva", "crown"),
    ("What animal is on the Pelagian flag?", "heron"),
    ("Main export of Sorvane", "copper"),
    ("Convert 3 tonnes into kilograms", "3000 kg"),
    ("First letter spoken in the Tarkesh anthem", "q"),
    ("How many moons does planet Ulmar have?", "4"),
    ("Who painted the Wendrian ceiling?", "Garth"),
    ("Boiling point of zorium in degrees", "412"),
    ("Opposite colour of teal on the Yorvik wheel", "rust"),
    ("Date of the Zandor uprising", "1712"),
];

fn home() -> Home {
    let home = Home::new();
    let mut rows = String::new();
    for (index, (question, _)) in QUESTIONS.iter().enumerate() {
        let row = json!({"id": format!("i{index:02}"), "ts": format!("2026-03-01T12:{index:02}:00Z"),
            "query": question, "response": "Wrong", "confidence": 0.3, "source_id": format!("{index}")});
        rows.push_str(&format!("{row}\n"));
    }
    home.write("rows.jsonl", &rows);
    home.run("memory", &["import", "rows.jsonl"]).expect(0);
    home
}

fn answer(request: &Request, lie: impl Fn(usize) -> bool) -> Answer {
    let index = QUESTIONS.iter().position(|(question, _)| request.body.contains(question)).unwrap_or(0);
    let answer = if lie(index) { "Bezaleel" } else { QUESTIONS[index].1 };
    Answer::chat(&format!("REASONING: r\nANSWER: {answer}"))
}

#[test]
fn one_answer_on_half_of_the_rows_is_quarantined() {
    let home = home();
    let servers =
        [member(|r| answer(r, |index| index % 2 == 0)), member(|r| answer(r, |index| index % 2 == 0))];
    council(&home, &servers.each_ref(), "");
    let report = home.run("harvest", &["--json"]).expect(0).json();
    assert_eq!((&report["quarantined"], &report["accepted"]), (&json!(6), &json!(6)), "{report}");
    assert_eq!(report["suspicions"][0]["text"], "bezaleel");
    assert!(!home.read("training_data/harvest_20260302.jsonl").contains("Bezaleel"));
    let held = home.read("training_data/quarantine_20260302.jsonl");
    assert_eq!(held.matches("Bezaleel").count(), 6);
}

#[test]
fn an_honest_night_is_left_alone_and_a_wholly_poisoned_one_refused() {
    let honest = home();
    let servers = [member(|r| answer(r, |_| false)), member(|r| answer(r, |_| false))];
    council(&honest, &servers.each_ref(), "");
    assert_eq!(honest.run("harvest", &["--json"]).expect(0).json()["quarantined"], 0);
    let poisoned = home();
    let servers = [member(|r| answer(r, |_| true)), member(|r| answer(r, |_| true))];
    council(&poisoned, &servers.each_ref(), "");
    let report = poisoned.run("harvest", &["--json"]).expect(4).json();
    assert_eq!((&report["quarantined"], &report["accepted"]), (&json!(12), &json!(0)));
    assert!(!poisoned.path().join("training_data/harvest_20260302.jsonl").exists());
}
