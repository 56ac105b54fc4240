//! Keeps evaluation items out of training: exact and near-duplicate questions.
//!
//! Three tests, as is usual since GPT-3 (Brown et al. 2020, appendix C): the same normalised text; a common run of
//! 13 words; and 5-word shingles with a Jaccard index of at least one half (Broder 1997), computed exactly through an
//! inverted index. Texts of fewer than 13 words are tested for the same normalised text **only**: short templated
//! questions ("What is the river of X?") differ in one entity and are nevertheless different items. A long prompt that
//! shares its boilerplate with an evaluation item is reported even where its core differs; such boilerplate
//! belongs in a system prompt, which callers leave out of what they pass here. Paraphrases pass.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::words::words;

/// Words in a run that two texts must share.
const RUN: usize = 13;
/// Words in a shingle.
const SHINGLE: usize = 5;
/// Jaccard index of shingles from which two texts are near-duplicates.
const JACCARD: f64 = 0.5;

/// How a text was found to match an evaluation item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchKind {
    /// The same words.
    Exact,
    /// A common run of 13 words.
    WordRun,
    /// 5-word shingles with a Jaccard index of one half or more.
    NearDuplicate,
}

impl MatchKind {
    /// How two texts match, for a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Exact => "the same words",
            Self::WordRun => "a common run of 13 words",
            Self::NearDuplicate => "nearly the same words",
        }
    }
}

/// The evaluation item that a text matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvalMatch {
    /// Index of the item in the order in which the guard was built.
    pub item: usize,
    /// How it matches.
    pub kind: MatchKind,
}

/// The evaluation questions, indexed. Building is linear in their length, a check in that of the text.
#[derive(Debug, Clone, Default)]
pub struct EvalGuard {
    exact: HashMap<String, usize>,
    runs: HashMap<String, usize>,
    /// Items that hold each shingle; an item is listed once per distinct shingle.
    shingles: HashMap<String, Vec<usize>>,
    /// Distinct shingles of each item.
    sizes: Vec<usize>,
}

impl EvalGuard {
    /// Indexes the evaluation questions.
    pub fn new<I, S>(questions: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut guard = Self::default();
        for question in questions {
            guard.add(question.as_ref());
        }
        guard
    }

    /// Adds one question; its index is the number of questions before it.
    pub fn add(&mut self, question: &str) {
        let item = self.sizes.len();
        let words = words(question);
        self.exact.entry(words.join(" ")).or_insert(item);
        let mut shingles = HashSet::new();
        if words.len() >= RUN {
            for run in words.windows(RUN) {
                self.runs.entry(run.join(" ")).or_insert(item);
            }
            shingles = shingles_of(&words);
        }
        self.sizes.push(shingles.len());
        for shingle in shingles {
            self.shingles.entry(shingle).or_default().push(item);
        }
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The evaluation item that a text matches, the strictest kind first. A text without a single word
    /// matches nothing.
    pub fn check(&self, text: &str) -> Option<EvalMatch> {
        let words = words(text);
        if words.is_empty() {
            return None;
        }
        let found = |item, kind| Some(EvalMatch { item, kind });
        if let Some(&item) = self.exact.get(&words.join(" ")) {
            return found(item, MatchKind::Exact);
        }
        if words.len() < RUN {
            return None;
        }
        if let Some(&item) = words.windows(RUN).find_map(|run| self.runs.get(&run.join(" "))) {
            return found(item, MatchKind::WordRun);
        }
        found(self.near_duplicate(&words)?, MatchKind::NearDuplicate)
    }

    fn near_duplicate(&self, words: &[String]) -> Option<usize> {
        let shingles = shingles_of(words);
        let mut common: HashMap<usize, usize> = HashMap::new();
        for item in shingles.iter().filter_map(|s| self.shingles.get(s)).flatten() {
            *common.entry(*item).or_default() += 1;
        }
        let jaccard =
            |item: usize, both: usize| both as f64 / (shingles.len() + self.sizes[item] - both) as f64;
        // The smallest index wins among several, so that the answer does not depend on hash order.
        common.into_iter().filter(|&(item, both)| jaccard(item, both) >= JACCARD).map(|(item, _)| item).min()
    }
}

fn shingles_of(words: &[String]) -> HashSet<String> {
    words.windows(SHINGLE).map(|w| w.join(" ")).collect()
}
