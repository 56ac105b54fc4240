//! What one chunk holds, in the order of its lines: the small records that everything later is
//! computed from, so that order never depends on the number of workers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::line::{Bad, Entry, Hashing, Kind, Reader, Repair, Stops, canonical_hash};
use crate::tally::Limits;
use crate::templates::{Masker, excerpt};

use super::Window;
use super::source::Chunk;

/// One call, or one error that is no call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Microseconds since 1970, UTC; `i64::MIN` without a time.
    pub at: i64,
    /// The operation; [`NONE`] for an error that is no call.
    pub op: u32,
    /// The task (an operation too) that it worked for, or [`NONE`].
    pub task: u32,
    /// Hash of its task's, session's or trace's id; 0 without one.
    pub group: u64,
    /// Hash of its arguments, whatever the order of their keys; 0 without any.
    pub args: u64,
    /// Microseconds; `u64::MAX` without a duration.
    pub duration_us: u64,
    /// Nano-dollars; `i64::MIN` without a cost.
    pub cost_nano: i64,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// It failed.
    pub failed: bool,
    /// It failed because time ran out.
    pub timed_out: bool,
    /// Where its error's text is in the batch's texts.
    pub error: Text,
    /// Where its error's class is.
    pub error_type: Text,
    /// The shape of its error (of its class, without a text) among the batch's, or [`NONE`].
    pub shape: u32,
    /// The beginning of its line, if it is slow or expensive, or failed and does not say why.
    pub line: Text,
    /// Offset of its line in the batch's file.
    pub offset: u64,
}

/// No operation.
pub const NONE: u32 = u32::MAX;
/// Longest error text that is kept, in bytes.
const LONGEST_TEXT: usize = 4096;
/// Longest beginning of a line that is kept, in bytes.
const LONGEST_LINE: usize = 160;
/// Longest operation name, in bytes.
const LONGEST_NAME: usize = 200;
/// Examples of a class of bad lines that a batch keeps.
const EXAMPLES: usize = 3;

/// A piece of the batch's texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text {
    start: u32,
    length: u32,
}

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its class.
    pub class: Bad,
    /// Where it begins in its file.
    pub offset: u64,
    /// Its beginning.
    pub excerpt: String,
}

/// A shape of error texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// As [`Masker::mask`] gives it.
    pub key: Box<[u8]>,
    /// The shortest text in the batch, the first in byte order among equals, cut at 256 bytes.
    pub example: Box<str>,
}

/// Everything in one chunk.
#[derive(Debug, Default)]
pub struct Batch {
    /// Index of the input.
    pub input: usize,
    /// It is the unterminated last line of its file.
    pub unterminated: bool,
    /// Plain bytes.
    pub bytes: u64,
    /// Entries inside the window.
    pub entries: u64,
    /// Entries outside it, or without a time when there is one.
    pub outside: u64,
    /// Earliest and latest time.
    pub span: Option<(i64, i64)>,
    /// In the order of their lines. Operations are numbers of the worker until the batch is handed on.
    pub steps: Vec<Step>,
    /// Bad lines by class.
    pub bad: BTreeMap<Bad, u64>,
    /// Some of them.
    pub examples: Vec<BadLine>,
    /// Repaired lines by kind.
    pub repaired: BTreeMap<Repair, u64>,
    /// The shapes of its errors; one may be there twice.
    pub shapes: Vec<Shape>,
    texts: String,
    /// Operations that the worker met for the first time.
    pub(super) new_ops: Vec<(Kind, Box<str>)>,
}

impl Batch {
    /// A text of a step.
    pub fn text(&self, text: Text) -> &str {
        &self.texts[text.start as usize..][..text.length as usize]
    }

    fn keep(&mut self, text: Option<&str>) -> Text {
        let Some(text) = text else { return Text::default() };
        let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
        let start = self.texts.len() as u32;
        self.texts.push_str(text);
        Text { start, length: text.len() as u32 }
    }

    fn bad(&mut self, class: Bad, offset: u64, line: &[u8]) {
        *self.bad.entry(class).or_default() += 1;
        if self.examples.iter().filter(|bad| bad.class == class).count() < EXAMPLES {
            let excerpt = String::from_utf8_lossy(&line[..line.len().min(120)]).trim_end().to_owned();
            self.examples.push(BadLine { class, offset, excerpt });
        }
    }
}

/// Turns chunks into batches.
pub(super) struct Worker {
    reader: Reader,
    window: Window,
    names: Names,
    /// Steps of the batch before: the next one will have about as many.
    expected: usize,
    limits: Limits,
    masker: Masker,
    /// Places in the batch's shapes by the hash of the key.
    shapes: HashMap<u64, u32, Hashing>,
}

impl Worker {
    pub(super) fn new(reader: Reader, window: Window, limits: Limits) -> Self {
        Self {
            reader,
            window,
            names: Names::default(),
            expected: 0,
            limits,
            masker: Masker::default(),
            shapes: HashMap::default(),
        }
    }

    pub(super) fn batch(&mut self, chunk: &Chunk) -> Batch {
        let mut batch = Batch {
            input: chunk.input,
            unterminated: chunk.unterminated,
            bytes: chunk.bytes.len() as u64,
            ..Batch::default()
        };
        for &offset in &chunk.too_long {
            batch.bad(Bad::TooLong, offset, b"");
        }
        self.shapes.clear();
        batch.steps.reserve(self.expected + self.expected / 8);
        let valid = simdutf8::basic::from_utf8(&chunk.bytes).is_ok();
        let mut start = 0;
        while start < chunk.bytes.len() {
            let end = memchr::memchr(b'\n', &chunk.bytes[start..]).map_or(chunk.bytes.len(), |at| start + at);
            self.line(&chunk.bytes[start..end], valid, chunk.offset + start as u64, &mut batch);
            start = end + 1;
        }
        self.expected = batch.steps.len();
        batch
    }

    fn line(&mut self, line: &[u8], valid: bool, offset: u64, batch: &mut Batch) {
        let Self { reader, window, names, limits, masker, shapes, .. } = self;
        let mut repairs = [None; 4];
        let mut count = 0;
        let outcome = reader.line(
            line,
            valid,
            |entry| {
                if !window.holds(entry.at) {
                    batch.outside += 1;
                    return;
                }
                batch.entries += 1;
                if let Some(at) = entry.at {
                    let (first, last) = batch.span.unwrap_or((at, at));
                    batch.span = Some((first.min(at), last.max(at)));
                }
                if (entry.kind.is_some() && !entry.starts) || entry.failed {
                    let mut step = step(entry, offset, batch, names);
                    if step.failed {
                        step.shape = shape(entry, batch, masker, shapes);
                    }
                    let slow = step.duration_us > limits.slow_us && step.duration_us != u64::MAX;
                    if slow
                        || step.cost_nano > limits.dear_nano
                        || (step.failed && step.error == Text::default())
                    {
                        let start = &line[..line.len().min(LONGEST_LINE)];
                        // The line is valid; its beginning may be cut within a character.
                        let start = simdutf8::basic::from_utf8(start)
                            .map_or_else(|_| String::from_utf8_lossy(start), Cow::Borrowed);
                        step.line = batch.keep(Some(start.trim()));
                    }
                    batch.steps.push(step);
                }
            },
            |repair| {
                if count < repairs.len() {
                    repairs[count] = Some(repair);
                    count += 1;
                }
            },
        );
        match outcome {
            Ok(()) => {
                for repair in repairs.into_iter().flatten() {
                    *batch.repaired.entry(repair).or_default() += 1;
                }
            }
            Err(_) if batch.unterminated => batch.bad(Bad::Torn, offset, line),
            Err(class) => batch.bad(class, offset, line),
        }
    }
}

/// What a worker knows of the names and arguments of calls.
#[derive(Default)]
struct Names {
    /// Numbers of operations by kind.
    ops: [HashMap<Box<str>, u32, Hashing>; 3],
    known: u32,
    stops: Stops,
}

impl Names {
    /// The worker's number of an operation.
    fn number(&mut self, kind: Kind, name: &str, batch: &mut Batch) -> u32 {
        let name = &name[..name.floor_char_boundary(LONGEST_NAME)];
        let of_kind = &mut self.ops[kind as usize];
        if let Some(&number) = of_kind.get(name) {
            return number;
        }
        let number = self.known;
        self.known += 1;
        of_kind.insert(name.into(), number);
        batch.new_ops.push((kind, name.into()));
        number
    }
}

fn step(entry: &Entry<'_>, offset: u64, batch: &mut Batch, names: &mut Names) -> Step {
    let op = entry.kind.map_or(NONE, |kind| names.number(kind, &entry.name, batch));
    let task = entry.task.as_deref().map_or(NONE, |task| names.number(Kind::Task, task, batch));
    Step {
        at: entry.at.unwrap_or(i64::MIN),
        op,
        task,
        group: entry.group.map_or(0, hash),
        args: entry.params.map_or(0, |raw| canonical_hash(raw, &mut names.stops)),
        duration_us: entry.duration_us.unwrap_or(u64::MAX),
        cost_nano: entry.cost_nano.unwrap_or(i64::MIN),
        prompt_tokens: entry.prompt_tokens,
        completion_tokens: entry.completion_tokens,
        failed: entry.failed,
        timed_out: entry.timed_out,
        error: batch.keep(entry.error.as_deref()),
        error_type: batch.keep(entry.error_type.as_deref()),
        shape: NONE,
        line: Text::default(),
        offset,
    }
}

/// The place of the shape of an entry's error.
fn shape(
    entry: &Entry<'_>,
    batch: &mut Batch,
    masker: &mut Masker,
    places: &mut HashMap<u64, u32, Hashing>,
) -> u32 {
    let Some(text) = entry.error.as_deref().or(entry.error_type.as_deref()) else { return NONE };
    let (key, example) = masker.mask(text);
    if key.is_empty() {
        return NONE;
    }
    let example = excerpt(example);
    let next = batch.shapes.len() as u32;
    let place = *places.entry(hash(key)).or_insert(next);
    match batch.shapes.get_mut(place as usize) {
        Some(known) if *known.key == *key => {
            if (example.len(), example) < (known.example.len(), &*known.example) {
                known.example = example.into();
            }
            place
        }
        // New, or another key of the same hash: that one is listed again each time.
        _ => {
            batch.shapes.push(Shape { key: key.into(), example: example.into() });
            next
        }
    }
}

/// The same number for the same bytes on every machine, and never 0: eight bytes at a time,
/// folded products (wyhash's core step, without a secret: nobody gains from a collision here).
pub fn hash(bytes: &[u8]) -> u64 {
    const P: u64 = 0xa076_1d64_78bd_642f;
    const Q: u64 = 0xe703_7ed1_a0b4_28db;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = fold(bytes.len() as u64 ^ P, Q);
    for word in words {
        state = fold(u64::from_le_bytes(*word) ^ P, state ^ Q);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(u64::from_le_bytes(last) ^ P, state ^ Q).max(1)
}

/// The names of operations over all workers, numbered in the order of the log.
#[derive(Debug, Clone)]
pub struct Ops {
    names: Vec<(Kind, Box<str>)>,
    numbers: HashMap<(Kind, Box<str>), u32>,
}

/// Further names are `(other)`: a log with ids for names must not fill the memory.
const MOST_OPS: usize = 4096;

impl Default for Ops {
    fn default() -> Self {
        let mut ops = Self { names: Vec::new(), numbers: HashMap::new() };
        for kind in [Kind::Tool, Kind::Llm, Kind::Task] {
            ops.insert(kind, "(other)".into());
        }
        ops
    }
}

impl Ops {
    fn insert(&mut self, kind: Kind, name: Box<str>) -> u32 {
        let number = self.names.len() as u32;
        self.names.push((kind, name.clone()));
        self.numbers.insert((kind, name), number);
        number
    }

    /// The number of an operation.
    pub fn number(&mut self, kind: Kind, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(&(kind, name.into())) {
            return number;
        }
        if self.names.len() >= MOST_OPS { kind as u32 } else { self.insert(kind, name.into()) }
    }

    /// The number of an operation that is there.
    pub fn find(&self, kind: Kind, name: &str) -> Option<u32> {
        self.numbers.get(&(kind, name.into())).copied()
    }

    /// The kind and name of a number.
    pub fn get(&self, number: u32) -> (Kind, &str) {
        let (kind, name) = &self.names[number as usize];
        (*kind, name)
    }

    /// `tool:web`, `llm:gpt-4o`, `task:report`.
    pub fn full_name(&self, number: u32) -> String {
        let (kind, name) = self.get(number);
        format!("{}{name}", kind.prefix())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: `(other)` is always there.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Numbers of one worker as numbers of all.
#[derive(Debug, Default)]
pub(super) struct Renumber(Vec<u32>);

impl Renumber {
    pub(super) fn apply(&mut self, batch: &mut Batch, ops: &mut Ops) {
        self.0.extend(batch.new_ops.drain(..).map(|(kind, name)| ops.number(kind, &name)));
        for step in &mut batch.steps {
            for number in [&mut step.op, &mut step.task] {
                if *number != NONE {
                    *number = self.0[*number as usize];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_and_stay() {
        let texts: [&[u8]; 6] = [b"", b"\0", b"a", b"abcdefgh", b"abcdefgh\0", b"abcdefgi"];
        let mut hashes: Vec<u64> = texts.iter().map(|text| hash(text)).collect();
        assert_eq!(hash(b"abc"), 11_648_874_453_100_791_973, "golden: stored states depend on it");
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 6);
    }

    #[test]
    fn names_beyond_the_limit_are_other() {
        let mut ops = Ops::default();
        for index in 0..5000 {
            ops.number(Kind::Tool, &format!("t{index}"));
        }
        assert_eq!(ops.len(), MOST_OPS);
        let number = ops.number(Kind::Llm, "late");
        assert_eq!(ops.full_name(number), "llm:(other)");
    }
}
