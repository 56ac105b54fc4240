//! The OpenAI wire protocol: types for both sides, and a blocking client.

mod client;
mod fields;
mod reply;
mod request;
mod stream;

pub use client::{Client, ClientOptions, Reply};
pub use reply::{
    ChatChoice, ChatChunk, ChatResponse, ChatTokens, ChunkChoice, CompletionChoice, CompletionResponse,
    CompletionTokens, Delta, Envelope, ErrorBody, ErrorObject, ModelCard, ModelList, Nightshift,
    TokenLogprob, TopLogprob, Usage,
};
pub use request::{ChatRequest, CompletionRequest, Invalid, Message, ResponseFormat, Role, StreamOptions};
pub use stream::ChatStream;

pub use crate::transport::Timeouts;

/// Response header that names the adapter which gave the answer; `none` for the base model.
pub const ADAPTER_HEADER: &str = "x-nightshift-adapter";
/// Response header with the generation of the pointer under which the answer was given.
pub const GENERATION_HEADER: &str = "x-nightshift-generation";
/// Response header with the id under which the exchange was recorded.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
