//! The fast path: one pass over the keys of a line, nothing decoded.
//!
//! Lines of one dialect repeat their keys in one order, so each key remembers what came after it:
//! a right guess costs one comparison of bytes. Whatever is not plain (escaped or repeated keys,
//! deep nesting, invalid JSON) gives `None`, and serde_json decides about the line.

use std::collections::HashMap;

use super::Hashing;
use super::json::Cursor;
use super::names::{Node, TOP};
use super::roles::{Fields, Roles, SLOTS, Slot};
use super::whole::is_batch;

/// Most keys that are remembered, and the longest: logs with ids for keys must not fill the memory.
const MOST_KNOWN: usize = 2048;
const LONGEST_KNOWN: usize = 64;

/// A key as it stands in the log, from its quote to the first byte of its value.
#[derive(Debug)]
struct Known {
    node: Node,
    text: Box<[u8]>,
    slot: Slot,
    /// The keys that came next, the latest first; 0 is none.
    next: [u16; 2],
}

/// Finds roles in lines, and learns the order of keys.
#[derive(Debug)]
pub(super) struct Scanner {
    known: Vec<Known>,
    index: Vec<HashMap<Box<[u8]>, u16, Hashing>>,
}

/// What a scan of one line carries along.
struct Line<'a, 'f> {
    cursor: Cursor<'a>,
    fields: &'f mut Fields<'a>,
    seen: [u64; SLOTS / 64],
    previous: u16,
}

impl Line<'_, '_> {
    /// `None` when the key was there before.
    fn first(&mut self, slot: Slot) -> Option<()> {
        let (word, bit) = (usize::from(slot.id / 64), 1 << (slot.id % 64));
        let before = self.seen[word];
        self.seen[word] = before | bit;
        (before & bit == 0).then_some(())
    }
}

impl Scanner {
    pub(super) fn new() -> Self {
        let start = Known { node: Node::MAX, text: Box::default(), slot: Slot::NOTHING, next: [0; 2] };
        Self { known: vec![start], index: Vec::new() }
    }

    /// The roles of a line without blanks around it; whether a surrogate is escaped in it.
    pub(super) fn scan<'a>(
        &mut self,
        roles: &Roles,
        bytes: &'a [u8],
        fields: &mut Fields<'a>,
    ) -> Option<bool> {
        let mut line = Line { cursor: Cursor::new(bytes), fields, seen: [0; SLOTS / 64], previous: 0 };
        self.object(roles, TOP, &mut line)?;
        (line.cursor.at == bytes.len()).then_some(line.cursor.surrogate)
    }

    fn object(&mut self, roles: &Roles, node: Node, line: &mut Line<'_, '_>) -> Option<()> {
        line.cursor.take(b'{')?;
        line.cursor.space();
        if line.cursor.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let slot = self.key(roles, node, line)?;
            if slot == Slot::NOTHING {
                line.cursor.value()?;
            } else {
                line.first(slot)?;
                self.slot(roles, slot, line)?;
            }
            line.cursor.space();
            match line.cursor.peek() {
                b',' => {
                    line.cursor.at += 1;
                    line.cursor.space();
                }
                b'}' => {
                    line.cursor.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// The value of a key that means something.
    fn slot(&mut self, roles: &Roles, slot: Slot, line: &mut Line<'_, '_>) -> Option<()> {
        let start = line.cursor.at;
        let within = match (slot.child, line.cursor.peek()) {
            (Some(child), b'{') => self.object(roles, child, line).map(|()| true)?,
            (Some(child), b'[') => pairs(roles, child, line).map(|()| true)?,
            _ => line.cursor.value().map(|_| false)?,
        };
        if let Some(role) = if within { slot.around() } else { slot.role } {
            line.fields.put(role, &line.cursor.bytes[start..line.cursor.at]);
        }
        Some(())
    }

    /// Reads a key up to its value.
    #[inline]
    fn key(&mut self, roles: &Roles, node: Node, line: &mut Line<'_, '_>) -> Option<Slot> {
        let rest = &line.cursor.bytes[line.cursor.at..];
        let guesses = self.known[usize::from(line.previous)].next;
        for guess in guesses {
            let known = &self.known[usize::from(guess)];
            if known.node == node && begins(rest, &known.text) {
                line.cursor.at += known.text.len();
                line.previous = guess;
                return Some(known.slot);
            }
        }
        self.new_key(roles, node, line)
    }

    #[inline(never)]
    fn new_key(&mut self, roles: &Roles, node: Node, line: &mut Line<'_, '_>) -> Option<Slot> {
        let start = line.cursor.at;
        let quoted = line.cursor.string()?;
        let name = &quoted[1..quoted.len() - 1];
        if name.contains(&b'\\') || (node == TOP && is_batch(name)) {
            return None;
        }
        line.cursor.space();
        line.cursor.take(b':')?;
        line.cursor.space();
        let text = &line.cursor.bytes[start..line.cursor.at];
        while self.index.len() <= usize::from(node) {
            self.index.push(HashMap::default());
        }
        let index = &mut self.index[usize::from(node)];
        let found = if let Some(&found) = index.get(text) {
            found
        } else {
            let slot = roles.get(node, name).unwrap_or(Slot::NOTHING);
            if self.known.len() >= MOST_KNOWN || text.len() > LONGEST_KNOWN {
                return Some(slot);
            }
            let new = self.known.len() as u16;
            index.insert(text.into(), new);
            self.known.push(Known { node, text: text.into(), slot, next: [0; 2] });
            new
        };
        let next = &mut self.known[usize::from(line.previous)].next;
        *next = [found, next[0]];
        line.previous = found;
        Some(self.known[usize::from(found)].slot)
    }
}

/// `starts_with` for short texts, eight bytes at a time: a call of `memcmp` costs more than that.
#[inline]
fn begins(bytes: &[u8], text: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..text.len()) else { return false };
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
    let Some(last) = text.len().checked_sub(8) else { return bytes == text };
    let mut at = 0;
    while at < last {
        if word(bytes, at) != word(text, at) {
            return false;
        }
        at += 8;
    }
    word(bytes, last) == word(text, last)
}

/// A list of `{"key": ..., "value": {"stringValue": ...}}`, as OTLP writes attributes.
fn pairs(roles: &Roles, node: Node, line: &mut Line<'_, '_>) -> Option<()> {
    line.cursor.take(b'[')?;
    line.cursor.space();
    if line.cursor.take(b']').is_some() {
        return Some(());
    }
    loop {
        let cursor = &mut line.cursor;
        cursor.take(b'{')?;
        named(cursor, b"\"key\"")?;
        let name = cursor.string()?;
        if name.contains(&b'\\') {
            return None;
        }
        cursor.space();
        cursor.take(b',')?;
        named(cursor, b"\"value\"")?;
        cursor.take(b'{')?;
        cursor.space();
        let kind = cursor.string()?;
        if !matches!(kind, b"\"stringValue\"" | b"\"intValue\"" | b"\"doubleValue\"" | b"\"boolValue\"") {
            return None;
        }
        cursor.space();
        cursor.take(b':')?;
        cursor.space();
        let raw = cursor.value()?;
        cursor.space();
        cursor.take(b'}')?;
        cursor.space();
        cursor.take(b'}')?;
        cursor.space();
        if let Some(slot) = roles.get(node, &name[1..name.len() - 1]) {
            line.first(slot)?;
            if let Some(role) = slot.role {
                line.fields.put(role, raw);
            }
        }
        match line.cursor.peek() {
            b',' => {
                line.cursor.at += 1;
                line.cursor.space();
            }
            b']' => {
                line.cursor.at += 1;
                return Some(());
            }
            _ => return None,
        }
    }
}

/// Exactly this key, with the blanks around it and its colon.
fn named(cursor: &mut Cursor<'_>, key: &[u8]) -> Option<()> {
    cursor.space();
    (cursor.string()? == key).then_some(())?;
    cursor.space();
    cursor.take(b':')?;
    cursor.space();
    Some(())
}
