//! The client of our own server: health, loading, and questions that name who answered.
//!
//! One attempt per call, as in [`crate::openai`]; who needs patience brings a [`crate::retry::Policy`].

use std::path::Path;
use std::time::Duration;

use nightshift_core::clock::Clock;
use nightshift_core::{Ctx, Failure, env, interaction};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::openai::{ChatRequest, Client, ClientOptions, Message, Reply, Role, Timeouts};
use crate::{NetError, Secret};

/// Header that says whose traffic a request is.
pub const KIND_HEADER: &str = "x-nightshift-kind";
/// How often a waiting program looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a server that does not answer at all is asked again.
const DOWN_PATIENCE: Duration = Duration::from_millis(300);
/// Limit of one look at `/health`.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);
/// Limit of loading or unloading an adapter.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// `GET /health` of a server that is ready.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Health {
    /// `healthy`.
    pub status: String,
    /// Name of the served model.
    #[serde(default)]
    pub target: String,
    /// Fingerprint of the base model.
    #[serde(default)]
    pub base_fingerprint: String,
    /// Generation of the pointer that it serves.
    #[serde(default)]
    pub generation: i64,
    /// The live adapter; absent for the base model.
    #[serde(default)]
    pub adapter: Option<String>,
}

impl Health {
    /// True when it serves this adapter under this generation or a later one.
    pub fn serves(&self, generation: i64, adapter: Option<&str>) -> bool {
        self.generation >= generation && named(self.adapter.as_deref()) == adapter
    }
}

/// Whose traffic a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The gate's.
    Gate,
    /// A probe.
    Probe,
}

/// An answer and who gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Id of the recorded exchange.
    pub id: String,
    /// The text.
    pub text: String,
    /// The adapter it came from; `None` for the base model.
    pub adapter: Option<String>,
    /// Generation of the pointer, where the pointer chose.
    pub generation: Option<i64>,
    /// From sending to the last byte.
    pub elapsed: Duration,
    /// Tokens written, where the server says so.
    pub tokens: Option<u64>,
}

/// Whether the server serves what the pointer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Following {
    /// It does.
    Yes,
    /// It answers, but serves something else.
    No(String),
    /// It does not answer.
    Down(String),
}

/// The server of this home.
#[derive(Debug, Clone)]
pub struct LiveServer {
    admin: Client,
    gate: Client,
    probe: Client,
    target: String,
}

impl LiveServer {
    /// The server that `deploy.server_url`, else `serve.listen`, names. Nothing is sent. `limit` is the
    /// time one question may take.
    pub fn new(ctx: &Ctx, limit: Duration) -> Result<Self, Failure> {
        let config = &ctx.config;
        let url = config.deploy.server_url.clone().unwrap_or_else(|| {
            // A server that listens everywhere is reached here.
            format!("http://{}", config.serve.listen.replace("0.0.0.0", "127.0.0.1"))
        });
        let key = ctx.env.get(env::NIGHTSHIFT_ADMIN_KEY).map(Secret::new);
        let client = |kind: Option<&str>| {
            let timeouts = Timeouts { connect: HEALTH_LIMIT, total: limit, idle: None };
            let mut options = ClientOptions::new(&url).api_key(key.clone()).timeouts(timeouts);
            options.headers.extend(kind.map(|kind| (KIND_HEADER.to_owned(), Secret::new(kind))));
            Client::new(options).map_err(|error| {
                Failure::config(format!("the server's address `{url}` cannot be used"))
                    .hint("set deploy.server_url or serve.listen")
                    .because(error)
            })
        };
        Ok(Self {
            admin: client(None)?,
            gate: client(Some("gate"))?,
            probe: client(Some("probe"))?,
            target: config.target.clone(),
        })
    }

    /// The same server, asked with another time limit for one question.
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self {
            gate: self.gate.with_total_timeout(limit),
            probe: self.probe.with_total_timeout(limit),
            ..self.clone()
        }
    }

    /// Where it is; safe to print.
    pub fn address(&self) -> &str {
        self.admin.server()
    }

    /// What it says of itself.
    pub fn health(&self) -> Result<Health, NetError> {
        self.admin.with_total_timeout(HEALTH_LIMIT).get_json("/health").map(|reply: Reply<Health>| reply.body)
    }

    /// Loads a release folder under its adapter's name; loading it again does nothing.
    pub fn load(&self, adapter: &str, folder: &Path) -> Result<(), NetError> {
        let body = json!({"lora_name": adapter, "lora_path": folder});
        self.admin.with_total_timeout(LOAD_LIMIT).post_text("/v1/load_lora_adapter", &body).map(|_| ())
    }

    /// Forgets an adapter.
    pub fn unload(&self, adapter: &str) -> Result<(), NetError> {
        let body = json!({"lora_name": adapter});
        self.admin.with_total_timeout(LOAD_LIMIT).post_text("/v1/unload_lora_adapter", &body).map(|_| ())
    }

    /// Asks greedily. `model` names an adapter or `base`; `None` asks whatever is live.
    pub fn ask(
        &self,
        kind: Kind,
        model: Option<&str>,
        messages: &[interaction::Message],
        max_tokens: u32,
    ) -> Result<Answer, NetError> {
        let mut request = ChatRequest::new(model.unwrap_or(&self.target), wire(messages)?);
        request.temperature = Some(0.0);
        request.max_tokens = Some(max_tokens);
        let client = match kind {
            Kind::Gate => &self.gate,
            Kind::Probe => &self.probe,
        };
        let reply = client.chat(&request)?;
        let said = reply.body.nightshift.as_ref().and_then(|said| said.adapter.clone());
        Ok(Answer {
            id: reply.body.id.strip_prefix("chatcmpl-").unwrap_or(&reply.body.id).to_owned(),
            text: reply.body.text().unwrap_or_default().to_owned(),
            adapter: named(reply.adapter.or(said).as_deref()).map(str::to_owned),
            generation: reply.generation.and_then(|generation| i64::try_from(generation).ok()),
            elapsed: reply.elapsed,
            tokens: reply.body.usage.map(|usage| usage.completion_tokens),
        })
    }

    /// Waits until `/health` names this adapter under this generation; a server that does not answer at
    /// all is not waited for.
    pub fn wait_until_it_follows(
        &self,
        clock: &Clock,
        patience: Duration,
        generation: i64,
        adapter: Option<&str>,
    ) -> Following {
        let start = clock.elapsed();
        let end = start + patience;
        loop {
            let seen = match self.health() {
                Ok(health) if health.serves(generation, adapter) => return Following::Yes,
                Ok(health) => Following::No(format!(
                    "it serves {} under generation {}",
                    health.adapter.as_deref().unwrap_or("no adapter"),
                    health.generation
                )),
                Err(error) if error.status().is_some() => Following::No(error.to_string()),
                Err(error) => Following::Down(error.to_string()),
            };
            let end = if matches!(seen, Following::Down(_)) { end.min(start + DOWN_PATIENCE) } else { end };
            if clock.elapsed() >= end {
                return seen;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The adapter a server names; `none` and `base` stand for no adapter.
fn named(adapter: Option<&str>) -> Option<&str> {
    adapter.filter(|name| !matches!(*name, "none" | "base" | ""))
}

fn wire(messages: &[interaction::Message]) -> Result<Vec<Message>, NetError> {
    let role = |message: &interaction::Message| -> Result<Role, NetError> {
        serde_json::from_value(Value::String(message.role.clone()))
            .map_err(|_| NetError::Unusable(format!("`{}` is not a role of a message", message.role)))
    };
    messages.iter().map(|message| Ok(Message::new(role(message)?, message.content.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_and_base_are_the_base_model() {
        assert_eq!((named(Some("none")), named(Some("base")), named(None)), (None, None, None));
        assert_eq!(named(Some("20260301-abc")), Some("20260301-abc"));
        let health: Health =
            serde_json::from_value(json!({"status": "healthy", "generation": 3, "adapter": "x"})).unwrap();
        assert!(health.serves(3, Some("x")) && health.serves(2, Some("x")));
        assert!(!health.serves(4, Some("x")) && !health.serves(3, None));
    }

    #[test]
    fn a_role_that_is_none_is_named() {
        let message = interaction::Message { role: "wizard".into(), content: String::new() };
        assert!(wire(&[message]).unwrap_err().to_string().contains("wizard"));
    }
}
