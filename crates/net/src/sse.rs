//! Server-sent events: the response a server streams, and the parser a client reads with.
//!
//! A producer that dies ends the stream without `[DONE]`: readers take that as a cut answer.
//! Parsing follows the WHATWG HTML standard, section 9.2.6 (event streams).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::response::sse::{Event as AxumEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// Data of the last event of a complete stream.
pub const DONE: &str = "[DONE]";

/// How often a silent stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a producer puts into the channel of [`respond`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The data of one event.
    Data(String),
    /// The answer is complete: `data: [DONE]`, and the stream ends.
    Done,
}

impl Frame {
    /// One event that holds a value as JSON.
    pub fn json<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::Data)
    }
}

/// The response that streams what arrives in `frames` until [`Frame::Done`]. When the client goes
/// away the receiver is dropped, so the producer's next send fails: its signal to stop.
pub fn respond(frames: mpsc::Receiver<Frame>) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let mut response =
        Sse::new(Frames { receiver: frames, done: false }).keep_alive(keep_alive).into_response();
    // nginx would otherwise hold events back until its buffer is full.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The channel as a stream of events. It ends right after `Done`, even while a sender lives on.
struct Frames {
    receiver: mpsc::Receiver<Frame>,
    done: bool,
}

impl Stream for Frames {
    type Item = Result<AxumEvent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|frame| {
            let data = match frame? {
                Frame::Data(data) => data,
                Frame::Done => {
                    self.done = true;
                    DONE.to_owned()
                }
            };
            Some(Ok(AxumEvent::default().data(data)))
        })
    }
}

/// One received event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type; `None` is `message`.
    pub name: Option<String>,
    /// Its data, lines joined by newlines.
    pub data: String,
}

/// An event larger than the parser's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is too long")]
pub struct TooLong;

/// Turns bytes, cut anywhere, into events. Lines end with LF, CR or CRLF; comments, ids and
/// retry times are skipped; an event that no blank line ends is not reported.
#[derive(Debug)]
pub struct Parser {
    line: Vec<u8>,
    data: Option<String>,
    name: Option<String>,
    after_cr: bool,
    first_line: bool,
    limit: usize,
}

impl Parser {
    /// A parser that refuses events of more than `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { line: Vec::new(), data: None, name: None, after_cr: false, first_line: true, limit }
    }

    /// Takes the next bytes and returns the events they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => {
                    if self.line.len() + self.data.as_ref().map_or(0, String::len) >= self.limit {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let mut line = text.as_ref();
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let name = self.name.take();
            return self.data.take().map(|data| Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => self.name = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\r\ndata: {\"a\":\"\u{e9}\u{1f600}\"}\r\n\r\nevent: x\rdata: one\rdata:two\rdata\r\rid: 7\nretry: 3\n\ndata:  [DONE]\n\ndata: cut";

    fn all(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Event> {
        let mut parser = Parser::new(1 << 20);
        chunks.flat_map(|chunk| parser.push(&chunk).unwrap()).collect()
    }

    #[test]
    fn cuts_change_nothing() {
        let event = |name: Option<&str>, data: &str| Event { name: name.map(Into::into), data: data.into() };
        let expected = vec![
            event(None, "{\"a\":\"\u{e9}\u{1f600}\"}"),
            event(Some("x"), "one\ntwo\n"),
            event(None, " [DONE]"),
        ];
        for size in 1..STREAM.len() {
            assert_eq!(all(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)), expected, "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::new(100);
        assert_eq!(parser.push(&[b'x'; 101]), Err(TooLong));
        let mut parser = Parser::new(100);
        let many = "data: 0123456789\n".repeat(20);
        assert_eq!(parser.push(many.as_bytes()), Err(TooLong));
    }
}
