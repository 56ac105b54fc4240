//! Requests that are wrong, too large, too many, or for somebody else.

use nightshift_core::files;
use nightshift_testkit::wait_until;
use serde_json::json;

use crate::house::{PATIENCE, Server, ask, endless_home, home, rows};
use crate::wire;

const CHAT: &str = "/v1/chat/completions";

#[test]
fn wrong_requests_are_refused_with_the_reason() {
    let home = home(64);
    let server = Server::start(&home, &["--no-follow"]);
    let raw = |body: &[u8]| wire::request(&server.address, "POST", CHAT, &[], body);
    let broken = raw(b"{\"messages\": [").expect(400);
    assert_eq!(broken.json()["error"]["type"], "invalid_request_error");
    assert_eq!(raw(b"{\"model\": \"\", \"messages\": 3}").expect(400).json()["error"]["param"], "messages");
    raw(b"").expect(400);
    raw(&[0xff, 0xfe]).expect(400);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    wire::request(&server.address, "POST", CHAT, &form, b"a=b").expect(415);

    let with = |name: &str, value: serde_json::Value| {
        let mut request = ask("nightshift", "Hello", 4);
        request[name] = value;
        server.post(CHAT, &request)
    };
    assert_eq!(with("n", json!(2)).expect(400).json()["error"]["param"], "n");
    with("temperature", json!(3)).expect(400);
    with("max_tokens", json!(0)).expect(400);
    with("messages", json!([])).expect(400);
    with("response_format", json!({"type": "xml"})).expect(400);
    with("top_logprobs", json!(2)).expect(400);
    let unknown = server.chat("gpt-4", "Hello", 4).expect(404);
    assert_eq!(unknown.code(), "model_not_found");
    assert!(unknown.body.contains("nightshift, base"), "it says what there is: {unknown:?}");
    let long = server.chat("nightshift", &"word ".repeat(200), 4).expect(400);
    assert_eq!(long.code(), "context_length_exceeded");
    server.post_with(CHAT, &ask("", "Hello", 4), &[("x-nightshift-kind", "robot")]).expect(400);
    server.get("/v1/nothing").expect(404);
    server.get(CHAT).expect(405);
    assert!(rows(&home).is_empty(), "a request that is wrong is no exchange");

    let reply = server.chat("nightshift", "Hello", 1000).expect(200).json();
    let used = reply["usage"]["total_tokens"].as_i64().unwrap();
    assert!(used <= 64 && reply["choices"][0]["finish_reason"] == "length", "the context ends it: {reply}");
}

#[test]
fn a_huge_body_is_refused() {
    let home = home(512);
    home.write("nightshift.yaml", "serve: {max_body_bytes: 100000}\n");
    let server = Server::start(&home, &["--no-follow"]);
    let body = ask("nightshift", &"x".repeat(5_000_000), 4).to_string();
    wire::request(&server.address, "POST", CHAT, &[], body.as_bytes()).expect(413);
    server.chat("nightshift", "Hello", 4).expect(200);
}

#[test]
fn a_full_queue_is_answered_429() {
    let home = endless_home();
    home.write("nightshift.yaml", "serve: {queue: 1}\n");
    let server = Server::start(&home, &["--no-follow"]);
    let endless = ask("nightshift", "Never end.", 1 << 17).to_string();
    let open = || wire::open(&server.address, "POST", CHAT, &[], endless.as_bytes());
    let state = |name: &str, value: i64| {
        wait_until(name, PATIENCE, || (server.get("/health").json()[name] == value).then_some(()));
    };
    let working = open();
    state("running", 1);
    let waiting = open();
    state("waiting", 1);
    let refused = server.chat("nightshift", "Me too", 4).expect(429);
    assert_eq!(refused.code(), "queue_full");
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=30).contains(&wait));
    assert_eq!(server.get("/health").status, 200, "busy is not unhealthy");
    drop((working, waiting));
    state("waiting", 0);
    state("running", 0);
    server.chat("nightshift", "Me now", 4).expect(200);
}

#[test]
fn a_signal_ends_what_takes_too_long_and_answers_the_rest() {
    let home = endless_home();
    let server = Server::start(&home, &["--no-follow"]);
    let endless = ask("nightshift", "Never end.", 1 << 17).to_string();
    let connection = wire::open(&server.address, "POST", CHAT, &[], endless.as_bytes());
    wait_until("the work to begin", PATIENCE, || {
        (server.get("/health").json()["running"] == 1).then_some(())
    });
    let (code, lines) = server.stop();
    assert_eq!((code, &lines.last().unwrap()["drained"]), (0, &json!(false)));
    drop(connection);
    let row = rows(&home).pop().unwrap();
    assert_eq!((row.ok, row.failure_class.as_deref()), (false, Some("stopped")));
}

#[test]
fn a_model_that_breaks_is_answered_500_and_recorded() {
    let home = home(512);
    let path = home.path().join("base/model.safetensors");
    let mut bytes = files::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for four in bytes[8 + header..].chunks_exact_mut(4) {
        four.copy_from_slice(&1e18_f32.to_le_bytes());
    }
    files::write_atomic(&path, &bytes).unwrap();
    let server = Server::start(&home, &["--no-follow"]);
    assert_eq!(server.chat("nightshift", "Hello", 4).expect(500).code(), "model_error");
    let row = rows(&home).pop().unwrap();
    assert_eq!((row.ok, row.failure_class.as_deref()), (false, Some("model_error")));
    assert!(row.body["error"].as_str().unwrap().contains("not finite"), "{row:?}");
    let mut request = ask("nightshift", "Hello", 4);
    request["stream"] = true.into();
    let stream = server.post(CHAT, &request);
    assert!(stream.body.contains("model_error") && !stream.body.contains("[DONE]"), "{stream:?}");
}
