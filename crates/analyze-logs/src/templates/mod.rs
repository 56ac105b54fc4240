//! Templates of messages: what stays the same becomes text, what varies becomes `<*>`.
//!
//! One setting for all logs, in two stages: [`Miner::add`] masks and counts each message, [`Miner::finish`]
//! groups what was counted. `docs/templates.md` explains the rules.

mod command;
mod families;
mod fold;
mod forms;
mod group;
mod miner;
mod opposites;
mod phrases;
mod scan;
mod slots;
mod surroundings;
mod timeouts;
mod variants;
mod words;

pub use command::{Arguments, run};
pub(crate) use group::worth;
pub use group::{Template, Templates};
pub use miner::{Masker, Miner, Signature, SignatureId};
pub(crate) use miner::{coarse, excerpt};
pub use timeouts::is_timeout;
