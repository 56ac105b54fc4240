//! How the calls of an operation went within a task, where their lines name it.

use serde::{Deserialize, Serialize};

use crate::read::Step;

/// Counts of one operation in one task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Calls.
    pub calls: u64,
    /// Of those, failed.
    pub errors: u64,
    /// Nano-dollars.
    pub cost_nano: i64,
    /// Sum of the durations in microseconds.
    pub duration_us: u64,
}

impl Outcome {
    /// Counts a call.
    pub(super) fn add(&mut self, step: &Step) {
        self.calls += 1;
        self.errors += u64::from(step.failed);
        if step.cost_nano != i64::MIN {
            self.cost_nano = self.cost_nano.saturating_add(step.cost_nano);
        }
        if step.duration_us != u64::MAX {
            self.duration_us = self.duration_us.saturating_add(step.duration_us);
        }
    }

    /// Adds the calls of another one.
    pub fn absorb(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.cost_nano = self.cost_nano.saturating_add(other.cost_nano);
        self.duration_us = self.duration_us.saturating_add(other.duration_us);
    }
}
