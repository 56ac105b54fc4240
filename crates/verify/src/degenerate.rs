//! Vetoes: answers that no score should be able to rescue.
//!
//! A veto is a named reason, never a number. Each rule is written to be rare on real answers, so that a veto can be
//! final: of 1,000 answers of two real models to hard prompts 2 % are refused, nearly all of them refusals and "as an
//! AI" (example `real_data`). [`canaries`] are bad answers that the vetoes must refuse, all of them; a harvest runs them
//! as a self-test before it trusts itself with anything.

mod canary;
mod phrases;
mod shape;

pub use canary::{Canary, canaries};

use serde::{Deserialize, Serialize};

use crate::language::{ScriptMatch, compare};
use crate::words::words;

/// What is being judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// The question, without system prompt.
    pub question: &'a str,
    /// The answer that failed, where there is one.
    pub failed_answer: Option<&'a str>,
    /// The answer to judge.
    pub answer: &'a str,
    /// The endpoint's `finish_reason`, where it is known.
    pub finish_reason: Option<&'a str>,
}

/// Name of a veto. The text form (`snake_case`) is what manifests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VetoKind {
    /// No letter, digit or symbol at all.
    Empty,
    /// The answer declines.
    Refusal,
    /// The answer talks about being a model or about rewriting.
    MetaTalk,
    /// The failed answer again.
    Echo,
    /// The question again, and nothing else.
    CopiedPrompt,
    /// Cut off before its end.
    Truncated,
    /// A code fence or bracket that never closes.
    Unbalanced,
    /// The same words over and over.
    Repetition,
    /// Text addressed to a judge or to the machinery around it.
    Injection,
    /// Only the announcement of an answer.
    LeadInOnly,
    /// Written in another script than the question.
    WrongScript,
    /// Long prose that shares no word of substance with the question.
    OffTopic,
}

impl VetoKind {
    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Refusal => "refusal",
            Self::MetaTalk => "meta_talk",
            Self::Echo => "echo",
            Self::CopiedPrompt => "copied_prompt",
            Self::Truncated => "truncated",
            Self::Unbalanced => "unbalanced",
            Self::Repetition => "repetition",
            Self::Injection => "injection",
            Self::LeadInOnly => "lead_in_only",
            Self::WrongScript => "wrong_script",
            Self::OffTopic => "off_topic",
        }
    }
}

impl std::fmt::Display for VetoKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One reason to refuse an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veto {
    /// Its name.
    pub kind: VetoKind,
    /// What was seen, in one sentence.
    pub reason: String,
}

/// Every veto that applies, in the order of [`VetoKind`]. None means nothing spoke against the answer, not that it
/// is right.
pub fn vetoes(subject: &Subject<'_>) -> Vec<Veto> {
    let Subject { question, failed_answer, answer, finish_reason } = *subject;
    if !answer.chars().any(|c| !c.is_whitespace() && !c.is_control()) {
        return vec![Veto { kind: VetoKind::Empty, reason: "the answer is empty".to_owned() }];
    }
    let rules: [(VetoKind, Option<String>); 11] = [
        (VetoKind::Refusal, phrases::refusal(answer)),
        (VetoKind::MetaTalk, phrases::meta_talk(question, answer)),
        (VetoKind::Echo, failed_answer.and_then(|failed| echo(failed, answer))),
        (VetoKind::CopiedPrompt, copied_prompt(question, answer)),
        (VetoKind::Truncated, shape::truncated(answer, finish_reason)),
        (VetoKind::Unbalanced, shape::unbalanced(answer)),
        (VetoKind::Repetition, shape::repetition(answer)),
        (VetoKind::Injection, phrases::injection(question, answer)),
        (VetoKind::LeadInOnly, phrases::lead_in_only(answer)),
        (VetoKind::WrongScript, wrong_script(question, answer)),
        (VetoKind::OffTopic, off_topic(question, answer)),
    ];
    rules.into_iter().filter_map(|(kind, reason)| Some(Veto { kind, reason: reason? })).collect()
}

/// Share of word trigrams that occurred before in the same text: 0 for no repetition, near 1 for a loop. Texts of
/// fewer than three words have 0.
pub fn repetition_ratio(text: &str) -> f64 {
    shape::repetition_ratio(text)
}

fn echo(failed: &str, answer: &str) -> Option<String> {
    let same_words = || {
        let failed = words(failed);
        !failed.is_empty() && failed == words(answer)
    };
    (crate::same_answer(failed, answer) || same_words()).then(|| "it repeats the failed answer".to_owned())
}

fn copied_prompt(question: &str, answer: &str) -> Option<String> {
    // "Say hello" is rightly answered by its own words; longer questions are not.
    const LEAST_WORDS: usize = 5;
    let question = words(question);
    if question.len() < LEAST_WORDS {
        return None;
    }
    (question == words(answer)).then(|| "it repeats the question".to_owned())
}

fn wrong_script(question: &str, answer: &str) -> Option<String> {
    match compare(question, answer) {
        // Prompts in Latin script ask for other scripts often enough (translate, quote, transliterate).
        ScriptMatch::Different { prompt, answer } if !asks_for_other_language(question) => {
            Some(format!("the question is written in {prompt}, the answer in {answer}"))
        }
        _ => None,
    }
}

fn asks_for_other_language(question: &str) -> bool {
    let question = question.to_lowercase();
    ["translat", "in russian", "in chinese", "in japanese", "in arabic", "in greek", "in korean", "in hebrew"]
        .iter()
        .any(|w| question.contains(w))
}

/// Only long prose is judged, against a question with enough words of substance: short answers share nothing with
/// their question by right.
fn off_topic(question: &str, answer: &str) -> Option<String> {
    const LEAST_ANSWER_WORDS: usize = 40;
    const LEAST_QUESTION_WORDS: usize = 4;
    // Stems of five letters let "computers" meet "computing".
    let stems = |text: &str| -> std::collections::HashSet<String> {
        words(text)
            .into_iter()
            .filter(|w| w.chars().count() >= 4 && !crate::scan::is_function_word(w))
            .map(|w| w.chars().take(5).collect())
            .collect()
    };
    let asked = stems(question);
    if asked.len() < LEAST_QUESTION_WORDS || words(answer).len() < LEAST_ANSWER_WORDS {
        return None;
    }
    asked.is_disjoint(&stems(answer)).then(|| "it shares no word of substance with the question".to_owned())
}
