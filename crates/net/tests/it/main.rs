//! The wire against real sockets on 127.0.0.1.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod client;
mod fake;
mod retry;
mod server;
mod stream;
mod types;
mod webhook;
