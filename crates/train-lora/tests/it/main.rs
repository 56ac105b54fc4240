//! The real program on a tiny random model: both forms, crashes, bad input.

#![allow(clippy::unwrap_used, reason = "a test panics on anything unexpected")]

mod bad_input;
mod control;
mod data;
mod device;
mod direct;
mod engine;
mod examples;
mod folder;
mod killed;
mod outputs;
mod packed_base;
mod pipeline;
mod preference;
mod repeat;
mod resume;
mod sealed;
mod semantics;
mod variant;
mod world;
