//! The program `nightly`, with stand-ins beside it that misbehave on purpose.
//!
//! The stand-ins are what makes the worst moments repeatable; the real programs run together in the
//! demo's quick night, which `scripts/test` runs.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod cron;
mod killed;
mod night;
mod stage;
