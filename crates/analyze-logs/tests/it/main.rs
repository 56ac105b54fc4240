//! The program as its users run it.

mod planted;
mod templates;
