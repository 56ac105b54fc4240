//! Everything that touches files: golden numbers of transformers and PEFT, and hostile folders.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chat;
mod config;
mod fixture;
mod golden;
mod packed;
mod peft;
mod tokenizer;
mod weights;
