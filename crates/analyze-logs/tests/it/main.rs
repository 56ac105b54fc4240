//! The program as its users run it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bad_input;
mod change;
mod contract;
mod cycle;
mod incremental;
mod judging;
mod learning;
mod patterns;
mod planted;
mod recommend;
mod reports;
mod templates;
mod truth;
