use std::io::Write;
use std::time::Duration;

use nightshift_net::NetError;
use nightshift_net::openai::{ChatChunk, Client, ClientOptions, Timeouts};

use crate::client::{client, question};
use crate::fake::{Fake, Script, json, response};

fn piece(text: &str) -> String {
    format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text:?}}}}}]}}\n\n")
}

fn streamed(body: &str) -> Vec<u8> {
    response("200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-nightshift-adapter: a", body)
}

/// The text received, and the error that ended the stream.
fn read(server: &Fake) -> (String, Option<NetError>) {
    let reply = client(&server.url()).chat_stream(&question()).unwrap();
    assert_eq!(reply.adapter.as_deref(), Some("a"));
    let (mut text, mut last) = (String::new(), None);
    for item in reply.body {
        assert!(last.is_none(), "nothing follows an error");
        match item {
            Ok(chunk) => text.push_str(&content(&chunk)),
            Err(error) => last = Some(error),
        }
    }
    (text, last)
}

fn content(chunk: &ChatChunk) -> String {
    chunk.choices.iter().filter_map(|choice| choice.delta.content.clone()).collect()
}

#[test]
fn a_whole_stream_is_read_however_it_is_cut() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n";
    let body = format!(": hello\n\n{}{}{usage}data: [DONE]\n\nignored", piece("Grü"), piece("ße \u{1f600}"));
    for script in [Script::Say(streamed(&body)), Script::Drip(streamed(&body), Duration::from_micros(100))] {
        let server = Fake::new(vec![script]);
        assert_eq!(read(&server), ("Grüße \u{1f600}".into(), None));
        assert!(server.requests()[0].ends_with("\"stream\":true}"), "{}", server.requests()[0]);
    }
}

#[test]
fn a_stream_without_done_is_cut() {
    let (text, error) = read(&Fake::saying(streamed(&piece("half"))));
    assert_eq!(text, "half");
    assert_eq!(error.unwrap().kind(), "broken");
}

#[test]
fn an_error_inside_a_stream_is_said() {
    let body =
        format!("{}data: {{\"error\":{{\"message\":\"out of memory\"}}}}\n\ndata: [DONE]\n\n", piece("a"));
    let (text, error) = read(&Fake::saying(streamed(&body)));
    assert_eq!(text, "a");
    assert!(matches!(error, Some(NetError::Upstream { message, .. }) if message == "out of memory"));
}

#[test]
fn broken_events_and_plain_answers_are_bad() {
    let (_, error) = read(&Fake::saying(streamed("data: {\"choices\":[\n\n")));
    assert_eq!(error.unwrap().kind(), "bad_body");
    let server = Fake::saying(json("{\"choices\":[]}"));
    let error = client(&server.url()).chat_stream(&question()).unwrap_err();
    assert!(error.to_string().contains("expected an event stream"), "{error}");
}

#[test]
fn a_stalled_or_endless_stream_ends() {
    let mut head = Vec::new();
    write!(head, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{}", piece("a")).unwrap();
    let timeouts = Timeouts { idle: Some(Duration::from_millis(100)), ..Timeouts::default() };
    let mut options = ClientOptions::new("").timeouts(timeouts);
    options.max_body_bytes = 50_000;
    for (script, kind) in [
        (Script::Stall(head.clone()), "timeout"),
        (Script::Endless(head.clone(), b": comment\n".to_vec()), "too_large"),
        (Script::Endless(head, b"data: more and more".to_vec()), "too_large"),
    ] {
        let server = Fake::new(vec![script]);
        options.base_url = server.url();
        let reply = Client::new(options.clone()).unwrap().chat_stream(&question()).unwrap();
        let items: Vec<_> = reply.body.collect();
        assert_eq!(items.len(), 2);
        assert_eq!(items[1].as_ref().unwrap_err().kind(), kind);
    }
}
