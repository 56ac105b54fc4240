//! The night and its background, cut into what the scan counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::canonical::{Canonical, Kind, canonical};
use crate::words::{tokens, words};

use super::{Row, is_function_word};

/// Longest phrase, in words.
pub(super) const LONGEST_GRAM: usize = 3;
/// Share of the background's questions from which a word frames everything.
const FRAME_SHARE: f64 = 0.2;
/// Fewest background questions from which frames are learned.
const FRAME_LEAST: usize = 40;
/// Longest answer, in words, whose phrases are counted: phrases of long prose are its style.
const LONGEST_ANSWER: usize = 60;
/// Stands for every number in a question.
const NUMBER: &str = "#";

/// One distinct question with its answer.
#[derive(Debug)]
pub(super) struct Doc {
    /// Tokens of the question in order, as ids.
    pub(super) tokens: Vec<u32>,
    /// Distinct words of the question except function words, numbers as one word; sorted ids. What rates are
    /// conditioned on.
    pub(super) words: Vec<u32>,
    /// The words of substance among them: what relates questions; sorted ids.
    pub(super) substance: Vec<u32>,
    /// Index of its answer's [`Item`].
    pub(super) answer: usize,
    /// Indices of its phrases' [`Item`]s.
    pub(super) grams: Vec<usize>,
}

/// An answer or a phrase, and the documents that hold it (sorted indices).
#[derive(Debug)]
pub(super) struct Item {
    pub(super) text: String,
    pub(super) night: Vec<usize>,
    pub(super) background: Vec<usize>,
    /// Rate that is expected of it on any question whatever.
    pub(super) floor: f64,
}

/// Night and background.
#[derive(Debug)]
pub(super) struct Corpus {
    night: Vec<Doc>,
    background: Vec<Doc>,
    answers: Vec<Item>,
    grams: Vec<Item>,
    /// Documents of the background per word id.
    word_counts: HashMap<u32, usize>,
    /// Rows of the night behind each of its documents.
    rows: Vec<Vec<usize>>,
    row_count: usize,
    tokens: Interner,
}

#[derive(Debug, Default)]
struct Interner {
    ids: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Interner {
    fn id(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.texts.len() as u32;
        self.ids.insert(text.to_owned(), id);
        self.texts.push(text.to_owned());
        id
    }
}

/// Items by text while they are collected; the order of first sight fixes the indices.
#[derive(Debug, Default)]
struct Items {
    ids: HashMap<String, usize>,
    items: Vec<Item>,
}

impl Items {
    fn get(&mut self, key: String, text: &str, floor: f64) -> usize {
        *self.ids.entry(key).or_insert_with(|| {
            let item = Item { text: text.to_owned(), night: Vec::new(), background: Vec::new(), floor };
            self.items.push(item);
            self.items.len() - 1
        })
    }
}

impl Corpus {
    pub(super) fn new(night: &[Row<'_>], background: &[&[Row<'_>]]) -> Self {
        let mut interner = Interner::default();
        let mut answers = Items::default();
        let mut grams = Items::default();
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut night_docs = Vec::new();
        // A question asked again in other words and answered the same is one piece of evidence, not two.
        let mut seen: BTreeMap<(Vec<String>, usize), usize> = BTreeMap::new();
        for (index, row) in night.iter().enumerate() {
            let doc = Doc::read(row, &mut interner, &mut answers, &mut grams);
            let next = night_docs.len();
            let at = *seen.entry((core_of(row.question), doc.answer)).or_insert(next);
            if at == next {
                night_docs.push(doc);
                rows.push(Vec::new());
            }
            rows[at].push(index);
        }
        let mut background_docs: Vec<Doc> = background
            .iter()
            .flat_map(|slice| slice.iter())
            .map(|row| Doc::read(row, &mut interner, &mut answers, &mut grams))
            .collect();
        let word_counts = count_words(&background_docs);
        let frames = frames(&word_counts, background_docs.len());
        for doc in night_docs.iter_mut().chain(&mut background_docs) {
            doc.settle_substance(&frames, &interner.texts);
        }
        for (docs, in_night) in [(&night_docs, true), (&background_docs, false)] {
            for (index, doc) in docs.iter().enumerate() {
                let slot = |item: &mut Item| {
                    if in_night { item.night.push(index) } else { item.background.push(index) }
                };
                slot(&mut answers.items[doc.answer]);
                doc.grams.iter().for_each(|g| slot(&mut grams.items[*g]));
            }
        }
        Self {
            night: night_docs,
            background: background_docs,
            answers: answers.items,
            grams: grams.items,
            word_counts,
            rows,
            row_count: night.len(),
            tokens: interner,
        }
    }

    pub(super) fn night(&self) -> &[Doc] {
        &self.night
    }

    pub(super) fn background(&self) -> &[Doc] {
        &self.background
    }

    pub(super) fn answers(&self) -> &[Item] {
        &self.answers
    }

    pub(super) fn grams(&self) -> &[Item] {
        &self.grams
    }

    pub(super) fn row_count(&self) -> usize {
        self.row_count
    }

    /// Number of background questions with this word.
    pub(super) fn background_count(&self, word: u32) -> usize {
        self.word_counts.get(&word).copied().unwrap_or(0)
    }

    pub(super) fn token_text(&self, id: u32) -> &str {
        &self.tokens.texts[id as usize]
    }

    /// Rows of the night behind some of its documents, sorted.
    pub(super) fn rows_of(&self, docs: &[usize]) -> Vec<usize> {
        let mut rows: Vec<usize> = docs.iter().flat_map(|d| self.rows[*d].iter().copied()).collect();
        rows.sort_unstable();
        rows
    }
}

impl Doc {
    fn read(row: &Row<'_>, interner: &mut Interner, answers: &mut Items, grams: &mut Items) -> Self {
        let texts = tokens(row.question);
        let mut words: Vec<u32> =
            texts.iter().filter(|t| counts_as_word(t)).map(|t| interner.id(without_number(t))).collect();
        words.sort_unstable();
        words.dedup();
        let form = canonical(row.answer);
        let floor = answer_floor(&form);
        let key = format!("{:?} {}", form.kind, form.text);
        let shown = if form.kind == Kind::Empty { "(empty)" } else { &form.text };
        let answer = answers.get(key, shown, floor);
        let asked: HashSet<&str> = texts.iter().map(String::as_str).collect();
        let gram_texts = phrases(&form, row.answer, &asked);
        let mut own: Vec<usize> =
            gram_texts.into_iter().map(|g| grams.get(g.clone(), &g, phrase_floor(&g))).collect();
        own.sort_unstable();
        own.dedup();
        let tokens = texts.iter().map(|t| interner.id(t)).collect();
        Self { tokens, words, substance: Vec::new(), answer, grams: own }
    }

    fn settle_substance(&mut self, frames: &HashSet<u32>, texts: &[String]) {
        let number = |id: u32| texts[id as usize] == NUMBER;
        self.substance = self.words.iter().copied().filter(|w| !frames.contains(w) && !number(*w)).collect();
        if self.substance.is_empty() {
            // "5 + 7?" and "3 + 9?": all such questions are related to each other.
            self.substance = self.words.iter().copied().filter(|w| number(*w)).collect();
        }
    }
}

/// Rate that any answer or phrase may have on any question.
const GENERAL_FLOOR: f64 = 0.02;

/// Answers with few alternatives are common on unrelated questions by right.
fn answer_floor(form: &Canonical) -> f64 {
    const TWO_VALUED: [&str; 12] = [
        "yes",
        "no",
        "true",
        "false",
        "positive",
        "negative",
        "correct",
        "incorrect",
        "valid",
        "invalid",
        "none",
        "unknown",
    ];
    match form.kind {
        Kind::Choice => 0.4,
        Kind::Text if TWO_VALUED.contains(&form.text.as_str()) => 0.65,
        Kind::Text if form.text == "neutral" => 0.4,
        Kind::Number if form.text == "0" || form.text == "1" => 0.4,
        Kind::Number if form.text.len() == 1 => 0.15,
        Kind::Number if form.text.len() == 2 => 0.05,
        _ => GENERAL_FLOOR,
    }
}

/// As common as the rarest of its words is as an answer.
fn phrase_floor(phrase: &str) -> f64 {
    let words = phrase.split(' ').filter(|w| !is_function_word(w));
    words.map(|w| answer_floor(&canonical(w))).fold(1.0, f64::min)
}

/// Phrases of one to three words of an answer that say something and that the question did not say already. Of
/// JSON the values only: keys are format.
fn phrases(form: &Canonical, answer: &str, asked: &HashSet<&str>) -> HashSet<String> {
    let mut found = HashSet::new();
    for segment in segments(form, answer) {
        let words = words(&segment);
        if words.len() > LONGEST_ANSWER {
            continue;
        }
        for size in 1..=LONGEST_GRAM {
            for gram in words.windows(size) {
                let says = |w: &String| w.chars().count() >= 2 && !is_function_word(w);
                if gram.iter().any(|w| says(w) && !asked.contains(w.as_str())) {
                    found.insert(gram.join(" "));
                }
            }
        }
    }
    found
}

fn segments(form: &Canonical, answer: &str) -> Vec<String> {
    fn leaves(value: &serde_json::Value, out: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => map.values().for_each(|v| leaves(v, out)),
            serde_json::Value::Array(items) => items.iter().for_each(|v| leaves(v, out)),
            serde_json::Value::String(text) => out.push(text.clone()),
            serde_json::Value::Number(n) => out.push(n.to_string()),
            serde_json::Value::Null | serde_json::Value::Bool(_) => {}
        }
    }
    match form.kind {
        Kind::Json => {
            let mut out = Vec::new();
            if let Ok(value) = serde_json::from_str(&form.text) {
                leaves(&value, &mut out);
            }
            out
        }
        Kind::List => form.text.split([',', '\n']).map(str::to_owned).collect(),
        _ => vec![answer.to_owned()],
    }
}

/// Every word but function words and single Latin letters; numbers count as one word.
fn counts_as_word(token: &str) -> bool {
    let mut chars = token.chars();
    let single_letter = matches!((chars.next(), chars.next()), (Some(c), None) if c.is_ascii_alphabetic());
    token.chars().any(char::is_alphanumeric) && !single_letter && !is_function_word(token)
}

/// What two wordings of one question have in common: their tokens but for function words and everyday punctuation,
/// in no order. Numbers and odd signs stay.
fn core_of(question: &str) -> Vec<String> {
    const EVERYDAY: &str = "?.,:;!'\"()-";
    let mut core = tokens(question);
    core.retain(|t| !is_function_word(t) && !EVERYDAY.contains(t.as_str()));
    core.sort_unstable();
    core.dedup();
    core
}

fn without_number(token: &str) -> &str {
    let number = token.chars().all(|c| c.is_numeric() || matches!(c, '.' | ',' | ':' | '/' | '-'));
    if number { NUMBER } else { token }
}

fn count_words(docs: &[Doc]) -> HashMap<u32, usize> {
    let mut counts = HashMap::new();
    for word in docs.iter().flat_map(|d| &d.words) {
        *counts.entry(*word).or_default() += 1;
    }
    counts
}

fn frames(counts: &HashMap<u32, usize>, documents: usize) -> HashSet<u32> {
    if documents < FRAME_LEAST {
        return HashSet::new();
    }
    let limit = FRAME_SHARE * documents as f64;
    counts.iter().filter(|(_, count)| **count as f64 > limit).map(|(word, _)| *word).collect()
}
