//! What a server answers: completions, chunks, models, errors.
//!
//! Reading is lenient where real servers differ (missing `id`, `created`, `usage`), strict where
//! a wrong value would be used (`choices`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields;
use super::request::{Message, Role};

/// Tokens counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Both.
    #[serde(default)]
    pub total_tokens: u64,
}

impl Usage {
    /// The usage with its sum.
    pub const fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// What `serve` says about an answer beyond the protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Nightshift {
    /// The adapter that gave the whole answer; null is the base model.
    pub adapter: Option<String>,
    /// Generation of the pointer under which it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Probability that the answer is right, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The smallest token probability of the answer, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_token_prob: Option<f64>,
    /// The mean token probability of the answer, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_token_prob: Option<f64>,
}

/// One alternative for a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The text; incomplete UTF-8 is replaced, `bytes` is exact.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The exact bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

/// One token of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The text; incomplete UTF-8 is replaced, `bytes` is exact.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The exact bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The most probable alternatives, most probable first.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub top_logprobs: Vec<TopLogprob>,
}

/// Log-probabilities of a chat answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatTokens {
    /// One entry per token of the answer.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub content: Vec<TokenLogprob>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Its number; always 0 here.
    #[serde(default)]
    pub index: u32,
    /// The answer.
    pub message: Message,
    /// `stop`, `length`, or what another server says.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Log-probabilities, if asked for.
    #[serde(default)]
    pub logprobs: Option<ChatTokens>,
}

/// An answer, or an event of a streamed one: the envelope around its choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<Choice> {
    /// Id of the answer, the same in every chunk.
    #[serde(default)]
    pub id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    #[serde(default)]
    pub object: String,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// The model that answers.
    #[serde(default)]
    pub model: String,
    /// Names base and adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
    /// The answers; empty in the chunk that holds the usage.
    pub choices: Vec<Choice>,
    /// Tokens counted; of a stream in the last chunk, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What `serve` adds; of a stream in the chunk that holds the finish reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nightshift: Option<Nightshift>,
}

/// Answer of `/v1/chat/completions`.
pub type ChatResponse = Envelope<ChatChoice>;

/// One event of a streamed chat answer.
pub type ChatChunk = Envelope<ChunkChoice>;

/// Answer of `/v1/completions`; in a stream each event has this shape too.
pub type CompletionResponse = Envelope<CompletionChoice>;

// Derived, it would ask for choices that have a default of their own.
impl<Choice> Default for Envelope<Choice> {
    fn default() -> Self {
        Self {
            id: String::new(),
            object: String::new(),
            created: 0,
            model: String::new(),
            system_fingerprint: None,
            choices: Vec::new(),
            usage: None,
            nightshift: None,
        }
    }
}

impl ChatResponse {
    /// The text of the first answer.
    pub fn text(&self) -> Option<&str> {
        self.choices.first().map(|choice| choice.message.content.as_str())
    }

    /// Why the first answer ended.
    pub fn finish_reason(&self) -> Option<&str> {
        self.choices.first()?.finish_reason.as_deref()
    }

    /// Token log-probabilities of the first answer; empty when none were sent.
    pub fn tokens(&self) -> &[TokenLogprob] {
        let logprobs = self.choices.first().and_then(|choice| choice.logprobs.as_ref());
        logprobs.map_or(&[], |logprobs| &logprobs.content)
    }
}

/// What a chunk adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// In the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The next piece of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// One answer's part of a chunk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChunkChoice {
    /// The answer's number; always 0 here.
    #[serde(default)]
    pub index: u32,
    /// What is added.
    #[serde(default)]
    pub delta: Delta,
    /// Set in the last chunk with text.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Log-probabilities of the tokens in this chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<ChatTokens>,
}

/// Log-probabilities of a plain completion, as parallel lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionTokens {
    /// The tokens.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities; null for the first token of an echoed prompt.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub token_logprobs: Vec<Option<f64>>,
    /// Alternatives per token: text to logarithm.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub top_logprobs: Vec<Option<serde_json::Map<String, Value>>>,
    /// Character offset of each token in the text.
    #[serde(default, deserialize_with = "fields::null_is_default")]
    pub text_offset: Vec<usize>,
}

/// One plain completion, or a part of it in a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// Its number; always 0 here.
    #[serde(default)]
    pub index: u32,
    /// The text, or its next piece.
    pub text: String,
    /// `stop`, `length`, or what another server says.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Log-probabilities, if asked for.
    #[serde(default)]
    pub logprobs: Option<CompletionTokens>,
}

/// One model or adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The id that requests name.
    pub id: String,
    /// `model`.
    #[serde(default)]
    pub object: String,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// Who offers it.
    #[serde(default)]
    pub owned_by: String,
    /// The folder it was loaded from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The base model of an adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// Answer of `/v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    #[serde(default)]
    pub object: String,
    /// The models.
    pub data: Vec<ModelCard>,
}

impl ModelList {
    /// A list of these models.
    pub fn new(data: Vec<ModelCard>) -> Self {
        Self { object: "list".into(), data }
    }
}

/// What an error says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// For people.
    pub message: String,
    /// The class of the error.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The field at fault.
    #[serde(default)]
    pub param: Option<String>,
    /// A stable code; some servers send the status as a number.
    #[serde(default)]
    pub code: Option<Value>,
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorObject,
}
