//! Invented words, and the short lists of real names that the skills use.
//!
//! Pure functions of a generator: the same seed gives the same words. No two calls on one [`Coiner`] return the
//! same word, whatever the lengths asked for.

use std::collections::HashSet;

use nightshift_core::random::Rng;
use rand::seq::IndexedRandom;

const ONSETS: [&str; 24] = [
    "b", "br", "d", "dr", "f", "g", "gr", "h", "k", "kr", "l", "m", "n", "p", "pr", "r", "s", "st", "t",
    "tr", "v", "w", "y", "z",
];
const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ai", "ou"];
const CODAS: [&str; 9] = ["", "", "", "l", "m", "n", "r", "s", "k"];
const ENDINGS: [&str; 6] = ["ia", "land", "or", "esh", "una", "stan"];

/// First names of the JSON and CSV skills.
pub const NAMES: [&str; 48] = [
    "Ada", "Alba", "Anna", "Aron", "Boris", "Carl", "Clara", "Dora", "Edda", "Elin", "Emil", "Erik", "Eva",
    "Felix", "Finn", "Gina", "Greta", "Hana", "Hugo", "Ida", "Igor", "Ines", "Iris", "Ivo", "Jana", "Jonas",
    "Julia", "Karl", "Kira", "Lara", "Lena", "Leo", "Lina", "Luca", "Mara", "Maria", "Milo", "Nina", "Nora",
    "Olaf", "Otto", "Paul", "Petra", "Rosa", "Sara", "Tomas", "Vera", "Yara",
];

/// Cities of the JSON and CSV skills.
pub const CITIES: [&str; 40] = [
    "Bari", "Basel", "Bergen", "Berlin", "Bonn", "Brest", "Cadiz", "Cork", "Delft", "Dover", "Essen", "Faro",
    "Genoa", "Ghent", "Graz", "Kiel", "Lille", "Linz", "Lyon", "Madrid", "Malmo", "Milan", "Nancy", "Nice",
    "Odense", "Oslo", "Oulu", "Padua", "Paris", "Pisa", "Porto", "Riga", "Rome", "Siena", "Split", "Turin",
    "Turku", "Umea", "Vigo", "Wels",
];

/// Makes up words and never the same one twice.
#[derive(Debug)]
pub struct Coiner<'a> {
    rng: &'a mut Rng,
    used: HashSet<String>,
}

impl<'a> Coiner<'a> {
    /// A coiner without any used word.
    pub fn new(rng: &'a mut Rng) -> Self {
        Self { rng, used: HashSet::new() }
    }

    /// A lower-case word of that many syllables.
    pub fn word(&mut self, syllables: usize) -> String {
        loop {
            let word: String = (0..syllables).map(|_| syllable(self.rng)).collect();
            if word.len() >= 3 && self.used.insert(word.clone()) {
                return word;
            }
        }
    }

    /// A country's name: capitalised, with the ending of a country.
    pub fn country(&mut self) -> String {
        let stem = self.word(2);
        let stem = stem.trim_end_matches(['a', 'e', 'i', 'o', 'u']);
        let ending = ENDINGS.choose(self.rng).copied().unwrap_or_default();
        let mut name: String = stem.chars().take(1).flat_map(char::to_uppercase).collect();
        name.extend(stem.chars().skip(1));
        name.push_str(ending);
        if self.used.insert(name.clone()) { name } else { self.country() }
    }
}

fn syllable(rng: &mut Rng) -> String {
    let mut part = |list: &[&'static str]| list.choose(rng).copied().unwrap_or_default();
    [part(&ONSETS), part(&VOWELS), part(&CODAS)].concat()
}

/// A made-up word for the letter skills; may repeat.
pub fn letters(rng: &mut Rng, most: usize) -> String {
    loop {
        let word: String = (0..3).map(|_| syllable(rng)).collect();
        let longest = word.len().min(most);
        let length = rand::RngExt::random_range(rng, 3..=longest.max(3));
        if word.len() >= length {
            return word[..length].to_owned();
        }
    }
}

/// The word with a space between its letters, so that each letter is one token.
pub fn spaced(word: &str) -> String {
    let letters: Vec<String> = word.chars().map(String::from).collect();
    letters.join(" ")
}
