//! Invariant I7: same inputs, seed and clock, same bytes out.

use serde_json::Value;

use crate::world::{base_inside, digest, direct, home, home_with_rows, latest, lines, quick, train};

#[test]
fn two_homes_with_the_same_rows_publish_the_same_release() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let home = home_with_rows(9);
        base_inside(&home);
        let report = train(&home, &["--json", "--seed", "3"]).expect(0).json();
        let id = report["adapter_id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("20260302-"), "{id}");
        seen.push((id, report["dataset_sha256"].clone(), report["loss_last"].clone(), latest(&home)));
    }
    assert_eq!(seen[0], seen[1]);
    let home = home_with_rows(9);
    base_inside(&home);
    train(&home, &["--seed", "4"]).expect(0);
    assert_ne!(latest(&home), seen[0].3, "another seed, another adapter");
}

#[test]
fn the_direct_form_repeats_itself() {
    let home = home();
    home.write("rows.jsonl", &lines(0, 7));
    let runs: Vec<Value> =
        ["a", "b"].map(|out| direct(&home, "rows.jsonl", out, &quick("2")).expect(0).json()).into();
    assert_eq!(runs[0]["loss_last"], runs[1]["loss_last"]);
    assert_eq!(digest(&home.path().join("a")), digest(&home.path().join("b")));
}
