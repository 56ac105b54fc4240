//! Sharing the sequences of a batch among threads.
//!
//! Sequences are independent until their gradients are added, so each thread takes whole sequences
//! through all layers on memory of its own: nothing is waited for but the end. Where whole sequences
//! would leave a thread idle (a single long one), the matrix products are split instead.
//!
//! What cannot matter is left out here: sequences without a label, and tokens behind the last one,
//! which no scored position can see.

use crate::batch::Packed;
use crate::real::Real;
use crate::threads::Threads;
use crate::workspace::{Extent, Workspace};

/// The sequences that one thread computes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Share {
    pub(crate) batch: Packed,
    /// Which sequence of the whole batch each of them is; ascending.
    pub(crate) segments: Vec<usize>,
    /// How much of each is computed, and how long it is.
    pub(crate) extents: Vec<Extent>,
}

/// Divides a batch: one share for each thread when they come out about even, else a single one.
/// Empty when nothing is scored.
pub(crate) fn shares(batch: &Packed, threads: Threads) -> Vec<Share> {
    let needed = |range: std::ops::Range<usize>| {
        let last = batch.labels[range.clone()].iter().rposition(Option::is_some)?;
        Some((range.start..range.start + last + 1, range.len()))
    };
    let segments: Vec<_> =
        batch.ranges().enumerate().filter_map(|(index, range)| Some((index, needed(range)?))).collect();
    let lengths: Vec<usize> = segments.iter().map(|(_, (range, _))| range.len()).collect();
    let owners = divide(&lengths, threads);
    let count = if owners.is_some() { threads.count() } else { 1 };
    let mut shares = vec![Share::default(); count];
    let owners = owners.unwrap_or_else(|| vec![0; segments.len()]);
    for ((index, (range, tokens)), owner) in segments.into_iter().zip(owners) {
        let Share { batch: part, segments, extents } = &mut shares[owner];
        extents.push(Extent { rows: range.len(), tokens });
        part.starts.push(part.tokens.len());
        part.draws.push(batch.draws[index]);
        part.tokens.extend_from_slice(&batch.tokens[range.clone()]);
        part.labels.extend_from_slice(&batch.labels[range]);
        segments.push(index);
    }
    shares.retain(|share| !share.segments.is_empty());
    shares
}

/// For each sequence the thread it goes to; `None` when whole sequences would come out too uneven, so
/// that one share with split products is faster.
pub(crate) fn divide(lengths: &[usize], threads: Threads) -> Option<Vec<usize>> {
    let owners = assign(lengths, threads.count());
    let mut loads = vec![0; threads.count()];
    for (length, owner) in lengths.iter().zip(&owners) {
        loads[*owner] += length;
    }
    let tokens: usize = lengths.iter().sum();
    let heaviest = loads.into_iter().max().unwrap_or(0);
    // Beyond an eighth above the mean the split of single products loses less.
    (heaviest * threads.count() * 8 <= tokens * 9).then_some(owners)
}

/// For each length the bin it goes to: longest first, always into the emptiest bin.
fn assign(lengths: &[usize], bins: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(lengths[*index]));
    let (mut loads, mut owners) = (vec![0; bins], vec![0; lengths.len()]);
    for index in order {
        let emptiest = (0..bins).min_by_key(|bin| loads[*bin]).unwrap_or(0);
        owners[index] = emptiest;
        loads[emptiest] += lengths[index];
    }
    owners
}

/// Does `work` for every share with the state beside it, on a thread each; results in order. A single
/// share gets all threads of `ws` for its matrix products.
pub(crate) fn run<T: Real, S: Send, R: Send>(
    shares: &[Share],
    states: Vec<S>,
    ws: &mut Workspace<T>,
    work: impl Fn(&Share, S, &mut Workspace<T>) -> R + Sync,
) -> Vec<R> {
    if shares.len() < 2 {
        return shares.iter().zip(states).map(|(share, state)| work(share, state, ws)).collect();
    }
    ws.helpers.resize_with(shares.len(), || Workspace::new(1));
    for helper in &mut ws.helpers {
        helper.dropout_seed = ws.dropout_seed;
        (helper.noise, helper.checkpointing) = (ws.noise, ws.checkpointing);
    }
    let mut results: Vec<Option<R>> = shares.iter().map(|_| None).collect();
    rayon::scope(|scope| {
        let tasks = shares.iter().zip(states).zip(&mut ws.helpers).zip(&mut results);
        for (((share, state), helper), result) in tasks {
            let work = &work;
            scope.spawn(move |_| *result = Some(work(share, state, helper)));
        }
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(lengths: &[usize]) -> Packed {
        let mut packed = Packed::new();
        for &length in lengths {
            packed.push(&vec![7; length + 1], &vec![true; length + 1]);
        }
        packed
    }

    #[test]
    fn even_shares_or_none() {
        let batch = packed(&[5, 9, 4, 2, 8, 6]);
        let two = shares(&batch, Threads::new(2));
        assert_eq!(two.iter().map(|share| share.batch.tokens.len()).collect::<Vec<_>>(), [18, 16]);
        let mut segments: Vec<usize> = two.iter().flat_map(|share| share.segments.clone()).collect();
        segments.sort_unstable();
        assert_eq!(segments, [0, 1, 2, 3, 4, 5]);
        assert_eq!(shares(&batch, Threads::ONE).len(), 1);
        assert_eq!(shares(&packed(&[40]), Threads::new(2)).len(), 1);
        assert_eq!(shares(&packed(&[40, 20]), Threads::new(2)).len(), 1);
    }

    #[test]
    fn what_no_label_can_see_is_left_out() {
        let mut batch = Packed::new();
        batch.push(&[1, 2, 3, 4], &[false; 4]);
        batch.push(&[1, 2, 3, 4], &[false, true, true, false]);
        let [share] = shares(&batch, Threads::new(1)).try_into().unwrap();
        assert_eq!(share.segments, [1]);
        assert_eq!(share.batch.tokens, [1, 2]);
        assert_eq!(share.extents, [Extent { rows: 2, tokens: 4 }]);
        assert_eq!(share.batch.labels, [Some(2), Some(3)]);
        batch.labels.fill(None);
        assert!(shares(&batch, Threads::new(2)).is_empty());
    }
}
