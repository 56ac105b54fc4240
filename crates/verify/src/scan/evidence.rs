//! What the background explains, and how far the night is beyond it.

use std::collections::HashMap;

use super::corpus::{Corpus, Doc, Item};

/// Questions that a rate given a word is shrunk by, towards the overall rate.
const SHRINK: f64 = 4.0;

/// Questions of background that a z rests on at least, assumed ones included.
const ASSUMED_BACKGROUND: f64 = 400.0;

/// The background's view of one item.
#[derive(Debug)]
pub(super) struct Null<'c> {
    corpus: &'c Corpus,
    floor: f64,
    /// Background documents with the item, and of those the ones with each word.
    count: usize,
    with_word: HashMap<u32, usize>,
    overall: f64,
}

impl<'c> Null<'c> {
    pub(super) fn new(corpus: &'c Corpus, item: &Item) -> Self {
        let mut with_word = HashMap::new();
        for doc in &item.background {
            for word in &corpus.background()[*doc].words {
                *with_word.entry(*word).or_default() += 1;
            }
        }
        let count = item.background.len();
        let total = corpus.background().len();
        let overall = if total == 0 { 0.0 } else { count as f64 / total as f64 };
        Self { corpus, floor: item.floor, count, with_word, overall }
    }

    /// Rate at which a question like this has the item: the largest over its words, but for those ignored.
    pub(super) fn rate(&self, doc: &Doc, ignored: &[u32]) -> f64 {
        let mut rate = self.floor.max(self.overall);
        for word in doc.words.iter().filter(|w| !ignored.contains(w)) {
            let with = self.with_word.get(word).copied().unwrap_or(0);
            if with > 0 {
                let given = (with as f64 + SHRINK * self.overall)
                    / (self.corpus.background_count(*word) as f64 + SHRINK);
                rate = rate.max(given);
            }
        }
        rate
    }

    /// z of the log-odds ratio with an informative Dirichlet prior (Monroe et al. 2008): items are counted once per
    /// question, the prior is the pooled rate and worth as many questions as the night has. A background of fewer than
    /// 400 questions is filled up to that number at the item's floor.
    pub(super) fn log_odds_z(&self, night_count: usize) -> f64 {
        let night_total = self.corpus.night().len() as f64;
        let night_count = night_count as f64;
        let known = self.corpus.background().len() as f64;
        let assumed = (ASSUMED_BACKGROUND - known).max(0.0);
        let total = known + assumed;
        let count = self.count as f64 + assumed * self.floor;
        let strength = night_total;
        let prior = strength * (night_count + count) / (night_total + total);
        let log_odds = |count: f64, total: f64| {
            ((count + prior) / (total + strength - count - prior).max(f64::MIN_POSITIVE)).ln()
        };
        let delta = log_odds(night_count, night_total) - log_odds(count, total);
        let variance = 1.0 / (night_count + prior) + 1.0 / (count + prior);
        delta / variance.sqrt()
    }
}

/// A count and what is expected of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) count: usize,
    pub(super) of: usize,
    pub(super) expected: f64,
    /// Hypotheses looked at.
    pub(super) candidates: usize,
}

impl Evidence {
    /// Bound on P(some candidate counts so far beyond its expectation): Chernoff and Hoeffding's
    /// `exp(-n KL(k/n || mean))`, which holds for independent trials with unequal rates, times the candidates.
    pub(super) fn p_bound(&self) -> f64 {
        let n = self.of as f64;
        let (seen, mean) = (self.count as f64 / n, (self.expected / n).min(1.0));
        if seen <= mean {
            return 1.0;
        }
        let term = |p: f64, q: f64| if p == 0.0 { 0.0 } else { p * (p / q).ln() };
        let divergence = term(seen, mean) + term(1.0 - seen, 1.0 - mean);
        ((-n * divergence).exp() * self.candidates as f64).min(1.0)
    }
}
