//! Deployments by the real program, against a server that follows the pointer as `serve` does.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod crashes;
mod gate;
mod hostile;
mod rivals;
mod watch;
mod world;
