use std::process::Command;
use std::time::{Duration, Instant};

use nightshift_net::openai::{ChatRequest, Client, ClientOptions, Message, Timeouts};
use nightshift_net::{NetError, RetryAfter, Secret};

use crate::fake::{Fake, Script, json, nobody, response};

const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"4"},"finish_reason":"stop"}]}"#;
const KEY: &str = "sk-very-secret";

pub(crate) fn client(url: &str) -> Client {
    Client::new(ClientOptions::new(url).api_key(Some(Secret::new(KEY)))).unwrap()
}

pub(crate) fn question() -> ChatRequest {
    ChatRequest::new("m", vec![Message::user("2+2?")])
}

/// The error of one call, and how long it took. No error may show the key.
fn failure(server: &Fake, timeouts: Timeouts, limit: usize) -> (NetError, Duration) {
    let mut options = ClientOptions::new(server.url()).api_key(Some(Secret::new(KEY))).timeouts(timeouts);
    options.max_body_bytes = limit;
    let start = Instant::now();
    let error = Client::new(options).unwrap().chat(&question()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
    (error, start.elapsed())
}

fn simple_failure(response: impl Into<Vec<u8>>) -> NetError {
    failure(&Fake::saying(response), Timeouts::default(), 1 << 20).0
}

fn short(total_ms: u64) -> Timeouts {
    Timeouts { total: Duration::from_millis(total_ms), ..Timeouts::default() }
}

#[test]
fn an_answer_comes_with_its_text_and_headers() {
    let head =
        "200 OK\r\nx-nightshift-adapter: 20260101-abc\r\nx-nightshift-generation: 7\r\nx-request-id: r1";
    for suffix in ["", "/", "/v1", "/v1/"] {
        let server = Fake::saying(response(head, ANSWER));
        let reply = client(&format!("{}{suffix}", server.url())).chat(&question()).unwrap();
        assert_eq!(reply.body.text(), Some("4"));
        assert_eq!((reply.raw.as_str(), reply.status), (ANSWER, 200));
        assert_eq!(reply.adapter.as_deref(), Some("20260101-abc"));
        assert_eq!((reply.generation, reply.request_id.as_deref()), (Some(7), Some("r1")));
        let request = &server.requests()[0];
        assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
        let lower = request.to_ascii_lowercase();
        assert!(lower.contains("authorization: bearer sk-very-secret\r\n"), "{request}");
        assert!(lower.contains("content-type: application/json\r\n"), "{request}");
        assert!(
            request.ends_with(r#"{"model":"m","messages":[{"role":"user","content":"2+2?"}]}"#),
            "{request}"
        );
    }
}

#[test]
fn other_paths_hang_under_the_root() {
    let server = Fake::new(vec![
        Script::Say(json(r#"{"data":[{"id":"base"},{"id":"a","root":"/loras/a","parent":"base"}]}"#)),
        Script::Say(response("200 OK", "Success: added.")),
        Script::Say(json(r#"{"status":"ok"}"#)),
        Script::Say(response("200 OK\r\ncontent-type: text/plain", "up 1\n")),
    ]);
    let client = client(&server.url());
    assert_eq!(client.models().unwrap().body.data[1].root.as_deref(), Some("/loras/a"));
    let body = serde_json::json!({"lora_name": "a"});
    assert_eq!(client.post_text("/v1/load_lora_adapter", &body).unwrap().body, "Success: added.");
    assert_eq!(client.get_json::<serde_json::Value>("/health").unwrap().body["status"], "ok");
    assert_eq!(client.get_text("metrics").unwrap().body, "up 1\n");
    let lines: Vec<String> =
        server.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/models HTTP/1.1",
            "POST /v1/load_lora_adapter HTTP/1.1",
            "GET /health HTTP/1.1",
            "GET /metrics HTTP/1.1"
        ]
    );
}

#[test]
fn keys_are_in_no_debug_output() {
    let mut options = ClientOptions::new("http://127.0.0.1:1").api_key(Some(Secret::new(KEY)));
    options.headers.push(("x-api-key".into(), Secret::new("other-secret")));
    let text = format!("{options:?} {:?}", Client::new(options.clone()).unwrap());
    assert!(!text.contains(KEY) && !text.contains("other-secret"), "{text}");
}

#[test]
fn nobody_there_is_connect() {
    let error = client(&nobody()).chat(&question()).unwrap_err();
    assert_eq!(error.kind(), "connect", "{error}");
    assert!(error.is_transient());
}

#[test]
fn a_reset_is_broken() {
    let (error, _) = failure(&Fake::new(vec![Script::Reset]), Timeouts::default(), 1 << 20);
    assert_eq!(error.kind(), "broken", "{error}");
    assert!(error.is_transient());
}

#[test]
fn a_stall_ends_at_the_total_limit() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\"".to_vec();
    for said in [Vec::new(), b"HTTP/1.1 200 OK\r\n".to_vec(), half] {
        let (error, took) = failure(&Fake::new(vec![Script::Stall(said)]), short(200), 1 << 20);
        assert!(matches!(error, NetError::Timeout { phase: "total", .. }), "{error}");
        assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(3), "{took:?}");
    }
}

#[test]
fn one_byte_at_a_time_is_read_or_ended() {
    let server = Fake::new(vec![Script::Drip(json(ANSWER), Duration::from_micros(200))]);
    assert_eq!(client(&server.url()).chat(&question()).unwrap().body.text(), Some("4"));
    let server = Fake::new(vec![Script::Drip(json(ANSWER), Duration::from_millis(20))]);
    let (error, took) = failure(&server, short(300), 1 << 20);
    assert!(matches!(error, NetError::Timeout { phase: "total", .. }), "{error}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn silence_ends_at_the_idle_limit() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\"".to_vec();
    let timeouts = Timeouts { idle: Some(Duration::from_millis(100)), ..Timeouts::default() };
    let (error, took) = failure(&Fake::new(vec![Script::Stall(half)]), timeouts, 1 << 20);
    assert!(matches!(error, NetError::Timeout { phase: "idle", .. }), "{error}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn statuses_carry_the_message_and_retry_after() {
    let body = format!(r#"{{"error":{{"message":"slow down, {KEY}","type":"rate_limit_error"}}}}"#);
    let error = simple_failure(response("429 Too Many Requests\r\nretry-after: 3", &body));
    assert_eq!((error.status(), error.is_transient()), (Some(429), true));
    assert_eq!(error.retry_after(), Some(RetryAfter::In(Duration::from_secs(3))));
    assert!(error.to_string().ends_with("answered 429: slow down, [redacted]"), "{error}");

    let dates = "retry-after: Thu, 01 Jan 2026 00:01:00 GMT\r\ndate: Thu, 01 Jan 2026 00:00:15 GMT";
    let error = simple_failure(response(&format!("503 Service Unavailable\r\n{dates}"), ""));
    assert_eq!(error.retry_after(), Some(RetryAfter::In(Duration::from_secs(45))));

    let error = simple_failure(response("500 Internal Server Error", "<html><b>oops</b></html>"));
    assert!(error.is_transient() && error.to_string().contains("<html><b>oops</b></html>"), "{error}");
    let error = simple_failure(response("401 Unauthorized", "no"));
    assert_eq!((error.status(), error.is_transient()), (Some(401), false));
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Fake::saying(json(ANSWER));
    for status in ["302 Found", "307 Temporary Redirect"] {
        let head = format!("{status}\r\nlocation: {}/v1/chat/completions", other.url());
        let error = simple_failure(response(&head, ""));
        assert!(error.to_string().contains("redirects") && !error.is_transient(), "{error}");
    }
    assert_eq!(other.requests().len(), 0, "the key travelled");
}

#[test]
fn bodies_that_are_not_answers_are_bad() {
    for (body, reason) in [
        ("<!doctype html><title>Sign in</title>", "expected value at line 1 column 1"),
        (r#"{"choices":[{"message":{"role":"assistant","content":"4""#, "EOF while parsing"),
        (r#"{"choices":[]}"#, "`choices` is empty"),
        (r#"{"error":"x"}"#, "missing field `choices`"),
        (r#"{"choices":[{"message":{"role":"assistant","content":7}}]}"#, "choices[0].message.content: "),
        ("", "EOF while parsing"),
        (&format!("{ANSWER}{ANSWER}"), "trailing characters"),
    ] {
        let error = simple_failure(json(body));
        assert_eq!((error.kind(), error.is_transient()), ("bad_body", false), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let mut garbage = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n".to_vec();
    garbage.extend([0xff, 0xfe, 0x00]);
    assert!(simple_failure(garbage).to_string().contains("not UTF-8"));
    assert_eq!(simple_failure("this is no HTTP at all\r\n\r\n").kind(), "broken");
}

#[test]
fn a_wrong_content_length_is_noticed() {
    let too_long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len() + 9);
    assert_eq!(simple_failure(too_long).kind(), "broken");
    let too_short = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len() - 9);
    assert_eq!(simple_failure(too_short).kind(), "bad_body");
    let chunk =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{ANSWER}\r\n", ANSWER.len());
    assert_eq!(simple_failure(chunk).kind(), "broken");
}

#[test]
fn huge_bodies_are_left_early() {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n".to_vec();
    let open = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for head in [announced, open] {
        let server = Fake::new(vec![Script::Endless(head, vec![b' '; 8192])]);
        let (error, took) = failure(&server, Timeouts::default(), 100_000);
        assert!(matches!(error, NetError::TooLarge { limit_bytes: 100_000, .. }), "{error}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let head = b"HTTP/1.1 500 no\r\n\r\n".to_vec();
    let (error, _) =
        failure(&Fake::new(vec![Script::Endless(head, vec![b'x'; 8192])]), Timeouts::default(), 1000);
    assert_eq!(error.status(), Some(500));
    assert!(error.to_string().len() < 500);
}

#[test]
fn a_compressed_bomb_stays_small() {
    // gzip of 100,000 zero bytes.
    const BOMB: &str = "1f8b08000000000002ffedc13101000000c2a0f54f6d0d0fa00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000008057037d9511d4a0860100";
    let bytes: Vec<u8> =
        (0..BOMB.len()).step_by(2).map(|at| u8::from_str_radix(&BOMB[at..at + 2], 16).unwrap()).collect();
    assert!(bytes.len() < 200);
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bytes.len());
    let server = Fake::saying([head.into_bytes(), bytes].concat());
    let (error, _) = failure(&server, Timeouts::default(), 10_000);
    assert!(matches!(error, NetError::TooLarge { limit_bytes: 10_000, .. }), "{error}");
}

#[test]
fn unusable_settings_are_refused_before_sending() {
    let mut options = ClientOptions::new("http://127.0.0.1:1");
    options.headers.push(("bad name".into(), Secret::new("v")));
    assert_eq!(Client::new(options).unwrap_err().kind(), "unusable");
    let options = ClientOptions::new("http://127.0.0.1:1").api_key(Some(Secret::new("line\nbreak")));
    let error = Client::new(options).unwrap_err();
    assert_eq!(error.kind(), "unusable");
    assert!(!error.to_string().contains("break"), "{error}");
}

/// Run as it is, and by `loopback_goes_past_the_proxy` in a process that has proxy variables.
#[test]
fn loopback_is_reached_directly() {
    let server = Fake::saying(json(ANSWER));
    for host in ["127.0.0.1", "localhost"] {
        let client = client(&format!("http://{host}:{}", server.address.port()));
        assert_eq!(client.chat(&question()).unwrap().body.text(), Some("4"));
    }
    if nightshift_core::env::Env::read().get("HTTP_PROXY").is_none() {
        return;
    }
    let error = client("http://198.51.100.7:9").chat(&question()).unwrap_err();
    assert!(error.to_string().contains("proxy server responded 418"), "others do use the proxy: {error}");
}

#[test]
fn loopback_goes_past_the_proxy() {
    let proxy = Fake::saying(response("418 proxy", ""));
    let mut child = Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url());
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.args(["--exact", "client::loopback_is_reached_directly"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
