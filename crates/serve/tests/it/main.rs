//! The real binary on a free port, with the small random models of `fixtures/model`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod adapters;
mod answers;
mod faults;
mod house;
mod pointer;
mod recording;
mod start;
mod wire;
