//! The calls of both sides by hour.

use std::collections::BTreeMap;

use crate::read::Step;
use crate::tally::{Cell, HOUR_US, Limits, Sketch};

/// Calls that ran longer than a limit which was raised: did waiting for them pay?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Late {
    /// Calls that ran longer than the old limit.
    pub calls: u64,
    /// Of those, how many succeeded.
    pub succeeded: u64,
    /// Time beyond the old limit, in microseconds.
    pub extra_us: u64,
}

/// The calls of one side in one hour.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls {
    /// Counts, sums and durations.
    pub cell: Cell,
    /// Costs of the calls that have one, in nano-dollars.
    pub costs: Sketch,
    /// Those beyond the old limit, where there is one.
    pub late: Late,
}

impl Calls {
    fn add(&mut self, step: &Step, late_us: Option<u64>) {
        // What is slow, long or dear is not asked here.
        let none = Limits { slow_us: u64::MAX, long_us: u64::MAX, dear_nano: i64::MAX };
        self.cell.add(step, none);
        if let Ok(nano) = u64::try_from(step.cost_nano) {
            self.costs.add(nano);
        }
        if let Some(limit) = late_us
            && step.duration_us != u64::MAX
            && step.duration_us > limit
        {
            self.late.calls += 1;
            self.late.succeeded += u64::from(!step.failed);
            self.late.extra_us += step.duration_us - limit;
        }
    }

    /// Adds the calls of another hour.
    pub fn absorb(&mut self, other: &Self) {
        self.cell.absorb(&other.cell);
        self.costs.absorb(&other.costs);
        self.late.calls += other.late.calls;
        self.late.succeeded += other.late.succeeded;
        self.late.extra_us += other.late.extra_us;
    }
}

/// Which side a call is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the change, or in the control arm.
    Before,
    /// After the change, or in the arm that has it.
    After,
}

/// Both sides of one hour, or of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sides {
    /// Before the change, or the control arm.
    pub before: Calls,
    /// After the change, or the arm that has it.
    pub after: Calls,
}

impl Sides {
    /// Adds another hour.
    pub fn absorb(&mut self, other: &Self) {
        self.before.absorb(&other.before);
        self.after.absorb(&other.after);
    }
}

/// Both sides by hour since 1970 (UTC).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hours(pub BTreeMap<i32, Sides>);

impl Hours {
    /// Counts a call that has a time.
    pub fn add(&mut self, step: &Step, side: Side, late_us: Option<u64>) {
        let Ok(hour) = i32::try_from(step.at.div_euclid(HOUR_US)) else { return };
        let sides = self.0.entry(hour).or_default();
        let calls = match side {
            Side::Before => &mut sides.before,
            Side::After => &mut sides.after,
        };
        calls.add(step, late_us);
    }
}
