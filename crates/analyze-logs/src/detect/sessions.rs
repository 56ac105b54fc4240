//! Which calls belong together: the calls of each id, held until nothing of it came for a while.
//!
//! Calls without an id are followed only while one tool is called again and again in one file, line after line:
//! that is enough for repeats and retry storms.
//!
//! Bounded: at most [`MOST_OPEN`] ids and [`MOST_CALLS`] calls are held, of one id [`LONGEST`]; what is above is
//! evaluated as it is, and counted in `cut`. What may go on in another file, on another machine or in the next
//! run (ids that are active within [`BORDER_US`] of the first or the last time read) is carried in the state as
//! it is and joined there, so that a log may be cut anywhere.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::chains::{Call, IDLE_US, Outcomes};
use crate::line::{Hashing, Kind};
use crate::read::{NONE, Ops, Step};
use crate::tally::Limits;

/// Ids that are held.
const MOST_OPEN: usize = 8_192;
/// Calls that are held, of open and of carried ids each.
const MOST_CALLS: usize = 40_000;
/// Calls of one id that are held.
const LONGEST: usize = 512;
/// Distance from the ends of what was read within which ids are carried.
const BORDER_US: i64 = 2 * IDLE_US;

/// Calls by id, and what became of those that are over.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// What the sessions said that are over.
    outcomes: Outcomes,
    /// Sessions that were evaluated before they were over.
    pub cut: u64,
    files: Vec<Box<str>>,
    carried: Vec<Piece>,
    carried_calls: usize,
    /// First and latest time read.
    span: Option<(i64, i64)>,
    open: HashMap<u64, u32, Hashing>,
    slots: Vec<Slot>,
    held: usize,
    /// Ends of the list of slots by last use.
    oldest: u32,
    newest: u32,
    free: Vec<u32>,
    /// Calls of one tool without an id, one after the other.
    loose: Vec<Call>,
}

/// Calls of an id that may go on elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    id: u64,
    calls: Vec<Call>,
}

#[derive(Debug, Clone)]
struct Slot {
    id: u64,
    ends: i64,
    older: u32,
    newer: u32,
    calls: Vec<Call>,
}

impl Sessions {
    /// The number of a file's name.
    pub(super) fn file(&mut self, name: &str) -> u32 {
        if self.files.last().is_none_or(|last| **last != *name) {
            self.files.push(name.into());
        }
        self.files.len() as u32 - 1
    }

    /// Takes a call.
    #[inline]
    pub(super) fn add(&mut self, step: &Step, ops: &Ops, file: u32, limits: Limits) {
        let call = Call {
            at: step.at,
            op: step.op,
            kind: ops.get(step.op).0,
            task: step.task,
            args: step.args,
            us: if step.duration_us == u64::MAX { 0 } else { step.duration_us },
            nano: if step.cost_nano == i64::MIN { 0 } else { step.cost_nano },
            failed: step.failed,
            file,
            offset: step.offset,
        };
        if step.group == 0 {
            if call.kind == Kind::Tool {
                self.add_loose(call);
            }
            return;
        }
        if self.open.is_empty() && self.slots.is_empty() {
            (self.oldest, self.newest) = (NONE, NONE);
        }
        if call.at != i64::MIN {
            let (first, last) = self.span.unwrap_or((call.at, call.at));
            self.span = Some((first, last.max(call.at)));
            while self.oldest != NONE
                && self.slots[self.oldest as usize].ends.saturating_add(IDLE_US) < call.at
            {
                self.close(self.oldest, true, limits);
            }
        }
        let slot = match self.open.get(&step.group) {
            Some(&slot) => slot,
            None => self.begin(step.group, limits),
        };
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
        let known = &mut self.slots[slot as usize];
        known.ends = known.ends.max(call.ends());
        known.calls.push(call);
        let long = known.calls.len() >= LONGEST;
        self.held += 1;
        if long {
            self.close(slot, false, limits);
        } else if self.held > MOST_CALLS {
            self.close(self.oldest, false, limits);
        }
    }

    fn add_loose(&mut self, call: Call) {
        let goes_on = self.loose.last().is_some_and(|last| {
            (last.op, last.file) == (call.op, call.file) && call.at <= last.ends().saturating_add(IDLE_US)
        });
        if !goes_on || self.loose.len() >= LONGEST {
            self.end_loose();
        }
        self.loose.push(call);
    }

    fn end_loose(&mut self) {
        self.outcomes.evaluate_loose(&self.loose, &self.files);
        self.loose.clear();
    }

    fn begin(&mut self, id: u64, limits: Limits) -> u32 {
        if self.open.len() >= MOST_OPEN {
            self.close(self.oldest, false, limits);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let empty = Slot { id: 0, ends: i64::MIN, older: NONE, newer: NONE, calls: Vec::new() };
            self.slots.push(empty);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].id = id;
        self.slots[slot as usize].ends = i64::MIN;
        self.open.insert(id, slot);
        self.link(slot);
        slot
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        self.slots[slot as usize].older = before;
        self.slots[slot as usize].newer = NONE;
        match before {
            NONE => self.oldest = slot,
            before => self.slots[before as usize].newer = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    /// Ends an id: carried when it may have begun elsewhere, else evaluated, though it is not `over`.
    fn close(&mut self, slot: u32, over: bool, limits: Limits) {
        self.unlink(slot);
        let known = &mut self.slots[slot as usize];
        let mut calls = std::mem::take(&mut known.calls);
        let id = known.id;
        self.open.remove(&id);
        self.free.push(slot);
        self.held -= calls.len();
        let begin = self.span.map_or(i64::MIN, |(first, _)| first.saturating_add(BORDER_US));
        if calls.iter().any(|call| call.at <= begin) && self.carried_calls + calls.len() <= MOST_CALLS {
            self.carried_calls += calls.len();
            self.carried.push(Piece { id, calls });
        } else {
            self.cut += u64::from(!over);
            self.outcomes.evaluate(&mut calls, &self.files, limits.dear_nano);
            // Its room serves the next one.
            calls.clear();
            self.slots[slot as usize].calls = calls;
        }
    }

    /// Ends the reading: what is still open is carried.
    pub(super) fn finish(&mut self) {
        self.end_loose();
        let mut slot = self.oldest;
        while !self.open.is_empty() && slot != NONE {
            let known = &mut self.slots[slot as usize];
            let calls = std::mem::take(&mut known.calls);
            self.open.remove(&known.id);
            self.carried_calls += calls.len();
            self.carried.push(Piece { id: known.id, calls });
            slot = known.newer;
        }
        self.slots = Vec::new();
        self.free = Vec::new();
        self.open = HashMap::default();
        self.held = 0;
    }

    /// Adds those of another machine (both are finished), whose operations have the numbers that `number` translates.
    pub(super) fn absorb(&mut self, other: Self, number: &impl Fn(u32) -> u32) {
        self.outcomes.absorb(other.outcomes, number);
        self.cut += other.cut;
        let files: Vec<u32> = other.files.iter().map(|file| self.file(file)).collect();
        for mut piece in other.carried {
            for call in &mut piece.calls {
                call.op = number(call.op);
                call.task = number(call.task);
                call.file = files.get(call.file as usize).copied().unwrap_or(NONE);
            }
            self.carried_calls += piece.calls.len();
            self.carried.push(piece);
        }
        self.span = match (self.span, other.span) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// Evaluates what is carried and lies inside of what was read: nothing of it can come any more.
    pub(super) fn settle(&mut self, limits: Limits) {
        let Some((first, last)) = self.span else { return };
        let inside = |piece: &Piece| {
            let near = |call: &Call| {
                call.at <= first.saturating_add(BORDER_US) || call.ends() >= last.saturating_sub(BORDER_US)
            };
            !piece.calls.iter().any(near)
        };
        let carried = std::mem::take(&mut self.carried);
        self.carried_calls = 0;
        let mut surplus = 0;
        for mut piece in joined(carried) {
            if inside(&piece) || self.carried_calls + piece.calls.len() > 2 * MOST_CALLS {
                surplus += u64::from(!inside(&piece));
                self.outcomes.evaluate(&mut piece.calls, &self.files, limits.dear_nano);
            } else {
                self.carried_calls += piece.calls.len();
                self.carried.push(piece);
            }
        }
        self.cut += surplus;
        self.tidy();
    }

    /// Forgets the names of files that nothing is of any more.
    fn tidy(&mut self) {
        let mut names: Vec<Box<str>> = Vec::new();
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        for call in self.carried.iter_mut().flat_map(|piece| &mut piece.calls) {
            let next = names.len() as u32;
            let number = *numbers.entry(call.file).or_insert(next);
            if number == next {
                names.push(self.files.get(call.file as usize).cloned().unwrap_or_default());
            }
            call.file = number;
        }
        self.files = names;
    }

    /// What all sessions said, the carried ones as they are.
    pub(super) fn outcomes(&self, limits: Limits) -> Outcomes {
        let mut outcomes = self.outcomes.clone();
        for mut piece in joined(self.carried.clone()) {
            outcomes.evaluate(&mut piece.calls, &self.files, limits.dear_nano);
        }
        outcomes
    }
}

/// Pieces of one id as one, in the order of their times.
fn joined(mut pieces: Vec<Piece>) -> Vec<Piece> {
    let ends = |piece: &Piece| {
        let times = piece.calls.iter().map(|call| call.at);
        (times.clone().min(), times.max())
    };
    pieces.sort_by_cached_key(|piece| (piece.id, ends(piece)));
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if last.id == piece.id => last.calls.extend(piece.calls),
            _ => joined.push(piece),
        }
    }
    joined
}

/// The form in which they leave a machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedSessions {
    outcomes: Outcomes,
    cut: u64,
    files: Vec<Box<str>>,
    carried: Vec<Piece>,
    span: Option<(i64, i64)>,
}

impl SavedSessions {
    pub(super) fn of(sessions: &Sessions) -> Self {
        let mut tidy = Sessions {
            files: sessions.files.clone(),
            carried: joined(sessions.carried.clone()),
            ..Sessions::default()
        };
        tidy.tidy();
        Self {
            outcomes: sessions.outcomes.clone(),
            cut: sessions.cut,
            files: tidy.files,
            carried: tidy.carried,
            span: sessions.span,
        }
    }

    pub(super) fn restore(self) -> Sessions {
        let Self { outcomes, cut, files, carried, span } = self;
        let carried_calls = carried.iter().map(|piece| piece.calls.len()).sum();
        Sessions { outcomes, cut, files, carried, carried_calls, span, ..Sessions::default() }
    }
}
