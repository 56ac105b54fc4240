//! The pointer in the store, followed from outside.

use std::time::{Duration, Instant};

use nightshift_core::jiff::SignedDuration;
use nightshift_core::{Ctx, files, interaction};
use nightshift_testkit::{Home, wait_until};
use serde_json::json;

use crate::adapters::{go_live, move_pointer};
use crate::house::{PATIENCE, Server, home, publish, rows};

fn adapter_of(server: &Server) -> String {
    server.chat("nightshift", "Hello", 4).expect(200).headers["x-nightshift-adapter"].clone()
}

fn follows(server: &Server, generation: i64) -> Duration {
    let started = Instant::now();
    wait_until("the pointer to be followed", PATIENCE, || {
        (server.get("/health").json()["generation"] == generation).then_some(())
    });
    started.elapsed()
}

#[test]
fn a_move_is_followed_within_a_second_and_at_the_start() {
    let home = home(512);
    let release = publish(&home, "adapter");
    let server = Server::start(&home, &[]);
    assert_eq!(adapter_of(&server), "none");
    let generation = go_live(&home, Some(&release.adapter_id));
    let took = follows(&server, generation);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(adapter_of(&server), release.adapter_id);
    let reply = server.post("/v1/unload_lora_adapter", &json!({"lora_name": release.adapter_id}));
    assert_eq!(reply.expect(409).code(), "lora_live");
    let row = rows(&home).pop().unwrap();
    assert_eq!((row.generation, row.adapter_id.as_deref()), (generation, Some(release.adapter_id.as_str())));
    assert_eq!(server.stop().0, 0);

    let server = Server::start(&home, &[]);
    assert_eq!(adapter_of(&server), release.adapter_id, "a new server begins where the pointer is");
    let generation = go_live(&home, None);
    follows(&server, generation);
    assert_eq!(adapter_of(&server), "none");
}

#[test]
fn a_store_that_comes_later_is_followed() {
    let home = home(512);
    let server = Server::start(&home, &[]);
    assert!(!home.path().join("sandbox_data/learning.db").exists(), "serve makes no store");
    let release = publish(&home, "adapter");
    let generation = go_live(&home, Some(&release.adapter_id));
    assert!(follows(&server, generation) < Duration::from_secs(1));
    assert_eq!(adapter_of(&server), release.adapter_id);
}

#[test]
fn an_abandoned_tentative_switch_is_taken_back() {
    let mut home = home(512);
    home.now(None);
    let good = publish(&home, "adapter").adapter_id;
    let tried = publish(&home, "adapter-patterns").adapter_id;
    go_live(&home, Some(&good));
    let server = Server::start(&home, &[]);
    let generation = move_pointer(&home, Some(&tried), Some(SignedDuration::from_secs(3)));
    follows(&server, generation);
    assert_eq!(adapter_of(&server), tried, "while the lease runs it is live");
    wait_until("the lease to lapse", PATIENCE, || (adapter_of(&server) == good).then_some(()));
    assert_eq!(server.get("/health").expect(200).json()["generation"], generation);
}

#[test]
fn an_adapter_that_cannot_be_loaded_leaves_the_old_one_and_says_so() {
    let home = home(512);
    let good = publish(&home, "adapter").adapter_id;
    let broken = publish(&home, "adapter-patterns").adapter_id;
    let weights = home.path().join("loras").join(&broken).join("adapter_model.safetensors");
    let bytes = files::read(&weights).unwrap();
    let mut spoilt = bytes.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    files::write_atomic(&weights, &spoilt).unwrap();
    go_live(&home, Some(&good));
    let server = Server::start(&home, &[]);
    let generation = go_live(&home, Some(&broken));
    let health = wait_until("the server to say so", PATIENCE, || {
        let health = server.get("/health");
        (health.status == 503).then(|| health.json())
    });
    let reason = health["reasons"][0].as_str().unwrap();
    assert!(reason.contains(&broken) && reason.contains("differs from its manifest"), "{reason}");
    assert_eq!(adapter_of(&server), good);
    files::write_atomic(&weights, &bytes).unwrap();
    assert!(follows(&server, generation) < Duration::from_secs(5), "it is tried again");
    assert_eq!(adapter_of(&server), broken);
    server.get("/health").expect(200);
}

#[test]
fn calibration_arrives_while_serving() {
    let home = home(512);
    let server = Server::start(&home, &[]);
    let raw = confidence(&server);
    assert_eq!(raw.0, raw.1, "not calibrated yet");
    let calibration = interaction::Calibration { intercept: 0.5, slope: 0.25 };
    calibrate(&home, calibration);
    wait_until("the calibration", PATIENCE, || {
        (server.get("/health").json()["calibrated"] == true).then_some(())
    });
    let (confidence, smallest) = confidence(&server);
    assert!((confidence - calibration.apply(smallest)).abs() < 1e-12);
}

fn calibrate(home: &Home, calibration: interaction::Calibration) {
    let ctx = Ctx::for_test(home.path());
    let now = ctx.clock.now();
    let store = &mut ctx.store().unwrap();
    store
        .write(|tx| interaction::store_calibration(tx, now, "nightshift", calibration, 60, (0.9, 0.1, 0.02)))
        .unwrap();
}

/// Confidence and smallest token probability of an answer.
fn confidence(server: &Server) -> (f64, f64) {
    let body = server.chat("nightshift", "How sure?", 6).expect(200).json();
    let number = |name: &str| body["nightshift"][name].as_f64().unwrap();
    (number("confidence"), number("min_token_prob"))
}
