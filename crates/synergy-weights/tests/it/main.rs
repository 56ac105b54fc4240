//! The program as its users run it.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod predict;
