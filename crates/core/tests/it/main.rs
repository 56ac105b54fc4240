//! Core as its users see it.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod commit;
mod files;
mod jsonl;
mod lock;
mod metrics;
mod synergy_adjust;
mod synergy_history;
mod synergy_weights;
