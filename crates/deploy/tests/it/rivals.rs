//! Two at once, signals, pauses, and a rollback in the middle.

use std::process::Child;
use std::time::Duration;

use nightshift_testkit::wait_until;

use crate::world::World;

/// A deployment in its watch.
fn watching(world: &World) -> (Child, String) {
    let candidate = world.publish("the candidate");
    let child = world.home.spawn("deploy", &["--json", "--watch-s", "60"]);
    wait_until("the watch", Duration::from_secs(20), || {
        std::fs::read_to_string(world.home.path().join("deploy.err"))
            .ok()
            .filter(|text| text.contains("watching"))
    });
    (child, candidate)
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn code(mut child: Child) -> i32 {
    wait_until("its end", Duration::from_secs(20), || child.try_wait().unwrap()).code().unwrap_or(-1)
}

fn staged(deploy: &str) -> (World, String) {
    let world = World::new(deploy);
    let incumbent = world.incumbent();
    world.script().right = |_| true;
    (world, incumbent)
}

#[test]
fn the_second_of_two_is_busy_and_a_signal_takes_the_first_back() {
    let (world, incumbent) = staged("");
    let (child, candidate) = watching(&world);
    let ran = world.deploy(&[]).expect(7);
    assert!(ran.stderr.contains("is locked by deploy"), "{}", ran.stderr);
    world.deploy(&["--recover"]).expect(7);
    assert_eq!(world.effective().as_deref(), Some(candidate.as_str()), "the rival changed nothing");
    assert_eq!(world.deploy(&["--status"]).expect(0).json()["status"], "consistent");
    signal(&child, "-TERM");
    assert_eq!(code(child), 143);
    assert_eq!(world.effective(), Some(incumbent));
    assert_eq!(world.deployments()[0].state, "interrupted");
    assert_eq!(world.release_status(&candidate), "new");
    world.assert_consistent();
}

#[test]
fn a_signal_ends_the_gate_and_nothing_has_changed() {
    let (world, incumbent) = staged("");
    let candidate = world.publish("the candidate");
    world.script().slow = Some((candidate.clone(), 300));
    let child = world.home.spawn("deploy", &["--json"]);
    wait_until("the gate", Duration::from_secs(20), || {
        world.script().loaded.contains(&candidate).then_some(())
    });
    signal(&child, "-TERM");
    assert_eq!(code(child), 143);
    assert_eq!((world.effective(), world.pointer().generation), (Some(incumbent), 1));
    assert_eq!(world.deployments()[0].state, "interrupted");
    world.assert_consistent();
}

#[test]
fn a_paused_deployer_loses_its_lease_and_changes_nothing_when_it_wakes() {
    let (world, incumbent) = staged("lease_s: 1.5");
    let (child, candidate) = watching(&world);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(world.effective(), Some(candidate.clone()), "the lease is renewed while it lives");
    signal(&child, "-STOP");
    wait_until("the lease to lapse", Duration::from_secs(5), || {
        (world.effective() == Some(incumbent.clone())).then_some(())
    });
    signal(&child, "-CONT");
    assert_eq!(code(child), 7);
    assert_eq!(world.effective(), Some(incumbent));
    assert_eq!(world.deployments()[0].state, "superseded");
    assert_eq!(world.release_status(&candidate), "new");
    world.assert_consistent();
}

#[test]
fn a_killed_deployer_is_taken_back_by_its_lease_alone() {
    let (world, incumbent) = staged("lease_s: 1.5");
    let (mut child, _) = watching(&world);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the lease to lapse", Duration::from_secs(5), || {
        (world.effective() == Some(incumbent.clone())).then_some(())
    });
    world.deploy(&["--recover"]).expect(0);
    assert_eq!(world.effective(), Some(incumbent));
    world.assert_consistent();
}

#[test]
fn a_rollback_does_not_wait_for_a_deployment() {
    let (world, incumbent) = staged("");
    let (child, candidate) = watching(&world);
    let ran = world.home.run("rollback", &["--json", "--reason", "I know better"]).expect(0);
    let report = ran.json();
    assert_eq!(
        (report["lock_held"].as_bool(), report["to"].as_str()),
        (Some(false), Some(incumbent.as_str()))
    );
    assert_eq!(report["server"], "following");
    assert_eq!(code(child), 7);
    assert_eq!(world.effective(), Some(incumbent));
    assert_eq!(world.pointer().generation, 3, "the deployment moved nothing after it");
    assert_eq!(world.release_status(&candidate), "bad");
    assert_eq!(world.deployments()[0].state, "superseded");
    world.assert_consistent();
}
