//! How much memory a training will need, before anything is loaded: a pure function of shapes.
//!
//! [`Footprint`] follows the passes that a run will make ([`crate::passes`]) and keeps, for each workspace,
//! the largest number of rows it will see; buffers only grow, so their sizes follow from these maxima. It mirrors
//! [`crate::Workspace`]: who adds a buffer there adds it here.

use crate::config::ModelConfig;
use crate::lora::{Adapter, Target};
use crate::loss;
use crate::packed::{PANEL, SHARED_PANEL};
use crate::passes::{Limits, plan};
use crate::rope::POSITIONS;
use crate::simd::LANES;
use crate::threads::Threads;

/// Bytes of one number of the arithmetic.
const NUMBER: usize = size_of::<f32>();
/// Query rows in one block of the attention.
const BLOCK: usize = crate::attention::BLOCK;

/// Bytes of a base model in memory when one number of a layer's matrices takes `matrix` bytes (4 for f32,
/// 2 for bf16, about 0.516 for NF4 with double quantisation) and one of embedding and head `table` bytes.
pub fn base_bytes(config: &ModelConfig, matrix: f64, table: f64) -> u64 {
    let linears: usize = Target::ALL.iter().map(|target| target.shape(config)).map(|(o, i)| o * i).sum();
    let norms = 2 * config.hidden_size + if config.qk_norm { 2 * config.head_dim } else { 0 };
    let bias = |on: bool, targets: &[Target]| -> usize {
        targets.iter().filter(|_| on).map(|target| target.shape(config).0).sum()
    };
    let biases = bias(config.qkv_bias, &[Target::Q, Target::K, Target::V])
        + bias(config.o_bias, &[Target::O])
        + bias(config.mlp_bias, &[Target::Gate, Target::Up, Target::Down]);
    let tables = config.vocab_size * config.hidden_size * if config.tie_word_embeddings { 1 } else { 2 };
    let layers = config.num_layers as f64 * (linears as f64 * matrix + ((norms + biases) * NUMBER) as f64);
    (layers + tables as f64 * table) as u64 + (config.hidden_size * NUMBER) as u64
}

/// One sequence of a pass, as far as memory is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Tokens up to the last scored one; what follows is never computed.
    pub tokens: usize,
    /// Scored tokens.
    pub scored: usize,
}

impl Span {
    /// The span of a sequence whose token i is scored when `scored[i]` says so (see
    /// [`crate::Packed::push`]).
    pub fn of(scored: &[bool]) -> Self {
        let last = scored.iter().rposition(|scored| *scored).unwrap_or(0);
        Self { tokens: last, scored: scored.iter().skip(1).filter(|scored| **scored).count() }
    }
}

/// Largest passes of one workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Largest {
    /// Rows that enter a layer.
    rows: usize,
    /// Rows that leave the last one.
    scored: usize,
    /// Tokens of one sequence.
    longest: usize,
    /// Blocks of the attention, the most that threads can share.
    blocks: usize,
}

impl Largest {
    fn see(&mut self, spans: &[Span]) {
        self.rows = self.rows.max(spans.iter().map(|span| span.tokens).sum());
        self.scored = self.scored.max(spans.iter().map(|span| span.scored).sum());
        self.longest = self.longest.max(spans.iter().map(|span| span.tokens).max().unwrap_or(0));
        self.blocks = self.blocks.max(spans.iter().map(|span| span.tokens.div_ceil(BLOCK)).sum());
    }
}

/// Memory of one workspace: what its training passes and its evaluations need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Room {
    training: Largest,
    any: Largest,
    /// Passes whose products all threads share.
    shared_training: Largest,
    shared: Largest,
}

impl Room {
    fn see(&mut self, spans: &[Span], training: bool, shared: bool) {
        self.any.see(spans);
        if shared {
            self.shared.see(spans);
        }
        if training {
            self.training.see(spans);
        }
        if training && shared {
            self.shared_training.see(spans);
        }
    }
}

/// The memory of a training: adapter, gradients, moments and workspaces.
#[derive(Debug, Clone)]
pub struct Footprint<'a> {
    config: &'a ModelConfig,
    threads: Threads,
    limits: Limits,
    /// Numbers of the adapter.
    parameters: usize,
    /// Ranks of the modules of each layer, by target.
    ranks: Vec<[usize; 7]>,
    dropout: bool,
    dora: bool,
    checkpointing: bool,
    /// Whether matrices are made dense panel by panel.
    packed: bool,
    /// The workspace itself, then those of the other threads.
    rooms: Vec<Room>,
    /// Threads that compute gradients of their own.
    workers: usize,
}

impl<'a> Footprint<'a> {
    /// Nothing computed yet. `packed`: some matrix of the base is not held as f32.
    pub fn new(config: &'a ModelConfig, adapter: &Adapter, threads: Threads, packed: bool) -> Self {
        let mut ranks = vec![[0; 7]; config.num_layers];
        for ((layer, target), module) in &adapter.modules {
            if let Some(ranks) = ranks.get_mut(*layer) {
                ranks[*target as usize] = module.rank;
            }
        }
        let rooms = vec![Room::default(); threads.count()];
        let (parameters, dropout) = (adapter.parameters(), adapter.config.dropout > 0.0);
        let dora = adapter.config.dora;
        let checkpointing = false;
        Self {
            config,
            threads,
            limits: Limits::NONE,
            parameters,
            ranks,
            dropout,
            dora,
            checkpointing,
            packed,
            rooms,
            workers: 1,
        }
    }

    /// Passes keep only the input of each layer; see [`crate::Workspace::set_checkpointing`].
    pub const fn set_checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    /// How much is computed at a time; see [`crate::Workspace::set_limits`].
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes in a batch that is trained on: the spans of each unit.
    pub fn train(&mut self, units: &[Vec<Span>]) {
        self.batch(units, true);
    }

    /// Takes in a batch that is evaluated.
    pub fn evaluate(&mut self, units: &[Vec<Span>]) {
        self.batch(units, false);
    }

    fn batch(&mut self, units: &[Vec<Span>], training: bool) {
        let scored = |unit: &Vec<Span>| unit.iter().filter(|span| span.scored > 0).copied().collect();
        let units: Vec<Vec<Span>> =
            units.iter().map(scored).filter(|unit: &Vec<_>| !unit.is_empty()).collect();
        let lengths: Vec<usize> =
            units.iter().map(|unit| unit.iter().map(|span| span.tokens).sum()).collect();
        let plan = plan(&lengths, self.threads, if training { self.limits } else { Limits::NONE });
        if training {
            self.workers = self.workers.max(plan.workers());
        }
        let spans =
            |pass: &Vec<usize>| -> Vec<Span> { pass.iter().flat_map(|unit| units[*unit].clone()).collect() };
        for pass in &plan.together {
            self.rooms[0].see(&spans(pass), training, self.threads.count() > 1);
        }
        for (room, passes) in self.rooms.iter_mut().zip(&plan.apart) {
            for pass in passes {
                room.see(&spans(pass), training, false);
            }
        }
    }

    /// Numbers that are trained.
    pub const fn parameters(&self) -> usize {
        self.parameters
    }

    /// Bytes of adapter, gradients (one set for each thread that shares a pass) and both moments.
    pub const fn adapter_bytes(&self) -> u64 {
        (self.parameters * (3 + self.workers) * NUMBER) as u64
    }

    /// Bytes of all workspaces.
    pub fn workspace_bytes(&self) -> u64 {
        self.rooms.iter().map(|room| (self.room(room) * NUMBER) as u64).sum()
    }

    /// Numbers of one workspace.
    fn room(&self, room: &Room) -> usize {
        let Largest { rows: n, scored: m, longest, .. } = room.any;
        if n == 0 {
            return 0;
        }
        let config = self.config;
        let (h, inner) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.q_width(), config.kv_width());
        let layers = config.num_layers;
        let trained = room.training;
        let inputs = if self.checkpointing { layers * trained.rows * h } else { 0 };
        let kept: usize = (0..if self.checkpointing { 1 } else { layers })
            .map(|layer| {
                // An evaluation uses the first slot only.
                let seen = if layer == 0 { room.any } else { trained };
                self.layer(seen.rows, if layer + 1 == layers { seen.scored } else { seen.rows }, layer)
            })
            .sum();
        let logits = m.min(loss::rows_at_once(config.vocab_size)) * config.vocab_size;
        let (threads, shared) = (self.threads.count(), room.shared.rows > 0);
        let scores = |longest: usize| BLOCK.min(longest) * longest.next_multiple_of(LANES);
        let others = |seen: Largest| threads.min(seen.blocks.max(1)) - 1;
        // The chosen rows' attention output changes places with its gradient, so both grow alike.
        let chosen = trained.rows.max(m) * q;
        let forward = n * (2 * h + inner)
            + m * h
            + chosen
            + logits
            + scores(longest)
            + others(room.shared) * scores(room.shared.longest);
        let backward = trained.rows * (2 * h + 2 * q + 2 * kv)
            + trained.scored * h
            + scores(trained.longest)
            + others(room.shared_training)
                * (scores(room.shared_training.longest) + 2 * room.shared_training.longest * kv);
        let rank = self.ranks.iter().flatten().copied().max().unwrap_or(0);
        let widest = h.max(inner).max(q);
        let lora = trained.rows * (rank + if self.dropout { 2 * widest } else { 0 });
        let scaled = if self.dora { trained.rows * widest } else { 0 };
        let numbers = if shared { SHARED_PANEL } else { PANEL };
        let panel = if self.packed { numbers.max(widest) } else { 0 };
        kept + inputs
            + forward
            + backward
            + lora
            + scaled
            + panel
            + longest.next_multiple_of(POSITIONS) * config.head_dim
    }

    /// Numbers that a layer keeps when `n` rows enter and `m` rows leave it.
    fn layer(&self, n: usize, m: usize, layer: usize) -> usize {
        let config = self.config;
        let (h, heads, kv_heads) = (config.hidden_size, config.num_heads, config.num_kv_heads);
        let (q, kv) = (config.q_width(), config.kv_width());
        let raw = if config.qk_norm { q + kv + heads + kv_heads } else { 0 };
        let rank = |targets: [Target; 3]| -> usize {
            targets.iter().map(|target| self.ranks[layer][*target as usize]).sum()
        };
        let entering = h + 1 + 2 * q + 2 * kv + heads + raw + rank([Target::Q, Target::K, Target::V]);
        let leaving = h
            + 1
            + 2 * config.intermediate_size
            + rank([Target::Gate, Target::Up, Target::Down])
            + self.ranks[layer][Target::O as usize];
        let raw = |targets: &[Target]| -> usize {
            let modules = targets.iter().filter(|target| self.ranks[layer][**target as usize] > 0);
            if self.dora { modules.map(|target| target.shape(config).0).sum() } else { 0 }
        };
        let entering = entering + raw(&[Target::Q, Target::K, Target::V]);
        let leaving = leaving + raw(&[Target::O, Target::Gate, Target::Up, Target::Down]);
        n * entering + m * leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::LoraConfig;
    use crate::params::Model;
    use crate::tiny;
    use crate::workspace::Workspace;
    use crate::{AdamW, Grads, Packed, loss_and_grads};

    fn adapter(config: &ModelConfig, dropout: f32, dora: bool) -> Adapter {
        let targets = Target::ALL.to_vec();
        Adapter::init(LoraConfig { rank: 3, alpha: 6.0, targets, rslora: false, dropout, dora }, config, 1)
    }

    /// Sequences of these lengths whose second half is scored.
    fn batch(lengths: &[usize]) -> (Packed, Vec<Span>) {
        let mut packed = Packed::new();
        let mut spans = Vec::new();
        for &length in lengths {
            let scored: Vec<bool> = (0..length).map(|i| i >= length / 2).collect();
            packed.push(&vec![5; length], &scored);
            spans.push(Span::of(&scored));
        }
        (packed, spans)
    }

    #[test]
    fn equals_what_the_workspace_holds() {
        let config = tiny::config();
        let model = Model::<f32>::random(config.clone(), 1);
        let cases = [(1, 0.0, false, false), (2, 0.0, false, false), (2, 0.25, false, false)];
        let more = [(1, 0.0, false, true), (2, 0.0, true, false), (2, 0.25, true, true)];
        for (threads, dropout, dora, checkpointing) in cases.into_iter().chain(more) {
            let mut adapter = adapter(&config, dropout, dora);
            adapter.prepare(&model, Threads::ONE);
            let mut footprint = Footprint::new(&config, &adapter, Threads::new(threads), false);
            footprint.set_checkpointing(checkpointing);
            let mut ws = Workspace::new(threads);
            ws.set_checkpointing(checkpointing);
            let mut grads = Grads::lora(&adapter);
            // Even and uneven passes, so that the workspace itself and its helpers are all used.
            for lengths in [&[20, 20, 12, 12][..], &[47], &[9, 30, 8], &[16, 16]] {
                let (packed, spans) = batch(lengths);
                footprint.train(&spans.into_iter().map(|span| vec![span]).collect::<Vec<_>>());
                loss_and_grads(&model, Some(&adapter), &packed, 1.0, &mut grads, &mut ws).unwrap();
            }
            let held = ws.numbers() * NUMBER;
            let told = footprint.workspace_bytes() as usize;
            let difference = told.abs_diff(held) as f64 / held as f64;
            let case = (threads, dropout, dora, checkpointing);
            assert!(difference < 0.05, "{case:?}: told {told}, held {held}");
        }
    }

    #[test]
    fn the_optimiser_and_the_base_are_counted() {
        let config = tiny::config();
        let adapter = adapter(&config, 0.0, false);
        let mut footprint = Footprint::new(&config, &adapter, Threads::ONE, false);
        footprint.train(&[batch(&[10]).1]);
        let moments = AdamW::<f32>::default();
        assert!(moments.moments(&[]).is_empty());
        assert_eq!(footprint.adapter_bytes(), 16 * adapter.parameters() as u64);
        let model = Model::<f32>::random(config.clone(), 1);
        assert_eq!(base_bytes(&config, 4.0, 4.0), 4 * model.parameters() as u64);
        assert!(base_bytes(&config, 0.516, 4.0) < base_bytes(&config, 2.0, 2.0) + 4 * 4096);
    }
}
