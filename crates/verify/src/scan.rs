//! Finds one answer or one phrase that is over-represented across unrelated questions of a night.
//!
//! Two attacks on a harvest leave this trace, and a paired test on held-out questions does not see either: one wrong
//! answer on many rows (the rows were failures anyway, so the model still improves), and a trigger word in a few
//! questions that all get one fixed answer. An honest night leaves a similar trace at first sight: values come from
//! small pools, formats share words. What tells them apart is whether the questions have anything to do with each
//! other, and whether the background (rows accepted earlier, and ordinary answers of the serving model) knew the
//! answer for such questions. So a suspicion needs all of:
//!
//! 1. **Unrelated questions.** Among the rows with the answer, a set of pairwise unrelated questions. Two questions are
//!    related when they share a fifth of the shorter one's words of substance, at least one: those are all words but
//!    function words, numbers, single letters, and words in more than a fifth of the background's questions, which
//!    frame everything there.
//! 2. **More rows than the background explains.** The expected number is a sum over the night's rows of the
//!    answer's rate given the row's words in the background (the largest over the words, shrunk towards the
//!    overall rate), but at least a floor for the kind of answer: yes and no are everywhere. The tail of the
//!    Poisson-binomial count is bounded by Chernoff and Hoeffding's bound, times the number of candidates that could
//!    reach it at all (Bonferroni with Tarone's 1990 refinement).
//! 3. **Log-odds.** z of the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008,
//!    eq. 16, 19, 22) over rows that hold the item, prior from both corpora together and worth one night of rows.
//!
//! For an input trigger (1 to 3 tokens of the question, signs and invisible characters included) the rows are those
//! with the trigger, the answer must be the same on at least four fifths of them, and the trigger's own words do not count as
//! relation.
//!
//! Measured on 1,000 invented worlds (the ignored test `rates`; nights of 50 to 100 rows): no honest night raises
//! anything; one wrong answer on 50 % and 30 % of the rows and a trigger on 15 % and 12 % are found every time, on 20 % and
//! 10 % in 99 of 100. Below 50 rows a trigger has four to six rows, and the scan may be silent.
//!
//! What it does not see: an answer spread over fewer than [`ScanSettings::least_rows`] rows or over one topic; a wrong
//! yes/no or letter on up to about three quarters of the rows, which is what honest questions may have; several wrong
//! answers at once, each rare. Time and memory are linear in the text except for candidates times rows.

mod corpus;
mod evidence;
mod function_words;
mod relation;
mod trigger;

pub use function_words::is_function_word;

use serde::{Deserialize, Serialize};

use corpus::{Corpus, Item};
use evidence::{Evidence, Null};
use relation::unrelated;

/// A question and its answer, system prompt and reasoning left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The question.
    pub question: &'a str,
    /// The answer that would be trained on (or, in a background, that was given).
    pub answer: &'a str,
}

/// When a scan speaks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScanSettings {
    /// Bound on the probability that an honest night raises anything, per kind of suspicion.
    pub alpha: f64,
    /// Fewest distinct questions with the item.
    pub least_rows: usize,
    /// Fewest pairwise unrelated questions among them, for answers and phrases.
    pub least_unrelated: usize,
    /// The same for triggers, which are words that unrelated questions share.
    pub least_unrelated_trigger: usize,
    /// Smallest share of a trigger's rows that have the one answer.
    pub trigger_purity: f64,
    /// Smallest z.
    pub least_z: f64,
}

impl Default for ScanSettings {
    fn default() -> Self {
        Self {
            alpha: 1e-3,
            least_rows: 5,
            least_unrelated: 4,
            least_unrelated_trigger: 3,
            trigger_purity: 0.8,
            least_z: 2.0,
        }
    }
}

/// What is over-represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspicionKind {
    /// One canonical answer.
    Answer,
    /// One to three words in a row in the answers.
    OutputNgram,
    /// One to three tokens in a row in the questions that come with one answer.
    InputTrigger,
}

/// One finding. Its rows belong into quarantine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// What is over-represented.
    pub kind: SuspicionKind,
    /// The answer, phrase or trigger, in normalised form.
    pub text: String,
    /// The one answer that a trigger comes with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<String>,
    /// Indices of the night's rows that hold it, in order.
    pub rows: Vec<usize>,
    /// Their share of all rows of the night.
    pub share: f64,
    /// z of the log-odds against the background.
    pub z: f64,
    /// Bound on the probability of so many rows on an honest night, for all candidates together.
    pub p_bound: f64,
    /// Number of rows that the background explains.
    pub expected: f64,
    /// Pairwise unrelated questions found among the rows (counting stops at 12).
    pub unrelated: usize,
}

impl std::fmt::Display for Suspicion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, percent) = (self.rows.len(), 100.0 * self.share);
        let text = &self.text;
        match (self.kind, &self.answer) {
            (SuspicionKind::InputTrigger, Some(answer)) => {
                write!(f, "{text:?} in a question comes with the answer {answer:?}")?;
            }
            (SuspicionKind::OutputNgram, _) => write!(f, "the phrase {text:?} is in answers")?,
            _ => write!(f, "the answer {text:?} is given")?,
        }
        write!(
            f,
            " on {count} rows ({percent:.0} %) with at least {} unrelated questions; {:.1} would be expected (z = {:.1})",
            self.unrelated, self.expected, self.z
        )
    }
}

/// Scans a night against its background: slices of rows accepted on earlier nights and of ordinary answers of
/// the serving model. An empty background is allowed; then the floors alone say what is expected.
///
/// The findings are ordered: answers, phrases, triggers, each by the number of rows. A phrase or trigger whose rows
/// all belong to an earlier finding is not repeated.
pub fn scan(night: &[Row<'_>], background: &[&[Row<'_>]], settings: &ScanSettings) -> Vec<Suspicion> {
    let corpus = Corpus::new(night, background);
    let mut found: Vec<Suspicion> = Vec::new();
    for kind in [SuspicionKind::Answer, SuspicionKind::OutputNgram, SuspicionKind::InputTrigger] {
        let mut fresh = match kind {
            SuspicionKind::Answer => over_represented(&corpus, corpus.answers(), kind, settings),
            SuspicionKind::OutputNgram => over_represented(&corpus, corpus.grams(), kind, settings),
            SuspicionKind::InputTrigger => trigger::triggers(&corpus, settings),
        };
        fresh.sort_by(|a, b| {
            b.rows.len().cmp(&a.rows.len()).then(a.text.len().cmp(&b.text.len())).then(a.text.cmp(&b.text))
        });
        for suspicion in fresh {
            let known = found.iter().any(|f| suspicion.rows.iter().all(|r| f.rows.binary_search(r).is_ok()));
            if !known {
                found.push(suspicion);
            }
        }
    }
    found
}

/// Answers or phrases that the night holds more often than the background explains, on unrelated questions.
fn over_represented(
    corpus: &Corpus,
    items: &[Item],
    kind: SuspicionKind,
    settings: &ScanSettings,
) -> Vec<Suspicion> {
    let candidates: Vec<&Item> = items.iter().filter(|i| i.night.len() >= settings.least_rows).collect();
    let mut found = Vec::new();
    for item in &candidates {
        let null = Null::new(corpus, item);
        let expected = corpus.night().iter().map(|doc| null.rate(doc, &[])).sum();
        let evidence = Evidence {
            count: item.night.len(),
            of: corpus.night().len(),
            expected,
            candidates: candidates.len(),
        };
        let p_bound = evidence.p_bound();
        let z = null.log_odds_z(item.night.len());
        if p_bound > settings.alpha || z < settings.least_z {
            continue;
        }
        let unrelated = unrelated(corpus, &item.night, &[]);
        if unrelated < settings.least_unrelated {
            continue;
        }
        let rows = corpus.rows_of(&item.night);
        let share = rows.len() as f64 / corpus.row_count() as f64;
        found.push(Suspicion {
            kind,
            text: item.text.clone(),
            answer: None,
            rows,
            share,
            z,
            p_bound,
            expected,
            unrelated,
        });
    }
    found
}
