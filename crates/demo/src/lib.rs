//! The demo: makes an invented world and its models, drives the real programs, and reports what happened.
//!
//! Reads and fills a cache of trained models; writes everything else below one folder; starts `serve`, `memory`,
//! `harvest`, `nightly`, `rollback` (and through them the rest) from the folder of this program. Exits 0 when the
//! demo ran to its end, whatever the nights brought; 1, 2, 8, 9, 130, 143 as every program.

pub mod ask;
pub mod chart;
pub mod fit;
pub mod home;
pub mod impostor;
pub mod killed;
pub mod material;
pub mod models;
pub mod nights;
pub mod poison;
pub mod questions;
pub mod regression;
pub mod report;
pub mod run;
pub mod server;
pub mod settings;
pub mod skills;
pub mod stage;
pub mod switching;
pub mod telling;
pub mod tokenizer;
pub mod traffic;
pub mod words;
pub mod world;

pub use run::{DemoArgs, TOOL, run};
