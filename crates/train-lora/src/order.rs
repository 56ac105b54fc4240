//! In which order rows are trained: epochs, optimiser steps (windows) and forward passes.
//!
//! A pure function of the settings, the seed and the epoch, so that a resumed run needs no generator
//! state: it asks for the same epoch again and skips the steps it has done.

use nightshift_core::random;
use rand::seq::{SliceRandom, index};

/// How the rows of every epoch are ordered and grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// Rows 0..`rows` take part in every epoch.
    pub(crate) rows: usize,
    /// Rows `rows`..`rows + pool` are drawn from.
    pub(crate) pool: usize,
    /// Rows drawn in each epoch, anew.
    pub(crate) drawn: usize,
    /// Passes over the rows.
    pub(crate) epochs: usize,
    /// Rows in one optimiser step.
    pub(crate) window: usize,
    /// Rows in one forward pass.
    pub(crate) batch: usize,
    /// Fill forward passes up to this many tokens instead of counting rows.
    pub(crate) pack: Option<usize>,
    /// Mix the rows; else file order.
    pub(crate) shuffle: bool,
    /// Seed of draw and mix.
    pub(crate) seed: u64,
}

impl Order {
    /// Rows trained in one epoch.
    pub(crate) fn per_epoch(&self) -> usize {
        self.rows + self.drawn.min(self.pool)
    }

    /// Optimiser steps of one epoch; a short last window is a step.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        self.per_epoch().div_ceil(self.window)
    }

    /// Optimiser steps of the whole schedule.
    pub(crate) fn total_steps(&self) -> usize {
        self.steps_per_epoch() * self.epochs
    }

    /// The rows of an epoch, in training order.
    pub(crate) fn epoch(&self, epoch: usize) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.rows).collect();
        if self.drawn > 0 && self.pool > 0 {
            let mut rng = random::rng(self.seed, &format!("replay {epoch}"));
            let mut drawn = index::sample(&mut rng, self.pool, self.drawn.min(self.pool)).into_vec();
            drawn.sort_unstable();
            rows.extend(drawn.into_iter().map(|row| self.rows + row));
        }
        if self.shuffle {
            rows.shuffle(&mut random::rng(self.seed, &format!("order {epoch}")));
        }
        rows
    }

    /// The rows of one optimiser step, grouped into forward passes. `lengths` are tokens per row.
    pub(crate) fn passes(&self, window: &[usize], lengths: &[usize]) -> Vec<Vec<usize>> {
        let Some(limit) = self.pack else {
            return window.chunks(self.batch).map(<[usize]>::to_vec).collect();
        };
        let mut passes: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for &row in window {
            match passes.last_mut() {
                Some(pass) if lengths[row] <= room => pass.push(row),
                _ => {
                    passes.push(vec![row]);
                    room = limit;
                }
            }
            room = room.saturating_sub(lengths[row]);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            rows: 10,
            pool: 6,
            drawn: 4,
            epochs: 3,
            window: 4,
            batch: 2,
            pack: None,
            shuffle: true,
            seed: 5,
        }
    }

    #[test]
    fn every_epoch_has_all_rows_and_its_own_draw() {
        let order = order();
        assert_eq!((order.per_epoch(), order.steps_per_epoch(), order.total_steps()), (14, 4, 12));
        let mut epochs: Vec<Vec<usize>> = (0..3).map(|epoch| order.epoch(epoch)).collect();
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!(epochs[2], order.epoch(2), "a pure function of the epoch");
        for epoch in &mut epochs {
            epoch.sort_unstable();
            epoch.dedup();
            assert_eq!(epoch.len(), 14, "no row twice");
            assert!((0..10).all(|row| epoch.contains(&row)));
        }
        assert!(epochs[0] != epochs[1] || epochs[1] != epochs[2], "drawn anew");
    }

    #[test]
    fn file_order_and_a_short_last_window() {
        let order = Order { pool: 0, drawn: 0, shuffle: false, ..order() };
        assert_eq!(order.epoch(1), (0..10).collect::<Vec<_>>());
        assert_eq!(order.steps_per_epoch(), 3);
        let lengths = vec![1; 10];
        assert_eq!(order.passes(&[8, 9], &lengths), [[8, 9]]);
        assert_eq!(order.passes(&[0, 1, 2], &lengths), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn packing_fills_up_to_the_limit_and_cuts_nothing() {
        let order = Order { pack: Some(10), ..order() };
        let lengths = [6, 4, 1, 25, 3];
        assert_eq!(order.passes(&[0, 1, 2, 3, 4], &lengths), [vec![0, 1], vec![2], vec![3], vec![4]]);
    }
}
