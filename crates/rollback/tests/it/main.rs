//! Rollbacks by the real program, in homes whose history was made by the library.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod chain;
mod damage;
mod server;
mod world;
