//! Detectors: what is kept while logs are read, beside the counts of `tally`, and the findings that follow.
//!
//! Kept are errors by shape (`errors`), marked calls by operation (`marks`) and what the calls of a session
//! say together (`sessions`, `chains`). All of it is sums, extremes and choices that do not depend on the
//! order, in bounded memory, so that states of several machines and runs add up to the report of one.
//! [`patterns`] makes the findings. `docs/patterns.md` has the rules and the formulas.

mod chains;
mod errors;
mod evidence;
mod find;
mod hours;
mod marks;
mod sessions;

use serde::{Deserialize, Serialize};

pub use chains::{Outcomes, Runs, Sums, Use, Waste, WasteKind, Wasted};
pub use errors::{Errors, Owner, Shape};
pub use evidence::{Evidence, Few, Span};
pub use find::patterns;
pub use hours::Hours;
pub use marks::{AllMarks, Mark, Marks};
pub use sessions::Sessions;

use crate::line::Kind;
use crate::read::{Batch, NONE, Ops};
use crate::tally::Limits;

use errors::SavedErrors;
use sessions::SavedSessions;

/// What detectors keep.
#[derive(Debug, Clone, Default)]
pub struct Detected {
    /// Errors by shape.
    pub errors: Errors,
    /// Slow, late and expensive calls by operation.
    pub marks: AllMarks,
    /// Calls by session.
    pub sessions: Sessions,
    /// When there were calls and errors at all.
    pub active: Hours,
}

impl Detected {
    /// Takes a batch; `file` is the name of its input.
    pub fn add(&mut self, batch: &Batch, ops: &Ops, file: &str, limits: Limits) {
        self.errors.add(batch, file);
        let number = self.sessions.file(file);
        for step in &batch.steps {
            self.active.see(step.at);
            if step.op == NONE {
                continue;
            }
            self.marks.add(step, limits, batch, file);
            self.sessions.add(step, ops, number, limits);
        }
    }

    /// Ends the reading.
    pub fn finish(&mut self) {
        self.sessions.finish();
    }

    /// Adds what another machine kept, whose operations have the numbers that `number` translates.
    pub fn absorb(&mut self, other: Self, number: impl Fn(usize) -> usize) {
        let number = |op: u32| if op == NONE { NONE } else { number(op as usize) as u32 };
        self.errors.absorb(other.errors, &number);
        self.marks.absorb(other.marks, &number);
        self.sessions.absorb(other.sessions, &number);
        self.active.absorb(&other.active);
    }

    /// Evaluates sessions that nothing can come of any more, because what was absorbed goes on where the
    /// rest ended.
    pub fn settle(&mut self, limits: Limits) {
        self.sessions.settle(limits);
    }
}

/// The form in which it leaves a machine; operations are numbers of `names`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDetected {
    names: Vec<(Kind, Box<str>)>,
    errors: SavedErrors,
    marks: Vec<(u32, Marks)>,
    sessions: SavedSessions,
    active: Hours,
}

impl SavedDetected {
    /// Of what was kept.
    pub fn of(detected: &Detected, ops: &Ops) -> Self {
        let name = |number| {
            let (kind, name) = ops.get(number);
            (kind, name.into())
        };
        Self {
            names: (0..ops.len() as u32).map(name).collect(),
            errors: SavedErrors::of(&detected.errors),
            marks: detected.marks.saved(),
            sessions: SavedSessions::of(&detected.sessions),
            active: detected.active.clone(),
        }
    }

    /// Back, with the numbers of `ops`.
    pub fn restore(self, ops: &mut Ops) -> Detected {
        let Self { names, errors, marks, sessions, active } = self;
        let numbers: Vec<u32> = names.iter().map(|(kind, name)| ops.number(*kind, name)).collect();
        let mut detected = Detected::default();
        let saved = Detected {
            errors: errors.restore(),
            marks: AllMarks::restore(marks),
            sessions: sessions.restore(),
            active,
        };
        detected.absorb(saved, |op| numbers.get(op).map_or(0, |number| *number as usize));
        detected
    }
}
