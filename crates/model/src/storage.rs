//! `Storage`: how the matrices of a base model are held in memory once they are read.
//!
//! Arithmetic is f32 whatever is chosen; norms and biases are f32 always. What is chosen changes the
//! numbers: bf16 rounds them (exactly nothing when the files are bf16), NF4 quantises them.

use std::path::Path;

use safetensors::Dtype as FileType;

use crate::error::Result;
use crate::shards::Shards;

/// Type of matrices that are not quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    /// Four bytes a number; can be trained.
    #[default]
    F32,
    /// Two bytes a number, rounded to nearest; frozen.
    Bf16,
}

/// What is done to the linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quantise {
    /// Nothing: they are of the [`Dtype`], or as a quantised folder holds them.
    #[default]
    None,
    /// NF4 with double quantisation, about 0.52 bytes a number; frozen. Embedding and head stay.
    Nf4,
}

/// How a base model is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Storage {
    /// Of embedding and head, and of linear layers that are not quantised.
    pub dtype: Dtype,
    /// Of the linear layers.
    pub quantise: Quantise,
}

impl Dtype {
    /// The type in which a model folder stores its embedding: bf16, or else f32.
    ///
    /// # Errors
    /// As [`crate::Model::load`], for a folder without readable weights.
    pub fn of_folder(dir: &Path) -> Result<Self> {
        let shards = Shards::open(dir)?;
        let stored = shards.entry("model.embed_tokens.weight")?.dtype;
        Ok(if stored == FileType::BF16 { Self::Bf16 } else { Self::F32 })
    }
}
