//! The one blocking HTTP transport: agents, limits, and what its errors mean.
//!
//! No redirect is followed (a key must not travel to another place); statuses are returned,
//! not raised; bodies are limited after decompression, so a compressed bomb stays small.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body, Timeout};

use crate::{NetError, RetryAfter};

/// Characters of a body that a message shows.
const EXCERPT_CHARS: usize = 300;
/// Bytes of an error body that are looked at.
const ERROR_BODY_BYTES: u64 = 64 * 1024;

/// Time limits of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS.
    pub connect: Duration,
    /// The whole exchange, the last byte of the body included.
    pub total: Duration,
    /// The longest silence while reading; `None` leaves it to `total`.
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    /// 10 s to connect, 60 s in all.
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), total: Duration::from_secs(60), idle: None }
    }
}

/// A connection pool. Loopback hosts never go through a proxy; others follow the usual proxy
/// variables of the operating system.
pub(crate) fn agent(loopback: bool) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("nightshift/", env!("CARGO_PKG_VERSION")));
    if loopback { config.proxy(None) } else { config }.build().into()
}

/// When the limits of a request run out, counted from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    at: Instant,
    total: Duration,
}

impl Started {
    pub(crate) fn new(total: Duration) -> Self {
        Self { at: Instant::now(), total }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// What a transport error means.
    pub(crate) fn explain(&self, error: ureq::Error, peer: &str) -> NetError {
        let peer = peer.to_owned();
        match error {
            ureq::Error::Timeout(which) => NetError::Timeout { peer, phase: self.phase(which) },
            ureq::Error::Io(error) => explain_io(&error, peer),
            ureq::Error::HostNotFound => NetError::Connect { peer, reason: "no such host".into() },
            ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
                NetError::Connect { peer, reason: error.to_string() }
            }
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => {
                NetError::Unusable(format!("no secure connection to {peer}: {error}"))
            }
            ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                NetError::Unusable(format!("the request to {peer} cannot be built: {error}"))
            }
            // Only its own text could repeat a secret URL.
            ureq::Error::BadUri(_) => NetError::Unusable(format!("the URL of {peer} is not usable")),
            other => NetError::Broken { peer, reason: other.to_string() },
        }
    }

    /// ureq names the innermost limit that was armed; the reader wants to know which of ours it was.
    fn phase(&self, which: Timeout) -> &'static str {
        match which {
            Timeout::PerRead | Timeout::PerWrite if self.at.elapsed() < self.total => "idle",
            Timeout::Connect | Timeout::Resolve => "connect",
            _ => "total",
        }
    }

    /// The whole body, at most `limit` bytes of it after decompression.
    pub(crate) fn read_body(&self, body: Body, limit: usize, peer: &str) -> Result<Vec<u8>, NetError> {
        let mut bytes = Vec::new();
        body.into_reader()
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.explain(error.into(), peer))?;
        if bytes.len() > limit {
            return Err(NetError::TooLarge { peer: peer.to_owned(), limit_bytes: limit });
        }
        Ok(bytes)
    }
}

/// What an error of a socket means.
fn explain_io(error: &io::Error, peer: String) -> NetError {
    use io::ErrorKind as Kind;
    let reason = error.to_string();
    match error.kind() {
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::AddrNotAvailable => NetError::Connect { peer, reason },
        Kind::TimedOut | Kind::WouldBlock => NetError::Timeout { peer, phase: "total" },
        _ => NetError::Broken { peer, reason },
    }
}

/// The error for an answer whose status is not 2xx; whatever can be read of the body explains it.
pub(crate) fn status_error(response: Response<Body>, peer: &str) -> NetError {
    let code = response.status().as_u16();
    let retry_after = text_header(response.headers(), header::RETRY_AFTER.as_str()).and_then(|value| {
        RetryAfter::parse(&value, text_header(response.headers(), header::DATE.as_str()).as_deref())
    });
    let location = text_header(response.headers(), header::LOCATION.as_str());
    let mut bytes = Vec::new();
    // A body that breaks off still explains the status.
    let _ = response.into_body().into_reader().take(ERROR_BODY_BYTES).read_to_end(&mut bytes);
    let body_excerpt = match location {
        Some(_) if (300..400).contains(&code) => {
            "it redirects, which is not followed; set the final address".to_owned()
        }
        _ => error_message(&bytes).unwrap_or_else(|| excerpt(&bytes)),
    };
    NetError::Status { peer: peer.to_owned(), code, retry_after, body_excerpt }
}

/// A header as text.
pub(crate) fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
}

/// The message in an error object of the usual shapes: `{"error": {"message"}}`, `{"error": ""}`,
/// `{"message"}`, `{"detail"}`.
pub(crate) fn error_message(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let found =
        [value.pointer("/error/message"), value.get("error"), value.get("message"), value.get("detail")];
    let message = found.into_iter().flatten().find_map(serde_json::Value::as_str)?;
    Some(excerpt(message.as_bytes()))
}

/// The first characters of a body on one line, for messages.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(EXCERPT_CHARS * 8)];
    let text = String::from_utf8_lossy(head);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() {
        return "(empty body)".to_owned();
    }
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_are_found_in_the_usual_shapes() {
        for (body, message) in [
            (r#"{"error":{"message":"no such model","code":null}}"#, Some("no such model")),
            (r#"{"error":"overloaded"}"#, Some("overloaded")),
            (r#"{"detail":"Not Found"}"#, Some("Not Found")),
            (r#"{"object":"error","message":"flat"}"#, Some("flat")),
            ("<html>", None),
            ("[]", None),
        ] {
            assert_eq!(error_message(body.as_bytes()).as_deref(), message, "{body}");
        }
    }

    #[test]
    fn excerpts_are_short_single_lines() {
        assert_eq!(excerpt(b" a\n\tb\x1b[31m "), "a b[31m");
        assert_eq!(excerpt(b""), "(empty body)");
        assert_eq!(excerpt("é".repeat(5000).as_bytes()).chars().count(), 301);
    }
}
