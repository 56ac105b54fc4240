//! GGUF files, the format of llama.cpp: adapters and base models written for it, and read back.
//!
//! `file` knows the container, `names` what llama.cpp calls a tensor and how it wants its rows,
//! `adapter` and `base` what goes into a file, `vocab` a tokenizer. Nothing here is quantised.

mod adapter;
mod base;
mod file;
mod names;
mod vocab;

pub use adapter::{AdapterExport, export_adapter};
pub use base::{BaseExport, export_base};
pub use file::{GgufFile, GgufTensor, GgufType, GgufValue};
