//! A blocking client for OpenAI-compatible servers: one attempt per call.
//!
//! Retrying is the caller's business ([`crate::retry`]), because only the caller knows its
//! deadline, its stop signal and what it has paid for. Every received answer comes with its raw
//! text, so that it can be stored before it is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderName, HeaderValue, Response, header};
use ureq::{Agent, Body, RequestBuilder};

use super::request::ChatRequest;
use super::stream::ChatStream;
use super::{ADAPTER_HEADER, ChatResponse, GENERATION_HEADER, ModelList, REQUEST_ID_HEADER, Timeouts};
use crate::endpoint::Endpoint;
use crate::transport::{Started, agent, excerpt, status_error, text_header};
use crate::{NetError, Secret};

/// Largest answer read by default, after decompression.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `http://host:port`, with or without `/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<Secret>,
    /// Limits of each request.
    pub timeouts: Timeouts,
    /// Largest answer that is read.
    pub max_body_bytes: usize,
    /// Further headers of each request.
    pub headers: Vec<(String, Secret)>,
}

impl ClientOptions {
    /// No key, 10 s to connect, 60 s in all, answers up to 16 MiB.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            timeouts: Timeouts::default(),
            max_body_bytes: MAX_BODY_BYTES,
            headers: Vec::new(),
        }
    }

    /// With a key.
    #[must_use]
    pub fn api_key(mut self, key: Option<Secret>) -> Self {
        self.api_key = key.filter(|key| !key.is_empty());
        self
    }

    /// With other time limits.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }
}

/// An answer with what its headers say.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<T> {
    /// The answer.
    pub body: T,
    /// Exactly what was received, as text; empty for a stream.
    pub raw: String,
    /// HTTP status, 200-299.
    pub status: u16,
    /// The adapter named in the header; `none` when the base answered.
    pub adapter: Option<String>,
    /// Generation of the pointer named in the header.
    pub generation: Option<u64>,
    /// Id under which the server recorded the exchange.
    pub request_id: Option<String>,
    /// From sending to the last byte; to the headers for a stream.
    pub elapsed: Duration,
}

/// A client of one server. Clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    endpoint: Endpoint,
    secrets: Arc<[Secret]>,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeouts: Timeouts,
    max_body_bytes: usize,
}

impl Client {
    /// Prepares a client; nothing is sent.
    pub fn new(options: ClientOptions) -> Result<Self, NetError> {
        let endpoint = Endpoint::parse(&options.base_url)?;
        let mut headers = Vec::new();
        for (name, value) in &options.headers {
            headers.push((
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| NetError::Unusable(format!("`{name}` is not a header name")))?,
                sensitive(value.expose(), name)?,
            ));
        }
        if let Some(key) = &options.api_key {
            headers.push((header::AUTHORIZATION, sensitive(&format!("Bearer {}", key.expose()), "API key")?));
            if !endpoint.loopback && !endpoint.encrypted {
                tracing::warn!(server = endpoint.root, "the API key travels unencrypted; use https");
            }
        }
        let values = options.headers.into_iter().map(|(_, value)| value);
        Ok(Self {
            agent: agent(endpoint.loopback),
            endpoint,
            secrets: options.api_key.into_iter().chain(values).collect(),
            headers,
            timeouts: options.timeouts,
            max_body_bytes: options.max_body_bytes,
        })
    }

    /// The same client with another total time limit per request.
    #[must_use]
    pub fn with_total_timeout(&self, total: Duration) -> Self {
        let timeouts = Timeouts { total, connect: self.timeouts.connect.min(total), ..self.timeouts };
        Self { timeouts, ..self.clone() }
    }

    /// Scheme, host, port and prefix of the server, without `/v1`; safe to print.
    pub fn server(&self) -> &str {
        &self.endpoint.root
    }

    /// One attempt at a chat completion. `stream` is switched off.
    pub fn chat(&self, request: &ChatRequest) -> Result<Reply<ChatResponse>, NetError> {
        let request = ChatRequest { stream: false, stream_options: None, ..request.clone() };
        let url = format!("{}/chat/completions", self.endpoint.api);
        let reply = self.post::<_, ChatResponse>(&url, &request)?;
        if reply.body.choices.is_empty() {
            let reason = "`choices` is empty".to_owned();
            let body_excerpt = self.scrub(&excerpt(reply.raw.as_bytes()));
            return Err(NetError::BadBody { peer: url, reason, body_excerpt });
        }
        Ok(reply)
    }

    /// One attempt at a streamed chat completion; `stream` is switched on. The total time limit
    /// covers the whole stream.
    pub fn chat_stream(&self, request: &ChatRequest) -> Result<Reply<ChatStream>, NetError> {
        let request = ChatRequest { stream: true, ..request.clone() };
        let url = format!("{}/chat/completions", self.endpoint.api);
        let started = Started::new(self.timeouts.total);
        let response = self.send(&started, &url, Some(&request))?;
        let is_stream = text_header(response.headers(), header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !is_stream {
            let bytes = started.read_body(response.into_body(), self.max_body_bytes, &url)?;
            return Err(self.bad_body(&url, "expected an event stream".into(), &bytes));
        }
        let reply = Self::reply_of(&response, &started);
        let secrets = Arc::clone(&self.secrets);
        let stream = ChatStream::new(response.into_body(), started, url, self.max_body_bytes, secrets);
        Ok(reply.map(stream, String::new()))
    }

    /// The models and adapters the server offers.
    pub fn models(&self) -> Result<Reply<ModelList>, NetError> {
        let url = format!("{}/models", self.endpoint.api);
        self.get(&url)
    }

    /// GET of a path under the server's root (`/health`, `/v1/lora_adapters`), JSON expected.
    pub fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<Reply<T>, NetError> {
        self.get(&self.url(path))
    }

    /// GET of a path under the server's root, any text expected.
    pub fn get_text(&self, path: &str) -> Result<Reply<String>, NetError> {
        self.text(&self.url(path), None::<&()>)
    }

    /// POST of JSON to a path under the server's root, JSON expected.
    pub fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Reply<T>, NetError> {
        self.post(&self.url(path), body)
    }

    /// POST of JSON to a path under the server's root, any text expected (vLLM answers
    /// `load_lora_adapter` in plain text).
    pub fn post_text<B: Serialize>(&self, path: &str, body: &B) -> Result<Reply<String>, NetError> {
        self.text(&self.url(path), Some(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{}", self.endpoint.root, path.trim_start_matches('/'))
    }

    fn get<T: DeserializeOwned>(&self, url: &str) -> Result<Reply<T>, NetError> {
        let reply = self.text(url, None::<&()>)?;
        self.parse(url, reply)
    }

    fn post<B: Serialize, T: DeserializeOwned>(&self, url: &str, body: &B) -> Result<Reply<T>, NetError> {
        let reply = self.text(url, Some(body))?;
        self.parse(url, reply)
    }

    fn parse<T: DeserializeOwned>(&self, url: &str, mut reply: Reply<String>) -> Result<Reply<T>, NetError> {
        let raw = std::mem::take(&mut reply.body);
        let mut json = serde_json::Deserializer::from_str(&raw);
        let parsed = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| error.to_string())
            .and_then(|value| json.end().map(|()| value).map_err(|error| error.to_string()));
        match parsed {
            Ok(value) => Ok(reply.map(value, raw)),
            Err(reason) => Err(self.bad_body(url, reason, raw.as_bytes())),
        }
    }

    fn text<B: Serialize>(&self, url: &str, body: Option<&B>) -> Result<Reply<String>, NetError> {
        let started = Started::new(self.timeouts.total);
        let response = self.send(&started, url, body)?;
        let mut reply = Self::reply_of(&response, &started);
        let bytes = started.read_body(response.into_body(), self.max_body_bytes, url)?;
        reply.elapsed = started.elapsed();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(reply.map(text, String::new())),
            Err(error) => Err(self.bad_body(url, "it is not UTF-8".into(), error.as_bytes())),
        }
    }

    /// Sends one request and returns its 2xx response; any other status is an error.
    fn send<B: Serialize>(
        &self,
        started: &Started,
        url: &str,
        body: Option<&B>,
    ) -> Result<Response<Body>, NetError> {
        let sent = match body {
            Some(body) => {
                let json = serde_json::to_vec(body)
                    .map_err(|error| NetError::Unusable(format!("the request is not JSON: {error}")))?;
                self.prepare(self.agent.post(url)).content_type("application/json").send(&json[..])
            }
            None => self.prepare(self.agent.get(url)).call(),
        };
        let response = sent.map_err(|error| started.explain(error, url))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(match status_error(response, url) {
            NetError::Status { peer, code, retry_after, body_excerpt } => {
                NetError::Status { peer, code, retry_after, body_excerpt: self.scrub(&body_excerpt) }
            }
            other => other,
        })
    }

    fn prepare<Any>(&self, request: RequestBuilder<Any>) -> RequestBuilder<Any> {
        let with_limits = request
            .config()
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_global(Some(self.timeouts.total))
            .timeout_per_read(self.timeouts.idle)
            .build();
        self.headers.iter().fold(with_limits, |request, (name, value)| request.header(name, value))
    }

    fn reply_of(response: &Response<Body>, started: &Started) -> Reply<()> {
        let headers = response.headers();
        Reply {
            body: (),
            raw: String::new(),
            status: response.status().as_u16(),
            adapter: text_header(headers, ADAPTER_HEADER),
            generation: text_header(headers, GENERATION_HEADER).and_then(|text| text.parse().ok()),
            request_id: text_header(headers, REQUEST_ID_HEADER),
            elapsed: started.elapsed(),
        }
    }

    fn bad_body(&self, url: &str, reason: String, bytes: &[u8]) -> NetError {
        let body_excerpt = self.scrub(&excerpt(bytes));
        NetError::BadBody { peer: url.to_owned(), reason, body_excerpt }
    }

    fn scrub(&self, text: &str) -> String {
        scrub_all(&self.secrets, text)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.endpoint.root)
            .field("secrets", &self.secrets)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

impl<T> Reply<T> {
    /// The same reply around another body.
    fn map<U>(self, body: U, raw: String) -> Reply<U> {
        Reply {
            body,
            raw,
            status: self.status,
            adapter: self.adapter,
            generation: self.generation,
            request_id: self.request_id,
            elapsed: self.elapsed,
        }
    }
}

/// `text` without any of the secrets.
pub(super) fn scrub_all(secrets: &[Secret], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| secret.scrub(&text))
}

fn sensitive(value: &str, name: &str) -> Result<HeaderValue, NetError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        NetError::Unusable(format!("the value of {name} holds characters no header can carry"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}
