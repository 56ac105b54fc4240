//! What the gate lets through, and what it does not.

use nightshift_core::evalset::Purpose;
use nightshift_core::{deployment, journal, metrics};
use serde_json::json;

use crate::world::{ITEMS, World, items};

#[test]
fn a_better_adapter_goes_live_and_says_so_everywhere() {
    let world = World::new("");
    let id = world.publish("better");
    let ran = world.deploy(&[]).expect(0);
    let report = ran.json();
    assert_eq!((&report["status"], &report["candidate"]), (&json!("deployed"), &json!(id)));
    assert_eq!(report["gate"]["verdict"], "PASS");
    assert_eq!(
        (&report["gate"]["n"], &report["gate"]["lost"], &report["gate"]["won"]),
        (&json!(40), &json!(0), &json!(20))
    );
    assert!(report["gate"]["p_value"].as_f64().unwrap() < 1e-5);
    assert!(report["switch_seconds"].as_f64().unwrap() < 5.0);
    assert_eq!(world.effective(), Some(id.clone()));
    assert!(!world.pointer().tentative);
    assert_eq!(world.release_status(&id), "good");
    let summary = world.summary(1, "deployment_summary.json");
    assert_eq!(summary["deployment_status"], "deployed");
    assert_eq!(summary["lora_directory"], format!("loras/{id}"));
    assert_eq!(summary["post_deployment"]["success_rate"], 1.0);
    for key in ["deployment_timestamp", "pre_deployment", "monitoring_duration_s", "rollback_thresholds"] {
        assert!(!summary[key].is_null(), "{key}");
    }
    let store = world.home.store();
    let answers: i64 =
        store.read().query_row("SELECT count(*) FROM gate_answers", [], |row| row.get(0)).unwrap();
    assert_eq!(answers, ITEMS as i64);
    let text = metrics::render(store.read()).unwrap();
    assert!(text.contains("nightshift_gate_decisions_total{verdict=\"pass\"} 1\n"), "{text}");
    assert!(text.contains("autogen_quality_improvement_ratio 2\n"), "{text}");
    assert!(text.contains("autogen_deployment_success_total 1\n"), "{text}");
    let states: Vec<String> = journal::verify(store.read())
        .unwrap()
        .into_iter()
        .filter(|entry| entry.kind == "deployment")
        .map(|entry| entry.after["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["validating", "loaded", "gated", "exposed", "deployed"]);
    world.assert_consistent();
    let log = report["log"].as_str().unwrap();
    assert!(std::fs::read_to_string(log).unwrap().contains("gate PASS"), "{log}");
    let again = world.deploy(&[]).expect(0);
    assert_eq!(again.json()["status"], "already_live");
    assert_eq!(world.pointer().generation, 1);
}

#[test]
fn a_forgetful_adapter_fails_although_it_wins() {
    let world = World::new("");
    world.script().right = |item| item % 2 == 1 || item >= 10; // 5 of the 20 even ones are lost
    let id = world.publish("forgetful");
    let report = world.deploy(&[]).expect(4).json();
    assert_eq!((&report["status"], &report["gate"]["verdict"]), (&json!("refused"), &json!("FAIL")));
    assert_eq!((&report["gate"]["lost"], &report["gate"]["won"]), (&json!(5), &json!(20)));
    assert_eq!(world.pointer().generation, 0);
    assert!(!world.script().loaded.contains(&id), "the server may forget it");
    assert_eq!(world.release_status(&id), "new", "refused is not banned");
    let store = world.home.store();
    let refused = deployment::list(store.read(), "nightshift", 1).unwrap().remove(0);
    assert_eq!(refused.candidate.as_deref(), Some(id.as_str()));
    assert_eq!((refused.state.as_str(), refused.verdict.as_deref()), ("refused", Some("FAIL")));
    world.assert_consistent();
}

#[test]
fn too_little_proof_is_inconclusive_and_names_the_missing_items() {
    let world = World::new("");
    world.script().right = |item| item.is_multiple_of(2) || item < 6;
    world.publish("hardly better");
    let report = world.deploy(&[]).expect(4).json();
    assert_eq!(report["gate"]["verdict"], "INCONCLUSIVE");
    assert_eq!(report["gate"]["won"], 3);
    assert!(report["gate"]["needed_items"].as_u64().unwrap() > 0);
    assert_eq!(world.effective(), None);
}

#[test]
fn without_a_gate_set_nothing_is_deployed() {
    let world = World::new("gate_set: other");
    world.publish("x");
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("memory evalset add"), "{}", ran.stderr);
    world.gate_set("other", Purpose::Report, &items());
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("registered for report"), "{}", ran.stderr);
    world.gate_set("other", Purpose::Gate, &[]);
    world.deploy(&[]).expect(4);
    let mut broken = items();
    broken[7].check = json!({"kind": "regex", "pattern": "("});
    world.gate_set("other", Purpose::Gate, &broken);
    let ran = world.deploy(&[]).expect(4);
    assert!(ran.stderr.contains("`q7`"), "{}", ran.stderr);
    assert!(world.server.requests().is_empty(), "the server was not asked at all");
}

#[test]
fn a_stumbling_server_is_asked_again_and_a_silent_one_is_upstream() {
    let world = World::new("");
    world.publish("better");
    world.script().stumbles = (6, 503);
    world.deploy(&["--watch-s", "0"]).expect(0);
    world.publish("next");
    world.script().up = false;
    let ran = world.deploy(&[]).expect(8);
    assert!(ran.stderr.contains("is serve running"), "{}", ran.stderr);
    let newest = &world.deployments()[0];
    assert_eq!((newest.state.as_str(), newest.ended_at.is_some()), ("failed", true));
    world.assert_consistent();
}

#[test]
fn a_server_that_ignores_the_model_cannot_pass_a_gate() {
    let world = World::new("");
    world.publish("x");
    world.script().names = Some("somebody-else".into());
    let ran = world.deploy(&[]).expect(1);
    assert!(ran.stderr.contains("compare an adapter with itself"), "{}", ran.stderr);
    assert_eq!(world.pointer().generation, 0);
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let world = World::new("");
    let id = world.publish("x");
    let report = world.deploy(&["--dry-run"]).expect(0).json();
    assert_eq!((&report["status"], &report["plan"]["candidate"]), (&json!("planned"), &json!(id)));
    assert_eq!(report["plan"]["gate_items"], 40);
    assert!(world.deployments().is_empty() && world.server.requests().is_empty());
    assert!(!world.home.path().join("loras/live").exists());
}

#[test]
fn an_empty_home_has_nothing_to_deploy() {
    let world = World::new("");
    world.deploy(&[]).expect(3);
    world.deploy(&["nonsense"]).expect(4);
    world.deploy(&["--watch-s", "-1"]).expect(2);
}
