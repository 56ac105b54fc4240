//! Errors by the shape of their text: who had them, when, and what they cost.
//!
//! Everything is a sum, an extreme or a choice that does not depend on the order, so partial counts add up
//! to exactly what one machine would have counted, until a log has more shapes than fit: then the rarest, half
//! of the bytes, count as "the same first words, then anything" and are no template any more. A shape is as
//! frequent as all together that equal it but for one word: messages with many values for one word stay, and
//! texts that come once and never again go.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::evidence::{Few, Span};
use super::hours::Hours;
use crate::line::Hashing;
use crate::read::{Batch, NONE, Step};
use crate::templates::{Signature, coarse, worth};

/// Bytes that shapes may take.
const BUDGET: usize = 4 << 20;
/// Bytes of a shape besides its texts and lists.
const OVERHEAD: usize = 256;
/// Further classes are `(other)`.
const MOST_CLASSES: usize = 1_024;

/// Errors by shape.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    places: HashMap<Box<[u8]>, u32, Hashing>,
    /// By place.
    shapes: Vec<Shape>,
    classes: Classes,
    used: usize,
    /// Shapes that were forgotten.
    pub forgotten: u64,
}

/// The errors of one shape.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The shortest text.
    pub example: Box<str>,
    /// It stands for rare shapes that were forgotten.
    pub coarse: bool,
    /// Errors.
    pub count: u64,
    /// Errors by hour.
    pub hours: Hours,
    /// Who had them, ascending by operation, task and class.
    pub owners: Vec<Owner>,
    /// The first ones.
    pub first: Few,
}

/// The errors of one shape that one operation had while it worked for one task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The operation; [`NONE`] for errors that are no call.
    pub op: u32,
    /// The task that the line names, or [`NONE`].
    pub task: u32,
    /// The class of the error, or [`NONE`].
    pub class: u32,
    /// Errors.
    pub count: u64,
    /// Of those, time-outs.
    pub timeouts: u64,
    /// Microseconds that the failed calls took.
    pub us: u64,
    /// Nano-dollars that they cost.
    pub nano: i64,
    /// First and last.
    pub span: Span,
}

/// Classes of errors by number.
#[derive(Debug, Clone, Default)]
struct Classes {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32, Hashing>,
}

impl Classes {
    fn number(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return NONE;
        }
        let name = if self.names.len() >= MOST_CLASSES { "(other)" } else { name };
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }
}

impl Errors {
    /// Counts the errors of a batch.
    pub(super) fn add(&mut self, batch: &Batch, file: &str) {
        if batch.shapes.is_empty() {
            return;
        }
        if self.used > BUDGET {
            self.forget();
        }
        let places: Vec<u32> =
            batch.shapes.iter().map(|shape| self.place(&shape.key, &shape.example)).collect();
        for step in batch.steps.iter().filter(|step| step.shape != NONE) {
            let class = self.classes.number(batch.text(step.error_type));
            let place = places[step.shape as usize] as usize;
            self.used += self.shapes[place].count(step, class, batch, file);
        }
    }

    /// The place of a shape; `example` is one of its texts.
    fn place(&mut self, key: &[u8], example: &str) -> u32 {
        if let Some(&place) = self.places.get(key) {
            let known = &mut self.shapes[place as usize].example;
            if (example.len(), example) < (known.len(), &**known) {
                *known = example.into();
            }
            return place;
        }
        let place = self.shapes.len() as u32;
        self.places.insert(key.into(), place);
        self.shapes.push(Shape { example: example.into(), ..Shape::default() });
        self.used += key.len() + example.len() + OVERHEAD;
        place
    }

    /// Joins the rarest shapes, half of the bytes or more, to coarser ones.
    fn forget(&mut self) {
        let worth = worth(&self.signatures().0);
        let sizes = self.shapes.iter().map(|shape| OVERHEAD + shape.bytes());
        let mut sizes: Vec<(u64, usize)> = worth.iter().copied().zip(sizes).collect();
        sizes.sort_unstable();
        let mut freed = 0;
        let rare = sizes.iter().find(|(_, bytes)| {
            freed += bytes;
            freed * 2 >= self.used
        });
        let rare = rare.map_or(0, |(worth, _)| *worth);
        let mut old = std::mem::take(self);
        self.classes = std::mem::take(&mut old.classes);
        self.forgotten = old.forgotten;
        for ((key, shape), worth) in old.listed().zip(worth) {
            if worth > rare {
                self.join(&key, shape);
            } else {
                self.forgotten += u64::from(!shape.coarse);
                self.join(&coarse(&key), Shape { coarse: true, ..shape });
            }
        }
    }

    /// Keys in the order of their places.
    fn keys(&self) -> Vec<&[u8]> {
        let mut keys: Vec<(u32, &[u8])> = self.places.iter().map(|(key, place)| (*place, &**key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Keys and shapes in the order of their places.
    fn listed(self) -> impl Iterator<Item = (Box<[u8]>, Shape)> {
        let mut keys: Vec<(Box<[u8]>, u32)> = self.places.into_iter().collect();
        keys.sort_unstable_by_key(|(_, place)| *place);
        keys.into_iter().map(|(key, _)| key).zip(self.shapes)
    }

    fn join(&mut self, key: &[u8], shape: Shape) {
        let place = self.place(key, &shape.example) as usize;
        self.used += shape.bytes();
        self.shapes[place].absorb(shape);
    }

    /// Adds those of another machine, whose operations have the numbers that `number` translates.
    pub(super) fn absorb(&mut self, other: Self, number: &impl Fn(u32) -> u32) {
        self.forgotten += other.forgotten;
        let classes: Vec<u32> = other.classes.names.iter().map(|name| self.classes.number(name)).collect();
        for (key, mut shape) in other.listed() {
            for owner in &mut shape.owners {
                owner.op = number(owner.op);
                owner.task = number(owner.task);
                owner.class = classes.get(owner.class as usize).copied().unwrap_or(NONE);
            }
            shape.owners.sort_unstable_by_key(Owner::key);
            self.join(&key, shape);
            if self.used > BUDGET {
                self.forget();
            }
        }
    }

    /// The shapes, and the same as signatures to group.
    pub(super) fn signatures(&self) -> (Vec<Signature>, &[Shape]) {
        let signature = |(key, shape): (&[u8], &Shape)| Signature {
            key: String::from_utf8_lossy(key).into(),
            count: shape.count,
            example: shape.example.clone(),
        };
        (self.keys().into_iter().zip(&self.shapes).map(signature).collect(), &self.shapes)
    }

    /// The name of a class.
    pub(super) fn class(&self, number: u32) -> Option<&str> {
        self.classes.names.get(number as usize).map(|name| &**name)
    }
}

impl Owner {
    fn key(&self) -> (u32, u32, u32) {
        (self.op, self.task, self.class)
    }

    fn absorb(&mut self, other: &Self) {
        self.count += other.count;
        self.timeouts += other.timeouts;
        self.us = self.us.saturating_add(other.us);
        self.nano = self.nano.saturating_add(other.nano);
        self.span.join(other.span);
    }
}

impl Shape {
    /// Counts an error; how many bytes that took.
    fn count(&mut self, step: &Step, class: u32, batch: &Batch, file: &str) -> usize {
        let before = self.hours.bytes();
        self.count += 1;
        self.hours.see(step.at);
        let mut bytes = self.hours.bytes().saturating_sub(before);
        let owner = Owner {
            op: step.op,
            task: step.task,
            class,
            count: 1,
            timeouts: u64::from(step.timed_out),
            us: if step.duration_us == u64::MAX { 0 } else { step.duration_us },
            nano: if step.cost_nano == i64::MIN { 0 } else { step.cost_nano },
            span: Span(Some((step.at, step.at)).filter(|_| step.at != i64::MIN)),
        };
        bytes += if self.own(owner) { size_of::<Owner>() } else { 0 };
        // Errors without a time come last.
        let rank = if step.at == i64::MIN { i64::MAX } else { step.at };
        let text = batch.text(step.error);
        let lines = self.first.lines().len();
        self.first.offer(
            (rank, step.at),
            file,
            step.offset,
            if text.is_empty() { batch.text(step.line) } else { text },
        );
        bytes += (self.first.lines().len() - lines) * OVERHEAD;
        bytes
    }

    /// Adds an owner's errors; true when it is a new one.
    fn own(&mut self, owner: Owner) -> bool {
        match self.owners.binary_search_by_key(&owner.key(), Owner::key) {
            Ok(at) => {
                self.owners[at].absorb(&owner);
                false
            }
            Err(at) => {
                self.owners.insert(at, owner);
                true
            }
        }
    }

    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.coarse |= other.coarse;
        self.hours.absorb(&other.hours);
        for owner in other.owners {
            self.own(owner);
        }
        self.first.absorb(other.first);
    }

    /// Besides its texts and [`OVERHEAD`].
    fn bytes(&self) -> usize {
        self.hours.bytes() + self.owners.len() * size_of::<Owner>() + self.first.lines().len() * OVERHEAD
    }
}

/// The form in which they leave a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedErrors {
    classes: Vec<Box<str>>,
    shapes: Vec<(Box<str>, Shape)>,
    forgotten: u64,
}

impl SavedErrors {
    pub(super) fn of(errors: &Errors) -> Self {
        let shapes = errors.keys().into_iter().zip(&errors.shapes);
        Self {
            classes: errors.classes.names.clone(),
            shapes: shapes.map(|(key, shape)| (String::from_utf8_lossy(key).into(), shape.clone())).collect(),
            forgotten: errors.forgotten,
        }
    }

    pub(super) fn restore(self) -> Errors {
        let mut errors = Errors { forgotten: self.forgotten, ..Errors::default() };
        for class in &self.classes {
            errors.classes.number(class);
        }
        for (key, shape) in self.shapes {
            errors.join(key.as_bytes(), shape);
        }
        errors
    }
}
