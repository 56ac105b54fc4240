//! What other programs share with us, as files.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod commit;
mod synergy_adjust;
mod synergy_history;
mod synergy_weights;
