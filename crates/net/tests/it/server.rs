use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Query};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use nightshift_net::auth::AdminGate;
use nightshift_net::openai::{ChatChunk, ChatRequest, Client, ClientOptions, ErrorBody};
use nightshift_net::server::{
    ApiError, ApiJson, Drained, ServerError, Shutdown, bind, scaffold, serve_blocking, with_timeout,
};
use nightshift_net::sse::{Frame, respond};
use tokio::sync::mpsc;

use crate::client::question;

const BODY_LIMIT: usize = 10_000;

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<Drained>>,
}

impl Server {
    fn new(router: Router, drain: Duration) -> Self {
        let listener = bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let router = scaffold(router, BODY_LIMIT);
        let thread = Some(thread::spawn(move || serve_blocking(listener, router, stop, drain, 2).unwrap()));
        Self { address, shutdown, thread }
    }

    fn client(&self) -> Client {
        Client::new(ClientOptions::new(format!("http://{}", self.address))).unwrap()
    }

    /// Sends raw bytes; the whole response as text.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Status and error object of a request that must fail.
    fn refused(&self, request: &str) -> (u16, ErrorBody) {
        let text = self.raw(request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{text}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    fn stop(mut self) -> Drained {
        self.shutdown.fire();
        self.thread.take().unwrap().join().unwrap()
    }
}

fn post_json(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn plain(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
}

async fn chat(ApiJson(request): ApiJson<ChatRequest>) -> Result<String, ApiError> {
    request.check()?;
    Ok(request.messages[0].content.clone())
}

async fn admin(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<&'static str, ApiError> {
    AdminGate::default().check(peer, &headers).map(|()| "in")
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

fn routes() -> Router {
    let slow = Router::new().route(
        "/slow",
        get(|| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }),
    );
    Router::new()
        .route("/chat", post(chat))
        .route("/admin", get(admin))
        .route("/panic", get(panics))
        .route("/query", get(|Query(n): Query<[(String, u32); 1]>| async move { n[0].1.to_string() }))
        .merge(with_timeout(slow, Duration::from_millis(50)))
}

#[test]
fn every_error_is_an_error_object() {
    let server = Server::new(routes(), Duration::from_secs(1));
    let broken = post_json("/chat", r#"{"model": "m", "messages": ["#);
    let typed = post_json(
        "/chat",
        r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"x","content":"b"}]}"#,
    );
    let ranged =
        post_json("/chat", r#"{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":9}"#);
    let form = "POST /chat HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}";
    for (request, status, kind, message, param) in [
        (broken.as_str(), 400, "invalid_request_error", "not valid JSON: EOF while parsing a list", None),
        (&post_json("/chat", ""), 400, "invalid_request_error", "the body is empty", None),
        (&post_json("/chat", "{} {}"), 400, "invalid_request_error", "missing field `messages`", None),
        (
            &typed,
            400,
            "invalid_request_error",
            "unknown variant `x`, expected one of",
            Some("messages[1].role"),
        ),
        (&ranged, 400, "invalid_request_error", "`temperature` must be between 0 and 2", Some("temperature")),
        (form, 415, "invalid_request_error", "application/json", None),
        (&plain("GET", "/nothing"), 404, "not_found_error", "there is no `/nothing` here", None),
        (&plain("PUT", "/chat"), 405, "invalid_request_error", "`/chat` does not take PUT", None),
        (&plain("GET", "/query?a=b"), 400, "invalid_request_error", "query", None),
        (&plain("GET", "/panic"), 500, "server_error", "the server made a mistake", None),
        (&plain("GET", "/slow"), 504, "timeout_error", "no answer within 0.05 s", None),
    ] {
        let (code, body) = server.refused(request);
        assert_eq!((code, body.error.kind.as_deref()), (status, Some(kind)), "{request} {body:?}");
        assert!(body.error.message.contains(message), "{request} {body:?}");
        assert_eq!(body.error.param.as_deref(), param, "{body:?}");
    }
    assert!(server.raw(&plain("PUT", "/chat")).to_ascii_lowercase().contains("\r\nallow: post\r\n"));
    let good = post_json("/chat", r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);
    assert!(server.raw(&good).ends_with("\r\n\r\na"), "the server still answers");
}

#[test]
fn a_body_over_the_limit_is_413_and_the_client_sees_it() {
    let server = Server::new(routes(), Duration::from_secs(1));
    let fits = "x".repeat(BODY_LIMIT - 100);
    let good = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{fits}"}}]}}"#);
    assert!(good.len() <= BODY_LIMIT && server.raw(&post_json("/chat", &good)).ends_with(&fits));
    // More than the socket buffers hold, so the server must read on for the answer to arrive.
    let (code, body) = server.refused(&post_json("/chat", &"x".repeat(8_000_000)));
    assert_eq!(code, 413);
    assert!(body.error.message.contains("larger than 10000 bytes"), "{body:?}");
    let chunked = format!(
        "POST /chat HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        20_000,
        "x".repeat(20_000)
    );
    assert_eq!(server.refused(&chunked).0, 413);
}

#[test]
fn retry_after_and_codes_reach_the_client() {
    let busy = get(|| async {
        ApiError::unavailable("loading", Duration::from_millis(1500)).code("lora_load_busy")
    });
    let server = Server::new(Router::new().route("/busy", busy), Duration::from_secs(1));
    let error = server.client().get_text("/busy").unwrap_err();
    assert_eq!((error.status(), error.is_transient()), (Some(503), true));
    assert_eq!(
        error.retry_after().unwrap().wait("2026-01-01T00:00:00Z".parse().unwrap()),
        Duration::from_secs(2)
    );
    assert_eq!(server.refused(&plain("GET", "/busy")).1.error.code, Some("lora_load_busy".into()));
}

#[test]
fn admin_endpoints_know_their_peer() {
    let server = Server::new(routes(), Duration::from_secs(1));
    assert_eq!(server.client().get_text("/admin").unwrap().body, "in");
    let rebound = plain("GET", "/admin").replace("localhost", "evil.example");
    assert_eq!(server.refused(&rebound).0, 403);
}

#[test]
fn a_port_in_use_is_named() {
    let held = bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let error = bind(&address).unwrap_err();
    assert!(matches!(&error, ServerError::InUse { address: named } if *named == address));
    assert!(error.to_string().contains(&address) && error.to_string().contains("already in use"), "{error}");
    for bad in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "198.51.100.1:0"] {
        assert!(matches!(bind(bad).unwrap_err(), ServerError::Bind { address, .. } if address == bad));
    }
}

#[test]
fn requests_under_way_are_finished() {
    let started = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&started);
    let route = get(move || async move {
        seen.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        "whole"
    });
    let server = Server::new(Router::new().route("/", route), Duration::from_secs(10));
    let client = server.client();
    let request = thread::spawn(move || client.get_text("/").unwrap().body);
    while !started.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    let (address, start) = (server.address, Instant::now());
    assert_eq!(server.stop(), Drained::Clean);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(request.join().unwrap(), "whole");
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}

#[test]
fn draining_has_a_limit() {
    let server = Server::new(
        Router::new().route("/", get(|| async { tokio::time::sleep(Duration::from_secs(60)).await })),
        Duration::from_millis(100),
    );
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(plain("GET", "/").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(server.stop(), Drained::Cut);
    assert!(start.elapsed() < Duration::from_secs(3));
    idle.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let closed = match idle.read(&mut [0; 10]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(closed, "the connection outlived the server");
}

/// A route that hands its frame sender to `produce` on a thread.
fn streaming(produce: fn(mpsc::Sender<Frame>)) -> Router {
    Router::new().route(
        "/v1/chat/completions",
        post(move || async move {
            let (frames, receiver) = mpsc::channel(2);
            thread::spawn(move || produce(frames));
            respond(receiver)
        }),
    )
}

fn frame(text: &str) -> Frame {
    let mut chunk =
        ChatChunk { choices: vec![nightshift_net::openai::ChunkChoice::default()], ..ChatChunk::default() };
    chunk.choices[0].delta.content = Some(text.into());
    Frame::json(&chunk).unwrap()
}

#[test]
fn a_stream_ends_with_done_even_while_a_sender_lives() {
    let server = Server::new(
        streaming(|frames| {
            for text in ["a\nb", "\r\n", "ü"] {
                frames.blocking_send(frame(text)).unwrap();
            }
            frames.blocking_send(Frame::Done).unwrap();
            thread::sleep(Duration::from_secs(3));
        }),
        Duration::from_secs(1),
    );
    let start = Instant::now();
    let raw = server.raw(&post_json("/v1/chat/completions", "{}"));
    assert!(start.elapsed() < Duration::from_secs(2), "the stream waited for the sender");
    assert!(
        raw.contains("data: [DONE]\n\n") && raw.to_ascii_lowercase().contains("text/event-stream"),
        "{raw}"
    );
    let stream = server.client().chat_stream(&question()).unwrap().body;
    let text: String = stream.map(|chunk| chunk.unwrap().choices[0].delta.content.clone().unwrap()).collect();
    assert_eq!(text, "a\nb\r\nü");
}

#[test]
fn a_producer_that_dies_leaves_a_cut_stream() {
    let server =
        Server::new(streaming(|frames| frames.blocking_send(frame("half")).unwrap()), Duration::from_secs(1));
    let items: Vec<_> = server.client().chat_stream(&question()).unwrap().body.collect();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].as_ref().unwrap_err().kind(), "broken");
}

static NOTICED: AtomicBool = AtomicBool::new(false);

#[test]
fn a_client_that_leaves_stops_the_producer() {
    let server = Server::new(
        streaming(|frames| {
            while frames.blocking_send(frame("on and on")).is_ok() {}
            NOTICED.store(true, Ordering::SeqCst);
        }),
        Duration::from_secs(1),
    );
    let mut stream = server.client().chat_stream(&question()).unwrap().body;
    assert!(stream.next().unwrap().is_ok());
    drop(stream);
    let start = Instant::now();
    while !NOTICED.load(Ordering::SeqCst) {
        assert!(start.elapsed() < Duration::from_secs(5), "the producer never learnt it");
        thread::sleep(Duration::from_millis(5));
    }
}
