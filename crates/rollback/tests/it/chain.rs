//! Which state a rollback picks.

use nightshift_core::jiff::SignedDuration;
use nightshift_core::metrics;
use serde_json::json;

use crate::world::World;

#[test]
fn a_chain_of_rollbacks_ends_at_no_adapter() {
    let world = World::new();
    let [a, b, c] = world.history(["a", "b", "c"]);
    let report = world.rollback(&["--reason", "it is rude"]).expect(0).json();
    assert_eq!((&report["from"], &report["to"], &report["banned"]), (&json!(c), &json!(b), &json!(c)));
    assert_eq!((&report["generation"], &report["restores_generation"]), (&json!(4), &json!(2)));
    assert_eq!((world.live(), world.status(&c).as_str()), (Some(b.clone()), "bad"));
    let summary = world.summary();
    assert_eq!((&summary["rollback_target"], &summary["failed_deployment"]), (&json!(b), &json!(c)));
    assert_eq!(
        (&summary["rollback_reason"], &summary["rollback_status"]),
        (&json!("it is rude"), &json!("completed"))
    );
    assert_eq!(summary["service_health"], "unreachable");
    for key in ["rollback_timestamp", "pre_rollback", "post_rollback"] {
        assert!(!summary[key].is_null(), "{key}");
    }
    world.assert_consistent();
    // The return to b is generation 4, but what it names is generation 2; back from it means a, not c.
    world.rollback(&[]).expect(0);
    assert_eq!((world.live(), world.pointer().generation), (Some(a.clone()), 5));
    assert_eq!(world.rollback(&[]).expect(0).json()["to"], "none");
    assert_eq!(world.live(), None);
    assert!(!world.home.path().join("loras/current/adapter_config.json").exists());
    assert_eq!(world.summary()["rollback_target"], "none");
    world.assert_consistent();
    let entries = world.entries();
    let ran = world.rollback(&[]).expect(3);
    assert!(ran.stderr.contains("nothing to go back to"), "{}", ran.stderr);
    assert_eq!((world.pointer().generation, world.entries()), (6, entries));
    let text = metrics::render(world.home.store().read()).unwrap();
    assert!(text.contains("autogen_rollback_triggered_total 3\n"), "{text}");
}

#[test]
fn undoing_an_undo_jumps_to_the_original() {
    let world = World::new();
    let [a, b] = world.history(["a", "b"]);
    world.rollback(&["--keep"]).expect(0);
    assert_eq!((world.live(), world.status(&b).as_str()), (Some(a.clone()), "new"));
    let report = world.rollback(&["--keep"]).expect(0).json();
    assert_eq!((&report["to"], &report["restores_generation"]), (&json!(b), &json!(2)));
    let report = world.rollback(&["--keep"]).expect(0).json();
    assert_eq!((&report["to"], &report["restores_generation"]), (&json!(a), &json!(1)), "not generation 3");
    world.assert_consistent();
}

#[test]
fn a_chosen_state() {
    let world = World::new();
    let [a, b, c] = world.history(["a", "b", "c"]);
    assert_eq!(world.rollback(&["--to", "1"]).expect(0).json()["to"], a.as_str());
    world.rollback(&["--to", &b]).expect(0);
    assert_eq!(world.live(), Some(b.clone()));
    for (wanted, code) in
        [(a.as_str(), 4), (c.as_str(), 4), (b.as_str(), 3), ("99", 4), ("20260301-nobody", 4)]
    {
        world.rollback(&["--to", wanted]).expect(code);
    }
    let ran = world.rollback(&["--to", &c]).expect(4);
    assert!(ran.stderr.contains("--force"), "{}", ran.stderr);
    world.rollback(&["--to", &c, "--force", "--keep"]).expect(0);
    assert_eq!(
        (world.live(), world.status(&c).as_str(), world.status(&b).as_str()),
        (Some(c), "good", "new")
    );
    assert_eq!(world.rollback(&["--to", "none", "--keep"]).expect(0).json()["to"], "none");
    world.rollback(&["--to", "none"]).expect(3);
    world.rollback(&["--force"]).expect(2);
    world.assert_consistent();
}

#[test]
fn an_unconfirmed_switch_is_left_for_what_was_before_it() {
    for lease in [SignedDuration::from_secs(60), SignedDuration::from_secs(-60)] {
        let world = World::new();
        let [a] = world.history(["a"]);
        let b = world.publish("b");
        world.switch(Some(&b), Some(lease));
        let report = world.rollback(&[]).expect(0).json();
        assert_eq!((&report["from"], &report["to"]), (&json!(b), &json!(a)), "lapsed or not");
        world.assert_consistent();
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let world = World::new();
    let [a, b] = world.history(["a", "b"]);
    let entries = world.entries();
    let report = world.rollback(&["--dry-run"]).expect(0).json();
    assert_eq!((&report["plan"]["to"]["adapter_id"], &report["plan"]["bans"]), (&json!(a), &json!(b)));
    assert_eq!((world.live(), world.entries()), (Some(b), entries));
    let text = world.home.run("rollback", &["--dry-run"]).expect(0).stdout;
    assert!(text.contains("first live in generation 1"), "{text}");
}

#[test]
fn nothing_was_ever_deployed() {
    let world = World::new();
    world.rollback(&[]).expect(3);
    world.publish("a");
    world.rollback(&[]).expect(3);
    assert!(!world.home.path().join("loras/live").exists());
}
