//! Test support: temporary homes, the real programs, and servers that misbehave on purpose.
//!
//! A dev-dependency only. It panics on anything unexpected, as tests should.

mod home;
mod server;

pub use home::{Home, Ran, binary, free_port, wait_until};
pub use server::{Answer, FakeServer, Request};
