//! Checks of answers on made-up text, and the scan on invented worlds.

mod scanning;
mod world;
