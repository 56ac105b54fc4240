//! The program as its users run it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bad_input;
mod change;
mod contract;
mod incremental;
mod patterns;
mod planted;
mod templates;
mod truth;
