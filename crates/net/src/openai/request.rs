//! What a client asks: chat and plain completion requests.
//!
//! Unknown fields are ignored. Reading checks types and names the field; [`ChatRequest::check`]
//! and [`CompletionRequest::check`] check ranges.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields;

/// Most alternatives per token, as at OpenAI.
const MAX_TOP_LOGPROBS: u32 = 20;
/// Most stop strings, as at OpenAI.
const MAX_STOPS: usize = 4;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions under their newer name.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

impl Role {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text. On the wire a string, a list of text parts (joined by newlines) or null (empty).
    #[serde(deserialize_with = "fields::content")]
    pub content: String,
    /// A name for the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message without a name.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), name: None }
    }

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// An assistant message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
}

/// What a stream carries besides the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// A last chunk without choices that holds the usage.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub include_usage: bool,
}

/// The form the answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The schema object of OpenAI, with `json_schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
}

impl ResponseFormat {
    /// Any JSON object.
    pub fn json_object() -> Self {
        Self { kind: "json_object".into(), json_schema: None }
    }

    /// True when the answer must be valid JSON.
    pub fn wants_json(&self) -> bool {
        self.kind != "text"
    }
}

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model id; for `serve` the base, an adapter or the live alias.
    #[serde(default)]
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Most tokens of the answer (older name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Most tokens of the answer (newer name, which wins).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u32>,
    /// Sampling temperature, 0-2; 0 is greedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Random seed of the sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Strings that end the answer.
    #[serde(default, deserialize_with = "fields::strings", skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Answer as an event stream.
    #[serde(default, deserialize_with = "fields::null_is_default", skip_serializing_if = "is_false")]
    pub stream: bool,
    /// What a stream carries besides the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Log-probabilities of the answer's tokens.
    #[serde(default, deserialize_with = "fields::null_is_default", skip_serializing_if = "is_false")]
    pub logprobs: bool,
    /// Alternatives per token, 0-20; needs `logprobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
    /// The form the answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Answers per request; only 1 is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// The end user, hashed before it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Free labels of the request; `serve` records them as tags.
    #[serde(
        default,
        deserialize_with = "fields::null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub metadata: BTreeMap<String, String>,
}

impl ChatRequest {
    /// A request with every option left to the server.
    pub fn new(model: impl Into<String>, messages: Vec<Message>) -> Self {
        Self { model: model.into(), messages, ..Self::default() }
    }

    /// The limit on answer tokens, under either name.
    pub fn answer_limit(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// True when the answer must be valid JSON.
    pub fn wants_json(&self) -> bool {
        self.response_format.as_ref().is_some_and(ResponseFormat::wants_json)
    }

    /// True when a stream must end with its usage.
    pub fn wants_usage_chunk(&self) -> bool {
        self.stream_options.is_some_and(|options| options.include_usage)
    }

    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.messages.is_empty() {
            return Err(Invalid::new("messages", "must hold at least one message"));
        }
        for (name, limit) in
            [("max_tokens", self.max_tokens), ("max_completion_tokens", self.max_completion_tokens)]
        {
            if limit == Some(0) {
                return Err(Invalid::new(name, "must be at least 1"));
            }
        }
        check_sampling(self.temperature, self.top_p, self.n, &self.stop)?;
        if let Some(top) = self.top_logprobs {
            if top > MAX_TOP_LOGPROBS {
                return Err(Invalid::new("top_logprobs", format!("must be at most {MAX_TOP_LOGPROBS}")));
            }
            if !self.logprobs {
                return Err(Invalid::new("top_logprobs", "needs `logprobs`: true"));
            }
        }
        if let Some(format) = &self.response_format
            && !matches!(format.kind.as_str(), "text" | "json_object" | "json_schema")
        {
            let message = format!("`{}` is unknown; use text, json_object or json_schema", format.kind);
            return Err(Invalid::new("response_format.type", message));
        }
        Ok(())
    }
}

/// `POST /v1/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionRequest {
    /// The model id.
    #[serde(default)]
    pub model: String,
    /// The text to continue: a string, or a list that holds one.
    #[serde(deserialize_with = "fields::prompt")]
    pub prompt: String,
    /// Most tokens of the answer; 16 when absent, as at OpenAI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0-2; 0 is greedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Random seed of the sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Strings that end the answer.
    #[serde(default, deserialize_with = "fields::strings", skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Answer as an event stream.
    #[serde(default, deserialize_with = "fields::null_is_default", skip_serializing_if = "is_false")]
    pub stream: bool,
    /// What a stream carries besides the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Log-probabilities with this many alternatives per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u32>,
    /// Repeat the prompt before the answer.
    #[serde(default, deserialize_with = "fields::null_is_default", skip_serializing_if = "is_false")]
    pub echo: bool,
    /// Answers per request; only 1 is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// The end user, hashed before it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Free labels of the request.
    #[serde(
        default,
        deserialize_with = "fields::null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub metadata: BTreeMap<String, String>,
}

impl CompletionRequest {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.max_tokens == Some(0) {
            return Err(Invalid::new("max_tokens", "must be at least 1"));
        }
        if self.logprobs.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
            return Err(Invalid::new("logprobs", format!("must be at most {MAX_TOP_LOGPROBS}")));
        }
        check_sampling(self.temperature, self.top_p, self.n, &self.stop)
    }
}

/// A value out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{param}` {message}")]
pub struct Invalid {
    /// The field.
    pub param: String,
    /// What it must be.
    pub message: String,
}

impl Invalid {
    /// A value of `param` is out of range.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into() }
    }
}

fn check_sampling(
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<u32>,
    stop: &[String],
) -> Result<(), Invalid> {
    if temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err(Invalid::new("temperature", "must be between 0 and 2"));
    }
    if top_p.is_some_and(|value| !(value > 0.0 && value <= 1.0)) {
        return Err(Invalid::new("top_p", "must be above 0 and at most 1"));
    }
    if n.is_some_and(|n| n != 1) {
        return Err(Invalid::new("n", "must be 1; send several requests instead"));
    }
    if stop.len() > MAX_STOPS {
        return Err(Invalid::new("stop", format!("must hold at most {MAX_STOPS} strings")));
    }
    if stop.iter().any(String::is_empty) {
        return Err(Invalid::new("stop", "must not hold an empty string"));
    }
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
