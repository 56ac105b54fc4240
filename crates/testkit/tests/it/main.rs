//! The rules of the house, as tests.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod documents;
mod edges;
mod pages;
mod sizes;
