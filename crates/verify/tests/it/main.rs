//! Checks of answers on made-up text, and the scan on invented worlds.

mod answers;
mod checks;
mod claims;
mod guard;
mod scanning;
mod scripts;
mod texts;
mod vetoes;
mod world;
