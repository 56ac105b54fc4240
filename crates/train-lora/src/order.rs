//! In which order rows are trained: epochs and optimiser steps (windows). How a window is cut into passes
//! over the model is decided there, within [`Order::limits`].
//!
//! A pure function of the settings, the seed and the epoch, so that a resumed run needs no generator
//! state: it asks for the same epoch again and skips the steps it has done.

use nightshift_core::random;
use nightshift_model::Limits;
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
    /// Rows in computation at once (of short ones more), unless they are packed.
    pub(crate) batch: usize,
    /// Fill passes up to this many tokens instead of counting rows.
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
        } else if rows.len() > self.rows {
            spread(&mut rows, self.rows);
        }
        rows
    }

    /// How much is computed at a time.
    pub(crate) fn limits(&self) -> Limits {
        match self.pack {
            Some(tokens) => Limits { tokens, ..Limits::NONE },
            None => Limits { passes: self.batch, ..Limits::NONE },
        }
    }
}

/// Best-fit decreasing bin packing (Johnson 1973): the longest row first, each into the fullest pass that
/// still has room, so that few passes are opened; rows are never cut, and one that is longer than `limit`
/// has a pass of its own. Inside a pass rows keep their order, and passes are ordered by their first row.
pub(crate) fn pack(window: &[usize], lengths: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..window.len()).collect();
    places.sort_by_key(|&place| (std::cmp::Reverse(lengths[window[place]]), place));
    let mut passes: Vec<(usize, Vec<usize>)> = Vec::new();
    for place in places {
        let length = lengths[window[place]];
        match passes.iter_mut().filter(|(room, _)| *room >= length).min_by_key(|(room, _)| *room) {
            Some((room, pass)) => {
                *room -= length;
                pass.push(place);
            }
            None => passes.push((limit.saturating_sub(length), vec![place])),
        }
    }
    let mut passes: Vec<Vec<usize>> = passes.into_iter().map(|(_, pass)| pass).collect();
    for pass in &mut passes {
        pass.sort_unstable();
    }
    passes.sort_unstable();
    passes.into_iter().map(|pass| pass.into_iter().map(|place| window[place]).collect()).collect()
}

/// Spreads the last rows evenly among the first `kept`, whose order stays.
fn spread(rows: &mut Vec<usize>, kept: usize) {
    let drawn = rows.split_off(kept);
    let count = drawn.len();
    for (number, row) in drawn.into_iter().enumerate().rev() {
        rows.insert((2 * number + 1) * kept / (2 * count), row);
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
    }

    #[test]
    fn packing_opens_few_passes_and_cuts_nothing() {
        // Filled as they come these would take five passes.
        let lengths = [6, 5, 4, 5, 25, 3, 7];
        let passes = pack(&[0, 1, 2, 3, 4, 5, 6], &lengths, 10);
        assert_eq!(passes, [vec![0, 2], vec![1, 3], vec![4], vec![5, 6]]);
        assert_eq!(pack(&[], &lengths, 10), Vec::<Vec<usize>>::new());
        // Any window: every row once, nothing above the limit but a row that is longer by itself.
        let lengths: Vec<usize> = (0..97).map(|row| 1 + row * row % 11).collect();
        let window: Vec<usize> = (0..97).rev().collect();
        let passes = pack(&window, &lengths, 10);
        let tokens = |pass: &Vec<usize>| pass.iter().map(|&row| lengths[row]).sum::<usize>();
        assert!(passes.iter().all(|pass| tokens(pass) <= 10 || pass.len() == 1));
        let mut rows: Vec<usize> = passes.concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..97).collect::<Vec<_>>());
        let needed = lengths.iter().sum::<usize>().div_ceil(10);
        assert!(passes.len() <= needed * 11 / 9 + 1, "{} passes, {needed} at least", passes.len());
    }

    #[test]
    fn in_file_order_replayed_rows_are_spread() {
        let order = Order { rows: 6, pool: 9, drawn: 3, shuffle: false, ..order() };
        let epoch = order.epoch(0);
        let places: Vec<usize> = (0..9).filter(|&place| epoch[place] >= 6).collect();
        assert_eq!(places, [1, 4, 7]);
        let mut rows = epoch.clone();
        rows.retain(|row| *row < 6);
        assert_eq!(rows, [0, 1, 2, 3, 4, 5]);
    }
}
