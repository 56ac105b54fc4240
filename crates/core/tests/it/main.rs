//! Core as its users see it.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod clock;
mod commit;
mod events;
mod exchange;
mod files;
mod journal;
mod jsonl;
mod lock;
mod metrics;
mod synergy_adjust;
mod synergy_history;
mod synergy_weights;
