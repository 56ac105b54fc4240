//! Calls that are slow, time out or are expensive, by operation: sums, when, and the worst of them.

use serde::{Deserialize, Serialize};

use super::evidence::{Few, Span};
use crate::read::{Batch, NONE, Step};
use crate::tally::Limits;

/// Some calls of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Calls.
    pub count: u64,
    /// Microseconds that they took.
    pub us: u64,
    /// Nano-dollars that they cost.
    pub nano: i64,
    /// First and last.
    pub span: Span,
    /// The worst.
    pub worst: Few,
}

impl Mark {
    fn add(&mut self, step: &Step, rank: i64, file: &str, excerpt: &str) {
        self.count += 1;
        if step.duration_us != u64::MAX {
            self.us = self.us.saturating_add(step.duration_us);
        }
        if step.cost_nano != i64::MIN {
            self.nano = self.nano.saturating_add(step.cost_nano);
        }
        self.span.see(step.at);
        self.worst.offer((rank, step.at), file, step.offset, excerpt);
    }

    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.us = self.us.saturating_add(other.us);
        self.nano = self.nano.saturating_add(other.nano);
        self.span.join(other.span);
        self.worst.absorb(other.worst);
    }
}

/// The marked calls of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Above `slow_us`.
    pub slow: Mark,
    /// Timed out.
    pub late: Mark,
    /// Above `dear_nano`.
    pub dear: Mark,
    /// Failed, for whatever reason.
    pub failed: Mark,
}

impl Marks {
    fn is_empty(&self) -> bool {
        self.slow.count + self.late.count + self.dear.count + self.failed.count == 0
    }
}

/// By number of the operation.
#[derive(Debug, Clone, Default)]
pub struct AllMarks(Vec<Marks>);

impl AllMarks {
    /// Those of an operation.
    pub fn of(&self, op: usize) -> Option<&Marks> {
        self.0.get(op).filter(|marks| !marks.is_empty())
    }

    fn at(&mut self, op: u32) -> &mut Marks {
        let op = op as usize;
        if self.0.len() <= op {
            self.0.resize_with(op + 1, Marks::default);
        }
        &mut self.0[op]
    }

    #[inline]
    pub(super) fn add(&mut self, step: &Step, limits: Limits, batch: &Batch, file: &str) {
        let slow = step.duration_us > limits.slow_us && step.duration_us != u64::MAX;
        let dear = step.cost_nano > limits.dear_nano;
        if step.op == NONE || !(slow || dear || step.failed) {
            return;
        }
        let error = batch.text(step.error);
        let line = batch.text(step.line);
        let why = if error.is_empty() { line } else { error };
        let longest = if step.duration_us == u64::MAX { 0 } else { -(step.duration_us.min(1 << 62) as i64) };
        let marks = self.at(step.op);
        if slow {
            marks.slow.add(step, longest, file, line);
        }
        if dear {
            marks.dear.add(step, -step.cost_nano, file, line);
        }
        if step.timed_out {
            marks.late.add(step, longest, file, why);
        }
        if step.failed {
            marks.failed.add(step, longest, file, why);
        }
    }

    /// Adds those of another machine, whose operations have the numbers that `number` translates.
    pub(super) fn absorb(&mut self, other: Self, number: &impl Fn(u32) -> u32) {
        for (op, theirs) in other.0.into_iter().enumerate().filter(|(_, marks)| !marks.is_empty()) {
            let ours = self.at(number(op as u32));
            ours.slow.absorb(theirs.slow);
            ours.late.absorb(theirs.late);
            ours.dear.absorb(theirs.dear);
            ours.failed.absorb(theirs.failed);
        }
    }

    /// As a list of operations and their marks.
    pub(super) fn saved(&self) -> Vec<(u32, Marks)> {
        let marked = self.0.iter().enumerate().filter(|(_, marks)| !marks.is_empty());
        marked.map(|(op, marks)| (op as u32, marks.clone())).collect()
    }

    pub(super) fn restore(saved: Vec<(u32, Marks)>) -> Self {
        let mut all = Self::default();
        for (op, marks) in saved {
            *all.at(op) = marks;
        }
        all
    }
}
