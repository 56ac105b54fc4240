//! Runner, config, paths, files, locks, clock, store, journal, events, metrics and shared rows of
//! every Nightshift tool. Free of HTTP, async and candle.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod commit;
pub mod config;
pub mod crash;
pub mod ctx;
pub mod deployment;
pub mod env;
pub mod error;
pub mod evalset;
pub mod events;
pub mod exchange;
pub mod exit;
pub mod files;
pub mod interaction;
pub mod journal;
pub mod jsonl;
pub mod lock;
pub mod logfile;
pub mod metrics;
pub mod paths;
pub mod pointer;
pub mod printer;
pub mod process;
pub mod random;
pub mod release;
pub mod restore;
pub mod signal;
pub mod store;
pub mod summary;
pub mod synergy;
pub mod training_row;

pub use cli::{Outcome, Tool};
pub use ctx::Ctx;
pub use error::{Failure, OrFail};
pub use exit::Exit;
pub use {jiff, rusqlite};
