//! Words in questions that come with one answer.

use std::collections::{BTreeMap, HashMap};

use super::corpus::{Corpus, LONGEST_GRAM};
use super::evidence::{Evidence, Null};
use super::relation::unrelated;
use super::{ScanSettings, Suspicion, SuspicionKind};

/// Fewest background questions from which a word counts as unknown there.
const LEAST_BACKGROUND: usize = 40;

/// Tokens of a question in a row, and the night's documents that hold them with the answer most of them have.
#[derive(Debug)]
struct Candidate {
    gram: Vec<u32>,
    docs: Vec<usize>,
    answer: usize,
    /// Those of `docs` that have this answer.
    with_answer: Vec<usize>,
}

pub(super) fn triggers(corpus: &Corpus, settings: &ScanSettings) -> Vec<Suspicion> {
    let candidates = candidates(corpus, settings.least_rows);
    let count = candidates.len();
    candidates.into_iter().filter_map(|c| judge(corpus, &c, count, settings)).collect()
}

/// Question n-grams on at least `least` documents.
fn candidates(corpus: &Corpus, least: usize) -> Vec<Candidate> {
    let mut holders: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for (index, doc) in corpus.night().iter().enumerate() {
        for size in 1..=LONGEST_GRAM {
            for gram in doc.tokens.windows(size) {
                let docs = holders.entry(gram).or_default();
                if docs.last() != Some(&index) {
                    docs.push(index);
                }
            }
        }
    }
    holders
        .into_iter()
        .filter(|(_, docs)| docs.len() >= least)
        .map(|(gram, docs)| {
            let answer = most_common(docs.iter().map(|d| corpus.night()[*d].answer));
            let with_answer: Vec<usize> =
                docs.iter().copied().filter(|d| corpus.night()[*d].answer == answer).collect();
            Candidate { gram: gram.to_vec(), docs, answer, with_answer }
        })
        .filter(|c| c.with_answer.len() >= least)
        .collect()
}

fn judge(corpus: &Corpus, candidate: &Candidate, count: usize, settings: &ScanSettings) -> Option<Suspicion> {
    let Candidate { gram, docs, answer, with_answer } = candidate;
    let purity = with_answer.len() as f64 / docs.len() as f64;
    if purity < settings.trigger_purity {
        return None;
    }
    let item = &corpus.answers()[*answer];
    let null = Null::new(corpus, item);
    // The trigger's own words explain the answer as far as the background knows them with it.
    let expected = docs.iter().map(|d| null.rate(&corpus.night()[*d], &[])).sum();
    let evidence = Evidence { count: with_answer.len(), of: docs.len(), expected, candidates: count };
    let p_bound = evidence.p_bound();
    let z = null.log_odds_z(item.night.len());
    if p_bound > settings.alpha || z < settings.least_z {
        return None;
    }
    let unrelated = unrelated(corpus, with_answer, &own_words(corpus, with_answer, gram));
    if unrelated < settings.least_unrelated_trigger {
        return None;
    }
    let rows = corpus.rows_of(with_answer);
    let share = rows.len() as f64 / corpus.row_count() as f64;
    let text: Vec<&str> = gram.iter().map(|t| corpus.token_text(*t)).collect();
    Some(Suspicion {
        kind: SuspicionKind::InputTrigger,
        text: text.join(" "),
        answer: Some(item.text.clone()),
        rows,
        share,
        z,
        p_bound,
        expected,
        unrelated,
    })
}

/// The words of a trigger. It may be longer than the n-gram that betrays it: words that all its rows share belong to
/// it too, unless the background knows them or is too small to tell.
fn own_words(corpus: &Corpus, docs: &[usize], gram: &[u32]) -> Vec<u32> {
    let mut words = gram.to_vec();
    if corpus.background().len() < LEAST_BACKGROUND {
        return words;
    }
    let mut substance = docs.iter().map(|d| &corpus.night()[*d].substance);
    let first = substance.next().cloned().unwrap_or_default();
    let shared = substance.fold(first, |mut shared, words| {
        shared.retain(|word| words.binary_search(word).is_ok());
        shared
    });
    words.extend(shared.into_iter().filter(|word| corpus.background_count(*word) == 0));
    words
}

/// The most frequent value; the smallest of several.
fn most_common(values: impl Iterator<Item = usize>) -> usize {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(value, count)| (count, std::cmp::Reverse(value))).map_or(0, |(v, _)| v)
}
