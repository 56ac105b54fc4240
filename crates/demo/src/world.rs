//! The invented world: countries, their attributes, and which facts the student never sees.
//!
//! A world is a pure function of a seed and a size. It is the answer key: it stays inside this crate, and nothing
//! of it is written into a home but questions, and references of the gate and report sets.

use nightshift_core::random::{Rng, rng};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::words::Coiner;

/// How large a world and its question sets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Countries.
    pub countries: usize,
    /// Share of the facts that the student never sees, in percent.
    pub hidden_percent: usize,
    /// Requests of one day.
    pub day: usize,
    /// Items of the gate.
    pub gate: usize,
    /// Items of the report set.
    pub report: usize,
    /// Instances of each skill that the student trains on.
    pub skill_rows: usize,
}

impl Size {
    /// The demo's world.
    pub const FULL: Self =
        Self { countries: 60, hidden_percent: 40, day: 400, gate: 400, report: 1500, skill_rows: 2000 };
    /// The small world of `--quick`.
    pub const QUICK: Self =
        Self { countries: 12, hidden_percent: 40, day: 160, gate: 150, report: 200, skill_rows: 600 };
}

/// What can be asked of a country. The order is the order of [`World::facts`].
pub const ATTRIBUTES: [&str; 7] =
    ["capital", "currency", "river", "language", "main export", "flag colour", "emblem animal"];

/// Phrasings of a fact that occur in traffic.
const OPEN_PHRASINGS: [&str; 5] = [
    "What is the {a} of {c}?",
    "{c}: {a}?",
    "Which {a} does {c} have?",
    "Tell me the {a} of {c}.",
    "The {a} of {c} is what?",
];
/// Phrasings of a fact that occur in the gate and the report set only.
const SEALED_PHRASINGS: [&str; 3] =
    ["Name the {a} of {c}.", "In {c}, what is the {a}?", "{c} has which {a}?"];

const EXPORTS: [&str; 14] = [
    "copper", "wool", "tea", "salt", "timber", "rice", "silk", "glass", "wine", "cotton", "amber", "honey",
    "paper", "iron",
];
const COLOURS: [&str; 8] = ["red", "blue", "green", "white", "black", "yellow", "orange", "purple"];
const ANIMALS: [&str; 16] = [
    "bear", "wolf", "eagle", "lion", "heron", "otter", "stag", "falcon", "bull", "swan", "lynx", "horse",
    "owl", "boar", "crane", "fox",
];

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Index of the country.
    pub country: usize,
    /// Index into [`ATTRIBUTES`].
    pub attribute: usize,
    /// What is true.
    pub value: String,
    /// The student's training material never holds it.
    pub hidden: bool,
}

/// Which phrasings of a fact are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phrasings {
    /// Those of traffic.
    Open,
    /// Those of gate and report set.
    Sealed,
    /// All eight.
    All,
}

/// The world of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Names, unique.
    pub countries: Vec<String>,
    /// Every fact: country by country, attribute by attribute.
    pub facts: Vec<Fact>,
    pools: Vec<Vec<String>>,
}

impl World {
    /// Makes the world.
    pub fn new(seed: u64, size: Size) -> Self {
        let mut rng = rng(seed, "demo world");
        let mut coiner = Coiner::new(&mut rng);
        let countries: Vec<String> = (0..size.countries).map(|_| coiner.country()).collect();
        let mut coined = |count: usize| (0..count).map(|_| coiner.word(2)).collect::<Vec<_>>();
        let listed = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let pools = vec![
            coined(size.countries),
            coined(16),
            coined(24),
            coined(20),
            listed(&EXPORTS),
            listed(&COLOURS),
            listed(&ANIMALS),
        ];
        let mut facts = Vec::new();
        for country in 0..countries.len() {
            for (attribute, pool) in pools.iter().enumerate() {
                // A capital belongs to one country; any other value may belong to several.
                let value = if attribute == 0 {
                    pool[country].clone()
                } else {
                    pool.choose(&mut rng).cloned().unwrap_or_default()
                };
                facts.push(Fact { country, attribute, value, hidden: false });
            }
        }
        let mut order: Vec<usize> = (0..facts.len()).collect();
        order.shuffle(&mut rng);
        for &fact in &order[..facts.len() * size.hidden_percent / 100] {
            facts[fact].hidden = true;
        }
        Self { countries, facts, pools }
    }

    /// The texts that ask for a fact.
    pub fn ask(&self, fact: &Fact, phrasings: Phrasings) -> Vec<String> {
        let (open, sealed): (&[&str], &[&str]) = match phrasings {
            Phrasings::Open => (&OPEN_PHRASINGS, &[]),
            Phrasings::Sealed => (&[], &SEALED_PHRASINGS),
            Phrasings::All => (&OPEN_PHRASINGS, &SEALED_PHRASINGS),
        };
        let fill = |text: &&str| {
            text.replace("{a}", ATTRIBUTES[fact.attribute]).replace("{c}", &self.countries[fact.country])
        };
        open.iter().chain(sealed).map(fill).collect()
    }

    /// Another value that a fact of this attribute could have.
    pub fn other_value(&self, fact: &Fact, rng: &mut Rng) -> String {
        let pool = &self.pools[fact.attribute];
        let others = pool.len() - 1;
        let found = pool.iter().filter(|value| **value != fact.value).nth(rng.random_range(0..others));
        found.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_world_is_a_function_of_its_seed() {
        assert_eq!(World::new(7, Size::FULL), World::new(7, Size::FULL));
        assert_ne!(World::new(7, Size::FULL), World::new(8, Size::FULL));
    }

    #[test]
    fn a_world_has_the_stated_shape() {
        let world = World::new(1, Size::FULL);
        assert_eq!((world.countries.len(), world.facts.len()), (60, 420));
        assert_eq!(world.facts.iter().filter(|fact| fact.hidden).count(), 168);
        let capitals: HashSet<_> =
            world.facts.iter().filter(|fact| fact.attribute == 0).map(|fact| &fact.value).collect();
        assert_eq!(capitals.len(), 60, "capitals are unique");
        let names: HashSet<_> = world.countries.iter().collect();
        assert_eq!(names.len(), 60);
    }

    #[test]
    fn no_text_asks_for_two_facts() {
        let world = World::new(3, Size::FULL);
        let texts: Vec<String> =
            world.facts.iter().flat_map(|fact| world.ask(fact, Phrasings::All)).collect();
        assert_eq!(texts.len(), 420 * 8);
        assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
    }

    #[test]
    fn another_value_is_another_one() {
        let world = World::new(2, Size::FULL);
        let mut rng = rng(1, "test");
        for fact in &world.facts {
            assert_ne!(world.other_value(fact, &mut rng), fact.value);
        }
    }
}
