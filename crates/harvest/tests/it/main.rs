//! The program `harvest`, run for real against members that answer, disagree and misbehave.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod killed;
mod members;
mod poison;
mod rows;
mod world;
