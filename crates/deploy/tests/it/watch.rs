//! What the watch takes back, and what it leaves alone.

use nightshift_core::pointer;
use nightshift_testkit::{FakeServer, Ran};
use serde_json::{Value, json};

use crate::world::{Live, World};

const JSON: &[&str] = &["json"];
const CHAT: &[&str] = &["chat"];

/// An incumbent with 200 requests of history (2 % failures), and a better candidate waiting.
fn staged(deploy: &str) -> (World, String, String) {
    let world = World::new(deploy);
    let incumbent = world.incumbent();
    world.traffic((0..200_u32).map(|n| Live {
        ok: !n.is_multiple_of(50),
        latency_ms: 40.0 + f64::from(n % 20),
        tags: if n.is_multiple_of(2) { CHAT } else { JSON },
        ..Live::default()
    }));
    world.script().right = |_| true;
    let candidate = world.publish("the candidate");
    (world, incumbent, candidate)
}

/// The candidate was taken back for `alarm`, the incumbent is live again, and everything says so.
#[track_caller]
fn assert_taken_back(world: &World, ran: Ran, (incumbent, candidate): (&str, &str), alarm: &str) -> Value {
    let report = ran.expect(5).json();
    assert_eq!(report["alarm"]["alarm"], alarm, "{report:#}");
    assert_eq!((&report["status"], &report["restored"]), (&json!("rolled_back"), &json!(incumbent)));
    assert!(report["revert_seconds"].as_f64().unwrap() < 5.0, "{report:#}");
    assert_eq!(world.effective().as_deref(), Some(incumbent));
    let history = pointer::history(world.home.store().read(), "nightshift").unwrap();
    let states: Vec<&str> = history.iter().map(|past| past.state.as_str()).collect();
    if alarm != "server" && alarm != "not_following" {
        assert_eq!(world.release_status(candidate), "bad");
        assert_eq!(states, ["good", "bad", "good"]);
    }
    let summary = world.summary(3, "rollback_summary.json");
    assert_eq!(
        (&summary["rollback_target"], &summary["failed_deployment"]),
        (&json!(incumbent), &json!(candidate))
    );
    assert_eq!(
        (&summary["service_health"], &summary["rollback_status"]),
        (&json!("healthy"), &json!("completed"))
    );
    assert_eq!(summary["restores_generation"], 1);
    assert_eq!(world.summary(2, "deployment_summary.json")["deployment_status"], "rolled_back");
    assert_eq!(world.deployments()[0].state, "rolled_back");
    world.assert_consistent();
    report
}

#[test]
fn a_good_adapter_under_traffic_is_kept() {
    let (world, incumbent, candidate) = staged("");
    let row = |n: usize, _| Live {
        ok: !n.is_multiple_of(50),
        tags: if n.is_multiple_of(2) { CHAT } else { JSON },
        ..Live::default()
    };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&[]));
    let report = ran.expect(0).json();
    assert_eq!(report["status"], "deployed");
    assert!(report["before"]["requests"].as_u64().unwrap() >= 200, "{report:#}");
    assert!(report["watch"]["requests"].as_u64().unwrap() >= 8, "{report:#}");
    assert_eq!(world.effective(), Some(candidate));
    world.assert_consistent();
}

#[test]
fn failures_of_every_request_are_an_alarm() {
    let (world, incumbent, candidate) = staged("");
    let row = |_, new: bool| Live { ok: !new, class: new.then_some("timeout"), ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&["--watch-s", "20"]));
    let report = assert_taken_back(&world, ran, (&incumbent, &candidate), "failures");
    assert!(report["watch"]["seconds"].as_f64().unwrap() < 10.0, "long before the window ends");
    let banned = world.deploy(&[]).expect(4);
    assert!(banned.stderr.contains("banned"), "{}", banned.stderr);
}

#[test]
fn failures_of_one_request_tag_are_an_alarm_that_names_it() {
    let (world, incumbent, candidate) = staged("");
    // One request in eight is of the broken kind: too few to be seen in all.
    let row = |n: usize, new: bool| {
        let json = n.is_multiple_of(8);
        let failed = new && json;
        Live {
            ok: !failed,
            class: failed.then_some("invalid_json"),
            tags: if json { JSON } else { CHAT },
            ..Live::default()
        }
    };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&["--watch-s", "20"]));
    let report = assert_taken_back(&world, ran, (&incumbent, &candidate), "tag_failures");
    assert_eq!(report["alarm"]["tag"], "json");
    assert!(report["reason"].as_str().unwrap().contains("tagged `json`"), "{report:#}");
    assert_eq!(report["watch"]["tags"]["chat"]["failures"], 0);
}

#[test]
fn negative_feedback_is_a_failure_however_late_it_comes() {
    let (world, incumbent, candidate) = staged("");
    let row =
        |n: usize, new: bool| Live { thumb: (new && n.is_multiple_of(2)).then_some(-1.0), ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&["--watch-s", "20"]));
    assert_taken_back(&world, ran, (&incumbent, &candidate), "failures");
}

fn slow(n: usize, new: bool) -> Live {
    Live { latency_ms: if new { 400.0 } else { 40.0 } + (n % 20) as f64, ..Live::default() }
}

#[test]
fn slower_answers_are_an_alarm_when_they_are_slower_side_by_side() {
    let (world, incumbent, candidate) = staged("");
    world.script().slow = Some((candidate.clone(), 200));
    let ran = world.traffic_while(Some(&incumbent), slow, || world.deploy(&["--watch-s", "20"]));
    let report = assert_taken_back(&world, ran, (&incumbent, &candidate), "latency");
    assert!(report["reason"].as_str().unwrap().contains("side by side"), "{report:#}");
}

#[test]
fn a_load_that_slows_both_is_not_the_adapters_fault() {
    let (world, incumbent, candidate) = staged("");
    let ran = world.traffic_while(Some(&incumbent), slow, || world.deploy(&["--watch-s", "2"]));
    let report = ran.expect(0).json();
    let note = report["watch"]["notes"][0].as_str().unwrap();
    assert!(note.contains("not borne out"), "{note}");
    assert_eq!(world.effective(), Some(candidate));
}

#[test]
fn the_documents_thresholds_are_further_alarms() {
    let (world, incumbent, candidate) = staged("min_success_rate: 0.995, alpha_failures: 0.0001");
    let row = |n: usize, new: bool| Live { ok: !new || !n.is_multiple_of(12), ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&["--watch-s", "20"]));
    assert_taken_back(&world, ran, (&incumbent, &candidate), "success_floor");
    let (mut world, incumbent, candidate) = staged("latency_tolerance: 100");
    world.home.set("ROLLBACK_THRESHOLD_LATENCY", "100");
    let row = |_, new: bool| Live { latency_ms: if new { 300.0 } else { 50.0 }, ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&["--watch-s", "20"]));
    assert_taken_back(&world, ran, (&incumbent, &candidate), "latency_ceiling");
}

#[test]
fn the_fixed_rule_looks_once_at_the_end_of_the_window() {
    let (world, incumbent, candidate) = staged("rule: fixed");
    let row = |n: usize, new: bool| Live { ok: !new || !n.is_multiple_of(3), ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&[]));
    let report = assert_taken_back(&world, ran, (&incumbent, &candidate), "fixed_success");
    assert!(report["watch"]["seconds"].as_f64().unwrap() >= 0.3);
    let (world, incumbent, candidate) = staged("");
    let row = |_, new: bool| Live { latency_ms: if new { 1500.0 } else { 50.0 }, ..Live::default() };
    let ran = world.traffic_while(Some(&incumbent), row, || world.deploy(&["--rule", "fixed"]));
    assert_taken_back(&world, ran, (&incumbent, &candidate), "fixed_latency");
}

#[test]
fn without_traffic_probes_make_up_the_quota() {
    let (world, _, candidate) = staged("");
    let report = world.deploy(&["--watch-s", "0"]).expect(0).json();
    assert_eq!((&report["status"], &report["watch"]["probes"]), (&json!("deployed"), &json!(7)));
    assert_eq!(report["watch"]["requests"], 8, "with the one that saw the switch");
    assert_eq!(world.release_status(&candidate), "good");
}

#[test]
fn without_a_recording_server_the_probes_count_themselves() {
    let (mut world, ..) = staged("");
    world.script().records = false;
    world.home.set("MONITOR_DURATION", "0");
    let report = world.deploy(&[]).expect(0).json();
    assert!(report["watch"]["seconds"].as_f64().unwrap() < 0.5, "{report:#}");
    assert_eq!((&report["status"], &report["watch"]["requests"]), (&json!("deployed"), &json!(8)));
}

#[test]
fn a_server_that_answers_nothing_but_429_leaves_it_provisional() {
    let (world, _, candidate) = staged("");
    let script = || world.script();
    let ran = std::thread::scope(|scope| {
        let ran = scope.spawn(|| world.deploy(&["--watch-s", "0.5"]));
        // Busy from the moment it serves the candidate.
        while world.effective().as_deref() != Some(&candidate) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        script().stumbles = (usize::MAX, 429);
        ran.join().unwrap()
    });
    let report = ran.expect(0).json();
    assert_eq!(report["status"], "provisional", "{report:#}");
    assert_eq!(world.effective(), Some(candidate.clone()));
    assert_eq!(world.release_status(&candidate), "new", "not proven good");
    assert_eq!(world.summary(2, "deployment_summary.json")["deployment_status"], "provisional");
    world.assert_consistent();
}

#[test]
fn a_server_that_dies_is_an_alarm_and_a_person_is_needed_until_it_is_back() {
    let (world, incumbent, candidate) = staged("");
    let ran = std::thread::scope(|scope| {
        let ran = scope.spawn(|| world.deploy(&["--watch-s", "30"]));
        while world.effective().as_deref() != Some(&candidate) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        world.script().up = false;
        while world.effective().as_deref() == Some(&candidate) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        world.script().up = true;
        ran.join().unwrap()
    });
    assert_taken_back(&world, ran, (&incumbent, &candidate), "server");
    assert_eq!(
        world.release_status(&candidate),
        "new",
        "a server that died proves nothing against the adapter"
    );
}

#[test]
fn a_server_that_does_not_follow_is_said() {
    let (world, incumbent, candidate) = staged("lease_s: 1");
    world.script().follows = false;
    let ran = world.deploy(&[]);
    // It serves the base under generation 0: neither the candidate nor the incumbent.
    let report = ran.expect(6).json();
    assert_eq!(report["alarm"]["alarm"], "not_following");
    assert_eq!(report["status"], "not_recovered", "{report:#}");
    assert_eq!(world.effective(), Some(incumbent));
    assert_eq!(world.release_status(&candidate), "new");
    world.assert_consistent();
}

#[test]
fn news_go_to_the_webhook_unless_a_parent_tells_them() {
    let (mut world, incumbent, _) = staged("");
    let hook = FakeServer::start(|_| nightshift_testkit::Answer::Json(json!({})));
    world.home.set("NOTIFICATION_WEBHOOK", &hook.url());
    let row = |_, new: bool| Live { ok: !new, ..Live::default() };
    world.traffic_while(Some(&incumbent), row, || world.deploy(&["--watch-s", "20"])).expect(5);
    let sent = hook.requests();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].body.contains("regression"), "{}", sent[0].body);
    world.home.set("NIGHTSHIFT_PARENT", &std::process::id().to_string());
    world.publish("another");
    world.deploy(&["--watch-s", "0"]).expect(0);
    assert_eq!(hook.requests().len(), 1);
}
