//! The form in which findings leave a machine, to be merged with those of others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Cell, Example, Findings, Limits, Outcome, Series, Sketch, Tally};
use crate::detect::SavedDetected;
use crate::line::{Bad, Kind, Repair};
use crate::read::{Ops, Problem};

/// Version of the form. 1: the first; 2: with what the detectors keep.
const FORMAT_VERSION: u32 = 2;

/// Why states do not merge.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another program's file, or a newer one.
    #[error("format_version is {0}, this program knows {FORMAT_VERSION}: upgrade the older side")]
    Version(u32),
    /// Cells of different limits do not add up.
    #[error(
        "it was made with other thresholds ({theirs:?} instead of {ours:?}): use one config on every machine"
    )]
    Limits {
        /// Those of the first state.
        ours: Limits,
        /// Those of this one.
        theirs: Limits,
    },
}

/// Findings as a JSON document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    format_version: u32,
    limits: Limits,
    entries: u64,
    outside: u64,
    bytes: u64,
    span: Option<(i64, i64)>,
    bad: BTreeMap<Bad, u64>,
    examples: Vec<Example>,
    repaired: BTreeMap<Repair, u64>,
    problems: Vec<Problem>,
    days_before: i32,
    operations: Vec<Operation>,
    detected: SavedDetected,
    /// By names of a task and of an operation.
    #[serde(default)]
    outcomes: Vec<(Name, Name, Outcome)>,
}

/// Of an operation.
type Name = (Kind, String);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    kind: Kind,
    name: String,
    span: Option<(i64, i64)>,
    cells: Vec<Packed>,
}

/// A cell as a list: there are thousands, and names would be most of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packed(i32, [u64; 6], i64, (u64, u64), u64, Option<(u64, u64)>, Sketch);

impl From<Cell> for Packed {
    fn from(cell: Cell) -> Self {
        let counts = [cell.calls, cell.errors, cell.timeouts, cell.slow, cell.long, cell.dear];
        Self(cell.hour, counts, cell.cost_nano, cell.tokens, cell.duration_us, cell.extremes, cell.sketch)
    }
}

impl From<Packed> for Cell {
    fn from(packed: Packed) -> Self {
        let Packed(
            hour,
            [calls, errors, timeouts, slow, long, dear],
            cost_nano,
            tokens,
            duration_us,
            extremes,
            sketch,
        ) = packed;
        Self {
            hour,
            calls,
            errors,
            timeouts,
            slow,
            long,
            dear,
            cost_nano,
            tokens,
            duration_us,
            extremes,
            sketch,
        }
    }
}

impl Saved {
    /// Of findings, operations in the order of their names.
    pub fn of(findings: &Findings) -> Self {
        let Findings { ops, tally, detected, problems } = findings;
        let mut operations: Vec<Operation> = tally
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| !series.cells.is_empty())
            .map(|(number, series)| {
                let (kind, name) = ops.get(number as u32);
                let cells = series.cells.iter().cloned().map(Packed::from).collect();
                Operation { kind, name: name.to_owned(), span: series.span, cells }
            })
            .collect();
        operations.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let detected = SavedDetected::of(detected, ops);
        Self { operations, detected, problems: problems.clone(), ..Self::totals(findings) }
    }

    /// Everything but the operations, what the detectors keep, and what could not be read.
    pub(crate) fn totals(findings: &Findings) -> Self {
        let tally = &findings.tally;
        let name = |number| {
            let (kind, name) = findings.ops.get(number);
            (kind, name.to_owned())
        };
        let mut outcomes: Vec<_> =
            tally.outcomes.iter().map(|(&(task, op), outcome)| (name(task), name(op), *outcome)).collect();
        outcomes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Self {
            format_version: FORMAT_VERSION,
            limits: tally.limits,
            entries: tally.entries,
            outside: tally.outside,
            bytes: tally.bytes,
            span: tally.span,
            bad: tally.bad.clone(),
            examples: tally.examples.clone(),
            repaired: tally.repaired.clone(),
            problems: Vec::new(),
            days_before: tally.days_before,
            operations: Vec::new(),
            detected: SavedDetected::default(),
            outcomes,
        }
    }

    /// Back to findings.
    pub fn restore(self) -> Result<Findings, StateError> {
        if self.format_version != FORMAT_VERSION {
            return Err(StateError::Version(self.format_version));
        }
        let mut ops = Ops::default();
        let mut tally = Tally::new(self.limits);
        tally.entries = self.entries;
        tally.outside = self.outside;
        tally.bytes = self.bytes;
        tally.span = self.span;
        tally.bad = self.bad;
        tally.examples = self.examples;
        tally.repaired = self.repaired;
        tally.days_before = self.days_before;
        for operation in self.operations {
            let number = ops.number(operation.kind, &operation.name) as usize;
            if tally.series.len() <= number {
                tally.series.resize_with(number + 1, Series::default);
            }
            tally.cells += operation.cells.len();
            tally.series[number].span = operation.span;
            tally.series[number].cells = operation.cells.into_iter().map(Cell::from).collect();
        }
        for ((task_kind, task), (kind, name), outcome) in self.outcomes {
            let key = (ops.number(task_kind, &task), ops.number(kind, &name));
            tally.outcomes.entry(key).or_default().absorb(&outcome);
        }
        let detected = self.detected.restore(&mut ops);
        Ok(Findings { ops, tally, detected, problems: self.problems })
    }
}

impl Findings {
    /// Adds those of another machine.
    pub fn absorb(&mut self, other: Self) -> Result<(), StateError> {
        if other.tally.limits != self.tally.limits {
            return Err(StateError::Limits { ours: self.tally.limits, theirs: other.tally.limits });
        }
        let numbers: Vec<usize> = (0..other.ops.len() as u32)
            .map(|number| {
                let (kind, name) = other.ops.get(number);
                self.ops.number(kind, name) as usize
            })
            .collect();
        self.tally.absorb(other.tally, |op| numbers[op]);
        self.detected.absorb(other.detected, |op| numbers[op]);
        self.problems.extend(other.problems);
        Ok(())
    }
}
