//! Adapters loaded, refused, unloaded and switched while requests run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nightshift_core::jiff::SignedDuration;
use nightshift_core::{Ctx, files, pointer};
use nightshift_testkit::wait_until;
use serde_json::{Value, json};

use crate::house::{PATIENCE, Server, ask, copy_adapter, fixtures, home, publish, publish_for, rows, text};
use crate::wire;

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

#[test]
fn an_adapter_is_loaded_named_and_unloaded() {
    let home = home(512);
    let release = publish(&home, "adapter");
    let server = Server::start(&home, &["--no-follow"]);
    let id = release.adapter_id.as_str();
    server.chat(id, "Hello", 10).expect(404);
    let body = json!({"lora_name": id, "lora_path": format!("loras/{id}")});
    let loaded = server.post(LOAD, &body).expect(200).json();
    assert_eq!((&loaded["status"], &loaded["digest"]), (&json!("loaded"), &json!(release.digest)));
    assert_eq!(server.post(LOAD, &body).expect(200).json()["status"], "already_loaded");

    let (with, without) = (server.chat(id, "Hello", 10), server.chat("base", "Hello", 10));
    assert_ne!(text(&with), text(&without), "the adapter does something");
    assert_eq!(text(&without), text(&server.chat("", "Hello", 10)), "the base is live");
    assert_eq!(with.headers["x-nightshift-adapter"], id);
    assert_eq!(with.json()["system_fingerprint"], format!("fp_{}", &release.digest[..12]));
    assert_eq!(with.json()["nightshift"]["adapter"], id);
    assert_eq!(rows(&home)[0].adapter_id.as_deref(), Some(id));

    let list = server.get("/v1/lora_adapters").expect(200).json();
    assert_eq!((&list["data"][0]["lora_name"], &list["data"][0]["live"]), (&json!(id), &json!(false)));
    let models = server.get("/v1/models").json();
    assert_eq!((&models["data"][2]["id"], &models["data"][2]["parent"]), (&json!(id), &json!("base")));
    server.post(UNLOAD, &json!({"lora_name": id})).expect(200);
    server.post(UNLOAD, &json!({"lora_name": id})).expect(404);
    assert_eq!(server.chat(id, "Hello", 10).code(), "model_not_found");
}

#[test]
fn wrong_paths_and_names_are_refused() {
    let home = home(512);
    let release = publish(&home, "adapter");
    copy_adapter("adapter", &home.path().join("elsewhere"));
    copy_adapter("adapter-patterns", &home.path().join("loras/plain"));
    files::create_symlink(&home.path().join("elsewhere"), &home.path().join("loras/link")).unwrap();
    let server = Server::start(&home, &["--no-follow"]);
    let load = |name: &str, path: &str| server.post(LOAD, &json!({"lora_name": name, "lora_path": path}));
    for outside in ["elsewhere", "loras/../elsewhere", "loras/link", "/etc", "loras"] {
        assert_eq!(load("x", outside).expect(403).code(), "lora_path_forbidden", "{outside}");
    }
    load("x", "loras/nothing").expect(404);
    load("nightshift", "loras/plain").expect(409);
    load("base", "loras/plain").expect(409);
    load("a b", "loras/plain").expect(400);
    load("plain", "loras/plain").expect(200);
    let taken = load("plain", &format!("loras/{}", release.adapter_id)).expect(409);
    assert_eq!(taken.code(), "lora_name_taken");
    let headers = [("x-forwarded-for", "10.0.0.1")];
    let body = json!({"lora_name": "y", "lora_path": "loras/plain"});
    server.post_with(LOAD, &body, &headers).expect(403);
}

#[test]
fn the_admin_key_opens_the_gate_from_elsewhere() {
    let mut home = home(512);
    home.set("NIGHTSHIFT_ADMIN_KEY", "open sesame");
    copy_adapter("adapter", &home.path().join("loras/plain"));
    let server = Server::start(&home, &["--no-follow"]);
    let body = json!({"lora_name": "y", "lora_path": "loras/plain"});
    let remote = ("x-forwarded-for", "10.0.0.1");
    server.post_with(LOAD, &body, &[remote]).expect(401);
    server.post_with(LOAD, &body, &[remote, ("authorization", "Bearer open sesame")]).expect(200);
}

#[test]
fn hostile_adapters_are_refused_and_the_live_one_goes_on() {
    let home = home(512);
    let good = publish(&home, "adapter");
    let loras = home.path().join("loras");
    let hostile = |name: &str, spoil: &dyn Fn(&Path)| {
        let dir = loras.join(name);
        copy_adapter("adapter", &dir);
        spoil(&dir);
    };
    hostile("nan", &|dir| {
        tensors(dir, |bytes, at| bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes()));
    });
    hostile("huge", &|dir| {
        tensors(dir, |bytes, at| {
            for four in bytes[at..].chunks_exact_mut(4) {
                four.copy_from_slice(&1e30_f32.to_le_bytes());
            }
        });
    });
    hostile("cut", &|dir| {
        let bytes = files::read(&dir.join("adapter_model.safetensors")).unwrap();
        files::write_atomic(&dir.join("adapter_model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    });
    hostile("header", &|dir| {
        files::write_atomic(&dir.join("adapter_model.safetensors"), &[0xff; 64]).unwrap();
    });
    hostile("config", &|dir| files::write_atomic(&dir.join("adapter_config.json"), b"{\"r\": -1}").unwrap());
    hostile("rank", &|dir| {
        let path = dir.join("adapter_config.json");
        let mut config: Value = serde_json::from_str(&files::read_text(&path).unwrap()).unwrap();
        config["r"] = json!(5);
        files::write_atomic(&path, config.to_string().as_bytes()).unwrap();
    });
    let other_model = loras.join("other-model");
    files::create_dir(&other_model).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        files::copy(&fixtures().join("qwen3/adapter").join(file), &other_model.join(file)).unwrap();
    }
    let wrong_base = publish_for(&home, "adapter-patterns", &"0".repeat(64)).adapter_id;

    go_live(&home, Some(&good.adapter_id));
    let server = Server::start(&home, &[]);
    let before = server.chat("nightshift", "Hello", 12);
    assert_eq!(before.headers["x-nightshift-adapter"], good.adapter_id);
    for name in ["nan", "huge", "cut", "header", "config", "rank", "other-model", &wrong_base] {
        let reply = server.post(LOAD, &json!({"lora_name": name, "lora_path": format!("loras/{name}")}));
        let code = reply.expect(422).code();
        assert_eq!(code, "invalid_lora_adapter", "{name}");
        assert_eq!(text(&server.chat("nightshift", "Hello", 12)), text(&before), "after {name}");
    }
    assert_eq!(server.get("/health").expect(200).json()["adapters"], json!([good.adapter_id]));
}

/// Changes the bytes of an adapter's tensors; `at` is where the first one begins.
fn tensors(dir: &Path, change: impl Fn(&mut [u8], usize)) {
    let path = dir.join("adapter_model.safetensors");
    let mut bytes = files::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    change(&mut bytes, 8 + header);
    files::write_atomic(&path, &bytes).unwrap();
}

/// Moves the pointer as `deploy` does; the new generation.
pub(crate) fn go_live(home: &nightshift_testkit::Home, adapter_id: Option<&str>) -> i64 {
    move_pointer(home, adapter_id, None)
}

/// As [`go_live`], tentative for `lease`.
pub(crate) fn move_pointer(
    home: &nightshift_testkit::Home,
    adapter_id: Option<&str>,
    lease: Option<SignedDuration>,
) -> i64 {
    let ctx = Ctx::for_test(home.path());
    let mut store = ctx.store().unwrap();
    let expected = pointer::read(store.read(), "nightshift").unwrap().generation;
    let wanted = pointer::Switch { expected, adapter_id, lease, deployment_id: None, why: "test" };
    store.write(|tx| pointer::switch(&ctx, tx, &wanted)).unwrap().generation
}

#[test]
fn switches_under_load_fail_nothing_and_mix_nothing() {
    let mut home = home(512);
    home.now(None);
    home.write("nightshift.yaml", "serve: {workers: 2}\n");
    let first = publish(&home, "adapter").adapter_id;
    let second = publish(&home, "adapter-patterns").adapter_id;
    let server = Server::start(&home, &[]);
    let mut alone = BTreeMap::new();
    for id in [&first, &second] {
        server.post(LOAD, &json!({"lora_name": id, "lora_path": format!("loras/{id}")})).expect(200);
        alone.insert(id.clone(), text(&server.chat(id, "Which one?", 40)));
    }
    alone.insert("none".into(), text(&server.chat("base", "Which one?", 40)));
    let distinct: std::collections::BTreeSet<&String> = alone.values().collect();
    assert_eq!(distinct.len(), 3, "each adapter answers in its own way");

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (address, stop, answered) =
                (server.address.clone(), Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || traffic(&address, client % 2 == 1, &stop, &answered))
        })
        .collect();
    let mut turns = 0;
    while turns < 12 || answered.load(Ordering::SeqCst) < 240 {
        let wanted = [Some(first.as_str()), Some(second.as_str()), None][turns % 3];
        let generation = go_live(&home, wanted);
        wait_until("the switch", PATIENCE, || {
            (server.get("/health").json()["generation"] == generation).then_some(())
        });
        let before = answered.load(Ordering::SeqCst);
        wait_until("traffic", PATIENCE, || (answered.load(Ordering::SeqCst) >= before + 12).then_some(()));
        turns += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let answers: Vec<(String, String)> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(answers.len() >= 200, "only {} answers", answers.len());
    for (adapter, text) in &answers {
        assert_eq!(
            Some(text),
            alone.get(adapter),
            "an answer under {adapter} that {adapter} alone does not give"
        );
    }
    for adapter in alone.keys() {
        let count = answers.iter().filter(|(name, _)| name == adapter).count();
        assert!(count > 0, "{adapter} never answered");
    }
    let page = server.get("/metrics").body;
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("nightshift_adapter_switches_total"), turns as f64);
    let slowest = value("nightshift_adapter_slowest_switch_seconds");
    assert!(slowest > 0.0 && slowest < 0.05, "a switch took {slowest} s");
    assert_eq!(value("autogen_requests_total"), value("autogen_requests_success_total"));
}

/// Asks until told to stop; (adapter of the header, text) of each answer. Every answer must be whole.
fn traffic(address: &str, stream: bool, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<(String, String)> {
    let mut request = ask("nightshift", "Which one?", 40);
    request["stream"] = stream.into();
    let body = request.to_string();
    let mut answers = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let reply = wire::request(address, "POST", "/v1/chat/completions", &[], body.as_bytes()).expect(200);
        let adapter = reply.headers["x-nightshift-adapter"].clone();
        let text = if stream {
            let events = reply.events();
            let fingerprint = &events[0]["system_fingerprint"];
            assert!(events.iter().all(|event| event["system_fingerprint"] == *fingerprint));
            events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
        } else {
            text(&reply)
        };
        answers.push((adapter, text));
        answered.fetch_add(1, Ordering::SeqCst);
    }
    answers
}
