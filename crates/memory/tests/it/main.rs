//! The program `memory`, run for real in temporary homes.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod capture;
mod evalset;
mod import;
mod labels;
