//! Which sequences of a batch are computed together, by whom, and in what order.
//!
//! Sequences are independent until their gradients are added, so nothing is gained by computing many of
//! them at once, and much memory is lost: what a pass keeps for its backward grows with its tokens. A batch
//! may be a whole optimiser step; here it is cut at the ends of sequences into passes of a few hundred
//! tokens. Each thread takes passes through all layers on memory of its own, and nothing is waited for but
//! the end. Sequences that would leave a thread idle (a single long one) are computed before, with their
//! matrix products split among all threads.
//!
//! What cannot matter is left out: sequences without a label, and tokens behind the last one, which no
//! scored position can see.

use std::sync::atomic::{AtomicBool, Ordering};

use nightshift_core::signal::Stop;

use crate::batch::Packed;
use crate::error::{ModelError, Result};
use crate::real::Real;
use crate::threads::Threads;
use crate::workspace::{Extent, Workspace};

/// Tokens of a pass on one thread, unless a single sequence has more. Weights are packed for the processor
/// once a pass, so short passes are slower; long ones take memory.
const PASS_TOKENS: usize = 512;

/// How much a training computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Passes in computation at once. Fewer than there are threads: one at a time, its products split among
    /// the threads.
    pub passes: usize,
    /// Tokens of one pass, unless a single unit has more.
    pub tokens: usize,
}

impl Limits {
    /// As is fastest.
    pub const NONE: Self = Self { passes: usize::MAX, tokens: usize::MAX };
}

/// Sequences that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pass {
    pub(crate) batch: Packed,
    /// Which sequence of the whole batch each of them is; ascending.
    pub(crate) segments: Vec<usize>,
    /// How much of each is computed, and how long it is.
    pub(crate) extents: Vec<Extent>,
}

/// Passes: `P` is a list of units, or what is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan<P> {
    /// Computed first, one after another, products split among all threads.
    pub(crate) together: Vec<P>,
    /// Then these, a list for each thread.
    pub(crate) apart: Vec<Vec<P>>,
}

/// Cuts units of these lengths into passes; each pass is a list of units, ascending.
pub(crate) fn plan(lengths: &[usize], threads: Threads, limits: Limits) -> Plan<Vec<usize>> {
    let count = threads.count();
    // Longest first: loads come out even, and buffers have their final size with the first pass.
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|unit| std::cmp::Reverse(lengths[*unit]));
    let even = |first: &usize| divide(&order[*first..], lengths, count).is_some();
    let first = if limits.passes < count { None } else { (0..order.len()).find(even) };
    let (together, rest) = order.split_at(first.unwrap_or(order.len()));
    let apart = divide(rest, lengths, count).unwrap_or_default();
    let tokens = |threads: usize| limits.tokens.min(PASS_TOKENS * threads);
    Plan {
        together: fill(together, lengths, tokens(count.min(limits.passes))),
        apart: apart
            .into_iter()
            .filter(|units| !units.is_empty())
            .map(|units| fill(&units, lengths, tokens(1)))
            .collect(),
    }
}

/// The units of each thread, each given to the one with the least to do; `None` when that comes out more
/// than an eighth above the mean: split products lose less.
fn divide(units: &[usize], lengths: &[usize], threads: usize) -> Option<Vec<Vec<usize>>> {
    let (mut loads, mut parts) = (vec![0; threads], vec![Vec::new(); threads]);
    for &unit in units {
        let idle = (0..threads).min_by_key(|thread| loads[*thread]).unwrap_or(0);
        loads[idle] += lengths[unit];
        parts[idle].push(unit);
    }
    let (tokens, heaviest) = (loads.iter().sum::<usize>(), loads.iter().max().copied().unwrap_or(0));
    (heaviest * threads * 8 <= tokens * 9).then_some(parts)
}

/// Puts each unit into the first pass that has room for it.
fn fill(units: &[usize], lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut passes: Vec<(usize, Vec<usize>)> = Vec::new();
    for &unit in units {
        let length = lengths[unit];
        match passes.iter_mut().find(|(room, _)| *room >= length) {
            Some((room, pass)) => {
                *room -= length;
                pass.push(unit);
            }
            None => passes.push((tokens.saturating_sub(length), vec![unit])),
        }
    }
    let sorted = |(_, mut pass): (usize, Vec<usize>)| {
        pass.sort_unstable();
        pass
    };
    passes.into_iter().map(sorted).collect()
}

/// The passes of a batch whose sequences belong together in units of `unit` neighbours.
pub(crate) fn passes(batch: &Packed, unit: usize, threads: Threads, limits: Limits) -> Plan<Pass> {
    lay(batch, unit, |lengths| plan(lengths, threads, limits))
}

/// As [`passes`], one after another, of up to `tokens` tokens.
pub(crate) fn in_turn(batch: &Packed, unit: usize, tokens: usize) -> Vec<Pass> {
    let together = |lengths: &[usize]| {
        let all: Vec<usize> = (0..lengths.len()).collect();
        Plan { together: fill(&all, lengths, tokens), apart: Vec::new() }
    };
    lay(batch, unit, together).together
}

fn lay(batch: &Packed, unit: usize, plan: impl FnOnce(&[usize]) -> Plan<Vec<usize>>) -> Plan<Pass> {
    let needed = |range: std::ops::Range<usize>| {
        let last = batch.labels[range.clone()].iter().rposition(Option::is_some)?;
        Some((range.start..range.start + last + 1, range.len()))
    };
    let ranges: Vec<_> = batch.ranges().enumerate().collect();
    let units: Vec<Vec<_>> = ranges
        .chunks(unit)
        .map(|unit| unit.iter().filter_map(|(at, range)| Some((*at, needed(range.clone())?))).collect())
        .filter(|unit: &Vec<_>| !unit.is_empty())
        .collect();
    let length = |unit: &Vec<_>| {
        unit.iter().map(|(_, (range, _)): &(usize, (std::ops::Range<usize>, _))| range.len()).sum()
    };
    let lengths: Vec<usize> = units.iter().map(length).collect();
    let pass = |pass: Vec<usize>| {
        let mut laid = Pass::default();
        for (segment, (range, tokens)) in pass.into_iter().flat_map(|unit| units[unit].iter().cloned()) {
            laid.segments.push(segment);
            laid.extents.push(Extent { rows: range.len(), tokens });
            laid.batch.starts.push(laid.batch.tokens.len());
            laid.batch.draws.push(batch.draws[segment]);
            laid.batch.tokens.extend_from_slice(&batch.tokens[range.clone()]);
            laid.batch.labels.extend_from_slice(&batch.labels[range]);
        }
        laid
    };
    plan(&lengths).map(pass)
}

impl<P> Plan<P> {
    /// The same plan of something else.
    fn map<Q>(self, mut f: impl FnMut(P) -> Q) -> Plan<Q> {
        let together = self.together.into_iter().map(&mut f).collect();
        let apart = self.apart.into_iter().map(|part| part.into_iter().map(&mut f).collect()).collect();
        Plan { together, apart }
    }

    /// How many threads compute passes of their own at once; at least one computes.
    pub(crate) fn workers(&self) -> usize {
        self.apart.len().max(1)
    }

    /// All passes, in the order of results.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> {
        self.together.iter().chain(self.apart.iter().flatten())
    }
}

/// Does `work` for every pass, on as many threads as the plan says; results in the plan's order. Each of
/// them has one of `states`, of which there are [`Plan::workers`], and memory of its own: the first thread
/// that of `ws`.
///
/// # Errors
/// The first one, naming the sequences of its pass; nobody begins another pass then.
/// [`ModelError::Stopped`] when that is asked for in the meantime.
pub(crate) fn run<T: Real, S: Send, R: Send>(
    plan: &Plan<Pass>,
    mut states: Vec<S>,
    ws: &mut Workspace<T>,
    work: impl Fn(&Pass, &mut S, &mut Workspace<T>) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (stop, failed) = (ws.stop.clone(), AtomicBool::new(false));
    let part = |passes: &[Pass], state: &mut S, ws: &mut Workspace<T>| -> Result<Vec<R>> {
        let mut results = Vec::with_capacity(passes.len());
        for pass in passes {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let result = check(&stop).and_then(|()| work(pass, state, ws));
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.push(result.map_err(|error| error.in_sequences(&pass.segments))?);
        }
        Ok(results)
    };
    let mut results = part(&plan.together, &mut states[0], ws)?;
    let Some((first, others)) = plan.apart.split_first() else { return Ok(results) };
    let (state, states) = states.split_first_mut().expect("a state for each worker");
    let threads = std::mem::replace(&mut ws.threads, Threads::ONE);
    let mut helpers = std::mem::take(&mut ws.helpers);
    helpers.resize_with(others.len(), || Workspace::new(1));
    for helper in &mut helpers {
        (helper.noise, helper.checkpointing) = (ws.noise, ws.checkpointing);
    }
    let mut parts: Vec<Result<Vec<R>>> = others.iter().map(|_| Ok(Vec::new())).collect();
    let mut own = Ok(Vec::new());
    if others.is_empty() {
        own = part(first, state, ws);
    } else {
        rayon::scope(|scope| {
            let part = &part;
            for (((passes, state), helper), found) in
                others.iter().zip(states).zip(&mut helpers).zip(&mut parts)
            {
                scope.spawn(move |_| *found = part(passes, state, helper));
            }
            own = part(first, state, ws);
        });
    }
    (ws.threads, ws.helpers) = (threads, helpers);
    for found in std::iter::once(own).chain(parts) {
        results.extend(found?);
    }
    Ok(results)
}

fn check(stop: &Stop) -> Result<()> {
    stop.check().map_err(|failure| ModelError::Stopped(Box::new(failure)))
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

    fn limits(passes: usize, tokens: usize) -> Limits {
        Limits { passes, tokens }
    }

    #[test]
    fn threads_get_about_the_same_and_passes_stay_small() {
        let two = plan(&[5, 9, 4, 2, 8, 6], Threads::new(2), Limits::NONE);
        assert_eq!(two.together, Vec::<Vec<usize>>::new());
        assert_eq!(two.apart, [[vec![1, 2, 0]], [vec![3, 4, 5]]].map(|part| part.map(sorted)));
        let one = plan(&[300, 100, 200, 500], Threads::ONE, Limits::NONE);
        // Longest first: no pass is much larger than the first.
        assert_eq!(one.apart, [[vec![3], vec![0, 2], vec![1]]]);
        let one = plan(&[3, 3, 3, 3, 3], Threads::ONE, limits(9, 7));
        assert_eq!(one.apart, [[vec![0, 1], vec![2, 3], vec![4]]]);
    }

    fn sorted(mut pass: Vec<usize>) -> Vec<usize> {
        pass.sort_unstable();
        pass
    }

    #[test]
    fn what_would_leave_a_thread_idle_is_computed_by_all() {
        let two = |lengths: &[usize], limits| plan(lengths, Threads::new(2), limits);
        assert_eq!(two(&[40], Limits::NONE), Plan { together: vec![vec![0]], apart: vec![] });
        assert_eq!(two(&[40, 20], Limits::NONE).together, [[0, 1]]);
        let three = two(&[300, 310, 320], Limits::NONE);
        assert_eq!((three.together, three.apart), (vec![vec![2]], vec![vec![vec![1]], vec![vec![0]]]));
        // Fewer passes at once than threads.
        let single = two(&[300, 300, 300], limits(1, usize::MAX));
        assert_eq!((single.together.len(), single.apart.len()), (3, 0));
        assert_eq!(two(&[], Limits::NONE), Plan { together: vec![], apart: vec![] });
    }

    #[test]
    fn every_unit_is_in_one_pass() {
        for threads in [1, 2, 3, 7] {
            for passes in [1, 2, 8] {
                let lengths: Vec<usize> = (0..90).map(|row| 1 + row * row % 601).collect();
                let plan = plan(&lengths, Threads::new(threads), limits(passes, 500));
                let mut all: Vec<usize> = plan.iter().flatten().copied().collect();
                all.sort_unstable();
                assert_eq!(all, (0..90).collect::<Vec<_>>());
                assert!(plan.workers() <= passes);
                let tokens = |pass: &Vec<usize>| pass.iter().map(|unit| lengths[*unit]).sum::<usize>();
                assert!(plan.iter().all(|pass| tokens(pass) <= 500 || pass.len() == 1));
            }
        }
    }

    #[test]
    fn units_stay_whole_and_what_no_label_can_see_is_left_out() {
        let mut batch = Packed::new();
        batch.push(&[1, 2, 3, 4], &[false; 4]);
        batch.push(&[1, 2, 3, 4], &[false, true, true, false]);
        batch.push(&[5], &[true]);
        batch.push(&[6, 7], &[true, true]);
        let plan = passes(&batch, 2, Threads::ONE, limits(1, 1));
        let [first, second] = plan.apart[0].as_slice() else { panic!("{plan:?}") };
        assert_eq!((&first.segments[..], &first.batch.tokens[..]), (&[1][..], &[1, 2][..]));
        assert_eq!(first.extents, [Extent { rows: 2, tokens: 4 }]);
        assert_eq!(first.batch.labels, [Some(2), Some(3)]);
        assert_eq!((&second.segments[..], &second.batch.tokens[..]), (&[3][..], &[6][..]));
        batch.labels.fill(None);
        assert_eq!(passes(&batch, 2, Threads::new(2), Limits::NONE).iter().count(), 0);
        assert_eq!(passes(&packed(&[3, 3]), 2, Threads::new(2), Limits::NONE).together.len(), 1);
    }

    #[test]
    fn an_error_names_its_sequences_and_a_stop_ends_the_work() {
        let batch = packed(&[300, 310, 290, 305]);
        for threads in [1, 2] {
            let plan = passes(&batch, 1, Threads::new(threads), Limits::NONE);
            let mut ws = Workspace::<f32>::new(threads);
            let states = || vec![(); plan.workers()];
            let bad = |pass: &Pass, (): &mut (), _: &mut Workspace<f32>| match pass.segments[..] {
                [2] => Err(ModelError::non_finite("x")),
                _ => Ok(()),
            };
            let error = run(&plan, states(), &mut ws, bad).unwrap_err();
            assert!(
                matches!(&error, ModelError::NonFinite { sequences, .. } if *sequences == [2]),
                "{error}"
            );
            let stop = Stop::default();
            ws.set_stop(stop.clone());
            let halt = |_: &Pass, (): &mut (), _: &mut Workspace<f32>| {
                stop.request();
                Ok(())
            };
            let error = run(&plan, states(), &mut ws, halt).unwrap_err();
            assert!(matches!(error, ModelError::Stopped(_)), "{error}");
            assert_eq!(ws.threads.count(), threads);
        }
    }
}
