//! The program as its users run it, and the learners as a library.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod alerts;
mod auto;
mod bad_input;
mod documents;
mod exporter;
mod files;
mod learning;
mod predict;
mod reading;
mod rows;
mod scoring;
mod sessions;
mod training;
mod world;
