//! What is counted: for every operation and hour the calls, errors, time-outs, cost and a sketch of
//! durations; and which lines could not be used.
//!
//! Sums are of integers (microseconds, nano-dollars), so partial tallies of several machines merge
//! to exactly what one machine would have counted.

mod outcome;
mod pack;
mod sketch;
mod state;

use std::collections::BTreeMap;

use nightshift_core::config::AnalyzeLogs;
use serde::{Deserialize, Serialize};

pub use outcome::Outcome;
pub(crate) use pack::{pack, unpack};
pub use sketch::Sketch;
pub use state::{Saved, StateError};

use crate::detect::Detected;
use crate::line::{Bad, Repair};
use crate::read::{Batch, NONE, Ops, Problem, Step};

/// Microseconds of an hour.
pub const HOUR_US: i64 = 3_600_000_000;
/// The hour of calls without a time.
pub const NO_HOUR: i32 = i32::MIN;
/// Cells beyond this are joined to days, the oldest first, so that years of logs fit the memory.
const MOST_CELLS: usize = 40_000;
/// Further pairs of a task and an operation are not followed.
const MOST_OUTCOMES: usize = 16_384;
/// Examples of a class of bad lines that are kept.
const EXAMPLES: usize = 5;

/// Above these a call is slow, ran into its limit, or is expensive: microseconds and nano-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `slow_operation_threshold`.
    pub slow_us: u64,
    /// `timeout_threshold`.
    pub long_us: u64,
    /// `high_cost_threshold`.
    pub dear_nano: i64,
}

impl Limits {
    /// Of the settings, rounded to whole units.
    pub fn of(settings: &AnalyzeLogs) -> Self {
        Self {
            slow_us: (settings.slow_operation_threshold * 1e6).round() as u64,
            long_us: (settings.timeout_threshold * 1e6).round() as u64,
            dear_nano: (settings.high_cost_threshold * 1e9).round() as i64,
        }
    }
}

/// The calls of one operation in one hour (in one day, for old ones).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// Hours since 1970, UTC; [`NO_HOUR`] without a time.
    pub hour: i32,
    /// Calls.
    pub calls: u64,
    /// Of those, failed.
    pub errors: u64,
    /// Of those, because time ran out.
    pub timeouts: u64,
    /// Calls above `slow_us`.
    pub slow: u64,
    /// Calls above `long_us`.
    pub long: u64,
    /// Calls above `dear_nano`.
    pub dear: u64,
    /// Nano-dollars.
    pub cost_nano: i64,
    /// Tokens read and written.
    pub tokens: (u64, u64),
    /// Sum of the durations in microseconds.
    pub duration_us: u64,
    /// Shortest and longest duration.
    pub extremes: Option<(u64, u64)>,
    /// The durations.
    pub sketch: Sketch,
}

impl Cell {
    pub(crate) fn at(hour: i32) -> Self {
        Self { hour, ..Self::default() }
    }

    pub(crate) fn add(&mut self, step: &Step, limits: Limits) {
        self.calls += 1;
        self.errors += u64::from(step.failed);
        self.timeouts += u64::from(step.timed_out);
        if step.cost_nano != i64::MIN {
            self.cost_nano = self.cost_nano.saturating_add(step.cost_nano);
            self.dear += u64::from(step.cost_nano > limits.dear_nano);
        }
        self.tokens.0 += u64::from(step.prompt_tokens);
        self.tokens.1 += u64::from(step.completion_tokens);
        if step.duration_us != u64::MAX {
            let us = step.duration_us;
            self.slow += u64::from(us > limits.slow_us);
            self.long += u64::from(us > limits.long_us);
            self.duration_us = self.duration_us.saturating_add(us);
            self.extremes =
                Some(self.extremes.map_or((us, us), |(least, most)| (least.min(us), most.max(us))));
            self.sketch.add(us);
        }
    }

    /// Adds the calls of another cell.
    pub fn absorb(&mut self, other: &Self) {
        self.count(other);
        self.sketch.absorb(&other.sketch);
    }

    /// Adds everything but the sketch.
    fn count(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.slow += other.slow;
        self.long += other.long;
        self.dear += other.dear;
        self.cost_nano = self.cost_nano.saturating_add(other.cost_nano);
        self.tokens.0 += other.tokens.0;
        self.tokens.1 += other.tokens.1;
        self.duration_us = self.duration_us.saturating_add(other.duration_us);
        self.extremes = match (self.extremes, other.extremes) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// A quantile of the durations in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let (least, most) = self.extremes?;
        self.sketch.quantile(q, least, most).map(|us| us / 1000.0)
    }
}

/// The cells of one operation by hour, and when it was first and last seen (microseconds).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Ascending by hour.
    pub cells: Vec<Cell>,
    /// First and last call that has a time.
    pub span: Option<(i64, i64)>,
    latest: usize,
}

impl Series {
    fn cell(&mut self, hour: i32) -> (&mut Cell, bool) {
        // Logs are nearly in order: the hour is nearly always that of the call before.
        if self.cells.get(self.latest).is_none_or(|cell| cell.hour != hour) {
            match self.cells.binary_search_by_key(&hour, |cell| cell.hour) {
                Ok(at) => self.latest = at,
                Err(at) => {
                    self.cells.insert(at, Cell::at(hour));
                    self.latest = at;
                    return (&mut self.cells[at], true);
                }
            }
        }
        (&mut self.cells[self.latest], false)
    }

    fn seen(&mut self, at: i64) {
        self.span = Some(self.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    }

    /// All hours as one cell.
    pub fn total(&self) -> Cell {
        if let [only] = &*self.cells {
            return only.clone();
        }
        let mut total = Cell::default();
        for cell in &self.cells {
            total.count(cell);
        }
        total.sketch = Sketch::sum(self.cells.iter().map(|cell| &cell.sketch));
        total
    }

    /// Joins the cells before `hour` to days.
    fn join_days(&mut self, before: i32) {
        let mut cells: Vec<Cell> = Vec::with_capacity(self.cells.len());
        for mut cell in self.cells.drain(..) {
            if cell.hour < before && cell.hour != NO_HOUR {
                cell.hour = cell.hour.div_euclid(24) * 24;
            }
            match cells.last_mut() {
                Some(last) if last.hour == cell.hour => last.absorb(&cell),
                _ => cells.push(cell),
            }
        }
        self.cells = cells;
        self.latest = 0;
    }
}

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its class.
    pub class: Bad,
    /// Its file.
    pub file: String,
    /// Where it begins in the (decompressed) file.
    pub offset: u64,
    /// Its beginning.
    pub excerpt: String,
}

/// All that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Entries that were used.
    pub entries: u64,
    /// Entries outside the time asked for.
    pub outside: u64,
    /// Plain bytes read.
    pub bytes: u64,
    /// First and last time of any entry, microseconds.
    pub span: Option<(i64, i64)>,
    /// Bad lines by class.
    pub bad: BTreeMap<Bad, u64>,
    /// Some of them.
    pub examples: Vec<Example>,
    /// Lines that were used although something was wrong with them.
    pub repaired: BTreeMap<Repair, u64>,
    /// By number of the operation.
    pub series: Vec<Series>,
    /// The latest hours of every operation, where `series` has their sums alone; else empty.
    pub recent: Vec<Series>,
    /// By numbers of a task and of an operation, where lines name the task.
    pub outcomes: BTreeMap<(u32, u32), Outcome>,
    /// What counts as slow, long and dear in the cells.
    pub limits: Limits,
    /// Cells before this hour are days.
    days_before: i32,
    cells: usize,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            entries: 0,
            outside: 0,
            bytes: 0,
            span: None,
            bad: BTreeMap::new(),
            examples: Vec::new(),
            repaired: BTreeMap::new(),
            series: Vec::new(),
            recent: Vec::new(),
            outcomes: BTreeMap::new(),
            limits,
            days_before: NO_HOUR,
            cells: 0,
        }
    }

    /// Counts a batch; `file` is the name of its input.
    pub fn add(&mut self, batch: &Batch, file: &str) {
        self.entries += batch.entries;
        self.outside += batch.outside;
        self.bytes += batch.bytes;
        self.span = join(self.span, batch.span);
        for (class, count) in &batch.bad {
            *self.bad.entry(*class).or_default() += count;
        }
        for line in &batch.examples {
            let (file, excerpt) = (file.to_owned(), line.excerpt.clone());
            self.example(Example { class: line.class, file, offset: line.offset, excerpt });
        }
        for (repair, count) in &batch.repaired {
            *self.repaired.entry(*repair).or_default() += count;
        }
        for step in batch.steps.iter().filter(|step| step.op != NONE) {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let op = step.op as usize;
        if self.series.len() <= op {
            self.series.resize_with(op + 1, Series::default);
        }
        let mut hour = NO_HOUR;
        if step.at != i64::MIN {
            hour = i32::try_from(step.at.div_euclid(HOUR_US)).unwrap_or(NO_HOUR + 1).max(NO_HOUR + 1);
            if hour < self.days_before {
                hour = hour.div_euclid(24) * 24;
            }
            self.series[op].seen(step.at);
        }
        if step.task != NONE {
            self.outcome(step);
        }
        let (cell, new) = self.series[op].cell(hour);
        cell.add(step, self.limits);
        self.cells += usize::from(new);
        if self.cells > MOST_CELLS {
            self.shrink();
        }
    }

    fn outcome(&mut self, step: &Step) {
        let key = (step.task, step.op);
        if self.outcomes.len() < MOST_OUTCOMES || self.outcomes.contains_key(&key) {
            self.outcomes.entry(key).or_default().add(step);
        }
    }

    /// The cells of single hours, as far as they are at hand.
    pub fn hourly(&self) -> &[Series] {
        if self.recent.is_empty() { &self.series } else { &self.recent }
    }

    /// Whether this is the hour of cells that stand for one hour, not for none or for a day.
    pub fn is_hour(&self, hour: i32) -> bool {
        hour != NO_HOUR && hour >= self.days_before
    }

    /// Joins old hours to days until half of the room is free, if days are enough for that.
    fn shrink(&mut self) {
        let mut hours: Vec<i32> =
            self.series.iter().flat_map(|series| &series.cells).map(|cell| cell.hour).collect();
        let middle = hours.len() / 2;
        let (_, &mut hour, _) = hours.select_nth_unstable(middle);
        // Whole days only, and at least one more than before.
        let next = (hour.div_euclid(24) + 1) * 24;
        self.days_until(next.max(self.days_before.saturating_add(24)));
    }

    fn days_until(&mut self, hour: i32) {
        self.days_before = hour;
        for series in &mut self.series {
            series.join_days(hour);
        }
        self.cells = self.series.iter().map(|series| series.cells.len()).sum();
    }

    /// Takes over cells of an operation that has none yet.
    pub(crate) fn extend(&mut self, op: usize, span: Option<(i64, i64)>, cells: Vec<Cell>) {
        if self.series.len() <= op {
            self.series.resize_with(op + 1, Series::default);
        }
        self.series[op].span = join(self.series[op].span, span);
        self.series[op].cells.extend(cells);
    }

    fn example(&mut self, example: Example) {
        if self.examples.iter().filter(|known| known.class == example.class).count() < EXAMPLES {
            self.examples.push(example);
        }
    }

    /// Adds what another machine counted, whose operations have the numbers that `number` translates.
    pub fn absorb(&mut self, mut other: Self, number: impl Fn(usize) -> usize) {
        self.entries += other.entries;
        self.outside += other.outside;
        self.bytes += other.bytes;
        self.span = join(self.span, other.span);
        for (class, count) in &other.bad {
            *self.bad.entry(*class).or_default() += count;
        }
        other.examples.drain(..).for_each(|example| self.example(example));
        for (repair, count) in &other.repaired {
            *self.repaired.entry(*repair).or_default() += count;
        }
        let days = self.days_before.max(other.days_before);
        for tally in [&mut *self, &mut other] {
            if tally.days_before < days {
                tally.days_until(days);
            }
        }
        for (op, theirs) in other.series.into_iter().enumerate() {
            let op = number(op);
            if self.series.len() <= op {
                self.series.resize_with(op + 1, Series::default);
            }
            if !self.recent.is_empty() {
                self.recent.resize_with(self.series.len(), Series::default);
                for cell in &theirs.cells {
                    self.recent[op].cell(cell.hour).0.absorb(cell);
                }
            }
            let ours = &mut self.series[op];
            ours.span = join(ours.span, theirs.span);
            if ours.cells.is_empty() {
                ours.cells = theirs.cells;
                continue;
            }
            for cell in theirs.cells {
                ours.cell(cell.hour).0.absorb(&cell);
            }
        }
        for ((task, op), theirs) in other.outcomes {
            self.outcomes
                .entry((number(task as usize) as u32, number(op as usize) as u32))
                .or_default()
                .absorb(&theirs);
        }
        self.cells = self.series.iter().map(|series| series.cells.len()).sum();
        while self.cells > MOST_CELLS {
            self.shrink();
        }
    }
}

fn join(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Everything that one pass over logs leaves behind; detectors look at this.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Names of the operations.
    pub ops: Ops,
    /// What was counted.
    pub tally: Tally,
    /// What the detectors keep.
    pub detected: Detected,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl Findings {
    /// Nothing yet.
    pub fn empty(limits: Limits) -> Self {
        Self {
            ops: Ops::default(),
            tally: Tally::new(limits),
            detected: Detected::default(),
            problems: Vec::new(),
        }
    }

    /// Takes a batch; `file` is the name of its input. `ops` are the names so far.
    pub(crate) fn add(&mut self, batch: &Batch, ops: &Ops, file: &str) {
        self.tally.add(batch, file);
        self.detected.add(batch, ops, file, self.tally.limits);
    }

    /// Ends the reading; `ops` are all names.
    pub(crate) fn finish(&mut self, ops: Ops) {
        self.ops = ops;
        self.detected.finish();
    }
}
