//! Everything that touches files: golden numbers of transformers and PEFT, and hostile folders.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chat;
mod config;
mod fixture;
mod gguf;
mod golden;
mod masks;
mod merge;
mod narrow;
mod packed;
mod peft;
mod preference;
mod steps;
mod tokenizer;
mod weights;
