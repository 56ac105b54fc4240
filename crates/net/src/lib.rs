//! The wire: HTTP server scaffolding, OpenAI types and client, SSE, webhooks.
//!
//! What this crate owns: bytes between processes. It decides nothing about models, files or
//! stores. Time, sleeping and randomness arrive as closures where a decision depends on them
//! ([`retry`]); nothing here reads the wall clock. Keys are [`Secret`]s and never appear in
//! `Debug` output, errors or logs.

pub mod auth;
mod endpoint;
mod error;
pub mod live;
pub mod news;
pub mod openai;
pub mod retry;
mod secret;
pub mod server;
pub mod sse;
mod transport;
pub mod webhook;

pub use error::{NetError, RetryAfter};
pub use secret::Secret;
