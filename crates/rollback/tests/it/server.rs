//! With a server, without one, with one that does not follow, and beside a deployment.

use std::sync::atomic::Ordering;

use nightshift_core::lock::Lock;
use nightshift_testkit::{Answer, FakeServer};
use serde_json::json;

use crate::world::World;

#[test]
fn a_server_that_follows_is_waited_for() {
    let world = World::new();
    let [a, _] = world.history(["a", "b"]);
    let (_server, asked) = world.serve(true);
    let report = world.rollback(&[]).expect(0).json();
    assert_eq!((&report["server"], &report["to"]), (&json!("following"), &json!(a)));
    assert!(asked.load(Ordering::SeqCst) && report["seconds"].as_f64().unwrap() < 4.0);
    assert_eq!(world.summary()["service_health"], "healthy");
}

#[test]
fn a_server_that_is_down_is_said_and_no_obstacle() {
    let world = World::new();
    let [a, _] = world.history(["a", "b"]);
    let ran = world.rollback(&[]).expect(0);
    assert_eq!(ran.json()["server"], "down");
    assert_eq!(world.live(), Some(a));
    let text = world.home.run("rollback", &[]).expect(0).stdout;
    assert!(text.contains("the server does not run"), "{text}");
}

#[test]
fn a_server_that_does_not_follow_needs_a_person() {
    let world = World::new();
    let [a, _] = world.history(["a", "b"]);
    let _server = world.serve(false);
    let report = world.rollback(&[]).expect(6).json();
    assert_eq!((&report["status"], &report["server"]), (&json!("not_recovered"), &json!("not_following")));
    assert_eq!(world.live(), Some(a), "done here all the same");
    assert_eq!(world.summary()["service_health"], "not_following");
    world.assert_consistent();
}

#[test]
fn a_held_lock_delays_it_for_two_seconds_only() {
    let world = World::new();
    let [a, _] = world.history(["a", "b"]);
    let path = world.ctx().paths.lock("loras");
    let lock = Lock::take(&path, "deploy").unwrap();
    let report = world.rollback(&[]).expect(0).json();
    assert_eq!((&report["lock_held"], &report["to"]), (&json!(false), &json!(a)));
    assert!((2.0..6.0).contains(&report["seconds"].as_f64().unwrap()), "{report:#}");
    drop(lock);
    world.assert_consistent();
}

#[test]
fn the_webhook_is_told() {
    let mut world = World::new();
    let [..] = world.history(["a", "b"]);
    let hook = FakeServer::start(|_| Answer::Json(json!({})));
    world.home.set("NOTIFICATION_WEBHOOK", &hook.url());
    world.rollback(&["--reason", "it is rude"]).expect(0);
    assert!(hook.requests()[0].body.contains("it is rude"));
}
