//! The program as its users run it, and the learners as a library.

mod learning;
mod reading;
mod sessions;
mod world;
