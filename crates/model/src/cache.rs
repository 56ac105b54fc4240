//! `KvCache`: the keys and values of a sequence that is being continued.

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::real::Real;

/// Keys (after rope) and values of all layers for one sequence.
#[derive(Debug, Clone)]
pub struct KvCache<T = f32> {
    pub(crate) layers: Vec<LayerCache<T>>,
    len: usize,
    capacity: usize,
}

/// One layer's part, rows `kv_heads * head_dim` wide.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache<T> {
    k: Vec<T>,
    v: Vec<T>,
    width: usize,
}

impl<T: Real> KvCache<T> {
    /// An empty cache for at most `capacity` tokens. Memory is taken as the sequence grows.
    pub fn new(config: &ModelConfig, capacity: usize) -> Self {
        let layer = LayerCache { k: Vec::new(), v: Vec::new(), width: config.kv_width() };
        Self { layers: vec![layer; config.num_layers], len: 0, capacity }
    }

    /// Tokens held.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens it may hold.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all tokens; the memory is kept.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `len` tokens, for a prompt that shares them.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Refuses a model of another shape, and more tokens than there is room for.
    pub(crate) fn check(&self, config: &ModelConfig, more: usize) -> Result<()> {
        let width = self.layers.first().map_or(0, |layer| layer.width);
        if self.layers.len() != config.num_layers || width != config.kv_width() {
            return Err(ModelError::Input(
                "the key/value cache was made for a model of another shape".to_owned(),
            ));
        }
        if self.len + more > self.capacity {
            let (len, capacity) = (self.len, self.capacity);
            return Err(ModelError::Input(format!(
                "{len} + {more} tokens do not fit into a context of {capacity}; shorten the prompt"
            )));
        }
        Ok(())
    }

    pub(crate) const fn advance(&mut self, count: usize) {
        self.len += count;
    }
}

impl<T: Real> LayerCache<T> {
    /// Replaces what was held from position `past` on by `k` and `v`; all keys and values up to then.
    pub(crate) fn append(&mut self, past: usize, k: &[T], v: &[T]) -> [&[T]; 2] {
        for (held, new) in [(&mut self.k, k), (&mut self.v, v)] {
            held.truncate(past * self.width);
            held.extend_from_slice(new);
        }
        [&self.k, &self.v]
    }
}
