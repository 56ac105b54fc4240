//! The program as its users run it, and the learners as a library.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod bad_input;
mod exporter;
mod files;
mod learning;
mod predict;
mod reading;
mod scoring;
mod sessions;
mod world;
