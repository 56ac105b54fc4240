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

/// Keys that are tried after another one.
const GUESSES: usize = 6;

/// Where a key stands: in which node, and whether it is the first one of its object.
type Place = (Node, bool);

/// A key as it stands in the log, from behind the value before it to the first byte of its own.
#[derive(Debug)]
struct Known {
    place: Place,
    slot: Slot,
    /// Its first bytes, eight at most, and which bits these are: most guesses fail here.
    head: u64,
    mask: u64,
    text: Box<[u8]>,
    /// The keys that came next, the latest first; 0 is none.
    next: [u16; GUESSES],
}

impl Known {
    fn new(place: Place, text: &[u8], slot: Slot) -> Self {
        let mut head = [0; 8];
        let length = text.len().min(8);
        head[..length].copy_from_slice(&text[..length]);
        let mask = u64::MAX.checked_shr(64 - 8 * length as u32).unwrap_or(0);
        Self { place, slot, head: u64::from_le_bytes(head), mask, text: text.into(), next: [0; GUESSES] }
    }

    /// Whether it stands at the begin of `bytes`, whose first eight are `head`.
    #[inline]
    fn begins(&self, place: Place, head: u64, bytes: &[u8]) -> bool {
        if head & self.mask != self.head || self.place != place {
            return false;
        }
        // A call of `memcmp` costs more than these few words.
        let (text, word) = (&*self.text, |bytes: &[u8], at: usize| bytes[at..].first_chunk::<8>().copied());
        let Some(last) = text.len().checked_sub(8) else { return true };
        let Some(bytes) = bytes.get(..text.len()) else { return false };
        let mut at = 8;
        while at < last {
            if word(bytes, at) != word(text, at) {
                return false;
            }
            at += 8;
        }
        word(bytes, last) == word(text, last)
    }
}

/// Finds roles in lines, and learns the order of keys.
#[derive(Debug)]
pub(super) struct Scanner {
    known: Vec<Known>,
    index: Vec<HashMap<Box<[u8]>, u16, Hashing>>,
}

/// What a scan of one line carries along.
struct Line<'a, 'f> {
    cursor: Cursor<'a, 'f>,
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
        Self { known: vec![Known::new((Node::MAX, false), b"", Slot::NOTHING)], index: Vec::new() }
    }

    /// The roles of a line without blanks around it, whose stops are known; whether a surrogate is escaped in it.
    pub(super) fn scan<'a>(
        &mut self,
        roles: &Roles,
        bytes: &'a [u8],
        stops: &[u64],
        fields: &mut Fields<'a>,
    ) -> Option<bool> {
        let mut line = Line { cursor: Cursor::new(bytes, stops), fields, seen: [0; SLOTS / 64], previous: 0 };
        self.object(roles, TOP, &mut line)?;
        (line.cursor.at == bytes.len()).then_some(line.cursor.surrogate)
    }

    /// An object, from its `{`.
    fn object(&mut self, roles: &Roles, node: Node, line: &mut Line<'_, '_>) -> Option<()> {
        let mut place = (node, true);
        loop {
            let slot = if let Some(slot) = self.guess(place, line) {
                slot
            } else {
                let start = line.cursor.at;
                if line.cursor.object_ends(place.1)? {
                    return Some(());
                }
                self.new_key(roles, place, start, line)?
            };
            place.1 = false;
            if slot.id != Slot::NOTHING.id {
                line.first(slot)?;
            }
            let start = line.cursor.at;
            let within = match (line.cursor.peek(), slot.child) {
                (b'"', _) => line.cursor.string().map(|_| false)?,
                (b'{', Some(child)) => self.object(roles, child, line).map(|()| true)?,
                (b'[', Some(child)) => pairs(roles, child, line).map(|()| true)?,
                _ => line.cursor.value().map(|_| false)?,
            };
            if let Some(role) = if within { slot.around() } else { slot.role } {
                line.fields.put(role, &line.cursor.bytes[start..line.cursor.at]);
            }
            if line.cursor.take(b'}').is_some() {
                return Some(());
            }
        }
    }

    /// Goes to the value of the next key if that is one of those that came next before.
    #[inline]
    fn guess(&self, place: Place, line: &mut Line<'_, '_>) -> Option<Slot> {
        let rest = line.cursor.bytes.get(line.cursor.at..)?;
        let head = u64::from_le_bytes(*rest.first_chunk()?);
        for guess in self.known[usize::from(line.previous)].next {
            let known = &self.known[usize::from(guess)];
            if known.begins(place, head, rest) {
                line.cursor.at += known.text.len();
                line.previous = guess;
                return Some(known.slot);
            }
        }
        None
    }

    /// Reads a key, from its quote, up to its value; `start` is where the value before it ended.
    #[inline(never)]
    fn new_key(
        &mut self,
        roles: &Roles,
        place: Place,
        start: usize,
        line: &mut Line<'_, '_>,
    ) -> Option<Slot> {
        let (node, _) = place;
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
            self.known.push(Known::new(place, text, slot));
            new
        };
        let next = &mut self.known[usize::from(line.previous)].next;
        next.rotate_right(1);
        next[0] = found;
        line.previous = found;
        Some(self.known[usize::from(found)].slot)
    }
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
fn named(cursor: &mut Cursor<'_, '_>, key: &[u8]) -> Option<()> {
    cursor.space();
    (cursor.string()? == key).then_some(())?;
    cursor.space();
    cursor.take(b':')?;
    cursor.space();
    Some(())
}
