//! Counts messages by signature: the fast stage.
//!
//! A message is masked, folded and looked up; nothing else of the log matters, so miners of several files,
//! threads or machines [merge](Miner::merge) exactly, in any order. [`Miner::finish`] is the other stage.
//!
//! Memory is bounded. When keys and examples outgrow the budget, the rarest signatures, at least half of the
//! bytes, are forgotten: their messages count as "the same first words, then anything". Up to that point the
//! answer does not depend on the order of messages; beyond it, what is frequent is still told apart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::fold::fold;
use super::group::{Templates, group};
use super::scan::{Token, scan};

/// Bytes of a message that are looked at; what follows is one value.
const LONGEST: usize = 4096;
/// Bytes of an example.
const EXAMPLE: usize = 256;
/// Bytes of keys and examples that a miner holds, with [`OVERHEAD`] for each.
const BUDGET: usize = 8 << 20;
/// Bytes of a signature besides its texts: map entry, counters, allocator.
const OVERHEAD: usize = 112;
/// Tokens that a forgotten signature keeps.
const FIRST_WORDS: usize = 3;

/// Number of a signature in one miner; stays valid whatever the miner forgets.
pub type SignatureId = u32;

/// A shape of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Canonical text, made by [`Miner::add`]; control characters stand for values and joints.
    pub key: Box<str>,
    /// Messages.
    pub count: u64,
    /// The shortest message, the first in byte order among equals, cut at 256 bytes.
    pub example: Box<str>,
}

/// Masks messages, one at a time.
#[derive(Debug, Default)]
pub struct Masker {
    tokens: Vec<Token>,
    kept: Vec<Token>,
    key: Vec<u8>,
}

impl Masker {
    /// The key of a message's signature, and the line of the message that it is of.
    pub fn mask<'a>(&mut self, message: &'a str) -> (&[u8], &'a str) {
        let message = salient(message);
        let cut = message.floor_char_boundary(LONGEST);
        let bytes = &message.as_bytes()[..cut];
        scan(bytes, &mut self.tokens);
        fold(bytes, &self.tokens, &mut self.kept, &mut self.key);
        if cut < message.len() && !self.key.ends_with(b"\x02") {
            self.key.extend_from_slice(b" \x02");
        }
        (&self.key, message)
    }
}

#[derive(Debug)]
struct Counted {
    id: SignatureId,
    count: u64,
    example: Box<str>,
}

/// Counts messages by signature.
#[derive(Debug)]
pub struct Miner {
    budget: usize,
    used: usize,
    /// Keys and their places in `counted`.
    places: HashMap<Box<[u8]>, u32>,
    counted: Vec<Counted>,
    /// The place of each number ever given.
    of: Vec<u32>,
    masker: Masker,
}

impl Default for Miner {
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl Miner {
    /// A miner that holds at most about `bytes`.
    pub fn with_budget(bytes: usize) -> Self {
        Self {
            budget: bytes,
            used: 0,
            places: HashMap::new(),
            counted: Vec::new(),
            of: Vec::new(),
            masker: Masker::default(),
        }
    }

    /// Counts a message and returns the number of its signature.
    pub fn add(&mut self, message: &str) -> SignatureId {
        let mut masker = std::mem::take(&mut self.masker);
        let (key, line) = masker.mask(message);
        let id = self.count(key, 1, line);
        self.masker = masker;
        id
    }

    /// Counts `count` messages under `key`.
    fn count(&mut self, key: &[u8], count: u64, example: &str) -> SignatureId {
        if let Some(&place) = self.places.get(key) {
            let counted = &mut self.counted[place as usize];
            counted.count += count;
            let example = excerpt(example);
            if (example.len(), example) < (counted.example.len(), &*counted.example) {
                self.used -= counted.example.len() - example.len();
                counted.example = example.into();
            }
            return counted.id;
        }
        if self.used > self.budget {
            self.forget();
        }
        let id = self.of.len() as SignatureId;
        let example = excerpt(example);
        self.of.push(self.counted.len() as u32);
        self.places.insert(key.into(), self.counted.len() as u32);
        self.counted.push(Counted { id, count, example: example.into() });
        self.used += key.len() + example.len() + OVERHEAD;
        id
    }

    /// Drops the rarest signatures, half of the bytes or more, into coarser ones.
    fn forget(&mut self) {
        let mut sizes: Vec<(u64, usize)> = self
            .places
            .iter()
            .map(|(key, &place)| {
                let counted = &self.counted[place as usize];
                (counted.count, key.len() + counted.example.len() + OVERHEAD)
            })
            .collect();
        sizes.sort_unstable();
        let mut freed = 0;
        let rare = sizes.iter().find(|(_, size)| {
            freed += size;
            freed * 2 >= self.used
        });
        let rare = rare.map_or(0, |(count, _)| *count);
        let mut keys: Vec<(u32, Box<[u8]>)> = self.places.drain().map(|(key, place)| (place, key)).collect();
        keys.sort_unstable();
        let of = std::mem::take(&mut self.of);
        let old = std::mem::take(&mut self.counted);
        let mut moved = Vec::with_capacity(old.len());
        self.used = 0;
        let budget = std::mem::replace(&mut self.budget, usize::MAX);
        for ((_, key), counted) in keys.into_iter().zip(old) {
            let key = if counted.count > rare { key } else { coarse(&key) };
            let id = self.count(&key, counted.count, &counted.example);
            moved.push(self.of[id as usize]);
        }
        self.budget = budget;
        // Numbers given so far keep their meaning; the first one at a place speaks for it.
        self.of = of.into_iter().map(|place| moved[place as usize]).collect();
        for (id, &place) in self.of.iter().enumerate().rev() {
            self.counted[place as usize].id = id as SignatureId;
        }
    }

    /// All signatures, for a store or another machine.
    pub fn signatures(&self) -> Vec<Signature> {
        let mut keys: Vec<(&u32, &[u8])> = self.places.iter().map(|(key, place)| (place, &**key)).collect();
        keys.sort_unstable();
        let signature = |((_, key), counted): ((&u32, &[u8]), &Counted)| Signature {
            key: String::from_utf8_lossy(key).into(),
            count: counted.count,
            example: counted.example.clone(),
        };
        keys.into_iter().zip(&self.counted).map(signature).collect()
    }

    /// Adds what [`Miner::signatures`] gave, here or elsewhere.
    pub fn absorb(&mut self, signature: &Signature) -> SignatureId {
        self.count(signature.key.as_bytes(), signature.count, &signature.example)
    }

    /// Adds all of `other`; the answer gives for each of its numbers the number here.
    pub fn merge(&mut self, other: &Self) -> Vec<SignatureId> {
        let ids: Vec<SignatureId> =
            other.signatures().iter().map(|signature| self.absorb(signature)).collect();
        other.of.iter().map(|&place| ids[place as usize]).collect()
    }

    /// Groups the signatures into templates.
    pub fn finish(&self) -> Templates {
        group(&self.signatures(), &self.of)
    }
}

/// As much of a message as an example keeps.
pub(crate) fn excerpt(message: &str) -> &str {
    &message[..message.floor_char_boundary(EXAMPLE)]
}

/// The first words of a key, then anything; of a key that is that already, anything.
pub(crate) fn coarse(key: &[u8]) -> Box<[u8]> {
    let mut joints = key.iter().enumerate().filter(|(_, byte)| matches!(byte, b' ' | 1)).map(|(at, _)| at);
    match joints.nth(FIRST_WORDS - 1) {
        Some(end) if &key[end..] != b" \x02" => [&key[..end], b" \x02"].concat().into(),
        _ => b"\x02".as_slice().into(),
    }
}

/// The line of a message that tells most: its first, or the last of a Python traceback.
fn salient(message: &str) -> &str {
    let message = message.trim();
    let Some((first, _)) = message.split_once('\n') else {
        return message;
    };
    if first.starts_with("Traceback (most recent call last)") {
        return message.rsplit('\n').next().unwrap_or(first).trim();
    }
    first.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(miner: &Miner) -> Vec<(Box<str>, u64, Box<str>)> {
        let mut all: Vec<_> =
            miner.signatures().into_iter().map(|one| (one.key, one.count, one.example)).collect();
        all.sort();
        all
    }

    #[test]
    fn parts_merge_to_the_whole_in_any_order() {
        let messages: Vec<String> = (0..300)
            .map(|at| format!("job {at} of queue q{} took {} ms", ["a", "b", "c"][at % 3], at * 7))
            .collect();
        let mut whole = Miner::default();
        let mut parts = [Miner::default(), Miner::default(), Miner::default()];
        for (at, message) in messages.iter().enumerate() {
            whole.add(message);
            parts[at * 7 % 3].add(message);
        }
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut merged = Miner::default();
            for part in order {
                merged.merge(&parts[part]);
            }
            assert_eq!(sorted(&merged), sorted(&whole));
        }
    }

    #[test]
    fn numbers_survive_what_is_forgotten() {
        let mut miner = Miner::with_budget(20_000);
        let frequent = miner.add("connection to database lost");
        let mut rare = Vec::new();
        for at in 0..5_000u32 {
            let word: String = at.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            rare.push(miner.add(&format!("strange {word} seen near the {word} gate")));
            assert_eq!(miner.add("connection to database lost"), frequent);
        }
        assert!(miner.used <= 2 * 20_000, "{}", miner.used);
        let templates = miner.finish();
        assert_eq!(templates.of(frequent).text, "connection to database lost");
        assert_eq!(templates.of(frequent).count, 5_001);
        assert_eq!(templates.all().iter().map(|one| one.count).sum::<u64>(), 10_001);
        for id in rare {
            assert_ne!(templates.of(id).text, "connection to database lost");
        }
    }

    #[test]
    fn a_traceback_is_known_by_its_last_line_and_any_other_message_by_its_first() {
        let traceback = "Traceback (most recent call last):\n  File \"/srv/a.py\", line 3, in f\nValueError: no such id 17";
        assert_eq!(salient(traceback), "ValueError: no such id 17");
        assert_eq!(salient("\n first line \r\n  at com.x.Y(Y.java:3)\n"), "first line");
    }
}
