//! Training data: rows of every form, which of them cannot be used, and what they are in tokens.
//!
//! | module | job |
//! |---|---|
//! | `row`, `chat`, `pair` | a JSON object to a row: alpaca, messages, ShareGPT, prompt/completion, preferences, labels |
//! | `file` | the objects of a file, with their lines |
//! | `screen` | one purpose, nothing sealed, repeats |
//! | `set` | a whole file to examples, by the rules that the command line gives |
//! | `fit` | examples that are too long |
//!
//! Here are the words that all of them use, and the harvested rows of the nightly form. Nothing is dropped
//! without its name.

mod chat;
mod file;
mod fit;
mod pair;
mod row;
mod screen;
mod set;

use std::collections::BTreeMap;

use nightshift_core::Failure;
use nightshift_core::config::Overlong;
use nightshift_core::interaction::Message as Turn;
use nightshift_core::jsonl::BadLine;
use nightshift_core::training_row::TrainingRow;
use nightshift_model::{Example, Judged, Message, ModelError, Preference, encode_example};
use nightshift_verify::words;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::{CHAT_TEMPLATE_HINT, Text};

pub(crate) use row::Teaches;
pub(crate) use set::{DataSet, Lesson, Noted, Rules, Taught, examples, load, questions};

/// One conversation; its last turn is the answer that is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The row's id, or `file:line`.
    pub(crate) name: String,
    /// The turns, the answer last.
    pub(crate) messages: Vec<Message>,
    /// The answer that it is better than, where that is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rejected: Option<String>,
    /// Whether the answer is wanted, where that is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<bool>,
}

impl Record {
    /// A conversation whose answer is to be imitated.
    pub(crate) fn new(name: impl Into<String>, messages: Vec<Message>) -> Self {
        Self { name: name.into(), messages, rejected: None, wanted: None }
    }

    /// As an external trainer reads it.
    pub(crate) fn wire(&self) -> Value {
        json!({"id": self.name, "messages": self.messages})
    }
}

/// Why a row does not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The line is not a row.
    BadLine,
    /// An equal question was harvested later; direct form: an equal row stands before it.
    Duplicate,
    /// The question belongs to a gate or report set.
    Sealed,
    /// The interaction is marked `no_train`.
    NoTrain,
    /// The row is kept apart for validation (`split: holdout`).
    Holdout,
    /// More tokens than `train.max_length` or the model's context.
    TooLong,
    /// No answer to learn.
    NoAnswer,
    /// The chat template failed on it, or does not let the answer be placed.
    Template,
    /// No room within `train.max_minutes`.
    NoTime,
    /// The question is evaluated on while training.
    Evaluation,
    /// No failed answer to prefer the accepted one to.
    NoRejected,
}

impl Reason {
    /// As the report names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BadLine => "bad_line",
            Self::Duplicate => "duplicate",
            Self::Sealed => "sealed",
            Self::NoTrain => "no_train",
            Self::Holdout => "holdout",
            Self::TooLong => "too_long",
            Self::NoAnswer => "no_answer",
            Self::Template => "template",
            Self::NoTime => "no_time",
            Self::Evaluation => "evaluation",
            Self::NoRejected => "no_rejected",
        }
    }
}

/// A row that does not take part, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// The row's id, or `file:line`.
    pub(crate) row: String,
    /// The reason.
    pub(crate) reason: Reason,
    /// More about it, for a person.
    pub(crate) why: String,
}

impl Dropped {
    /// A dropped row.
    pub(crate) fn new(row: impl Into<String>, reason: Reason, why: impl Into<String>) -> Self {
        Self { row: row.into(), reason, why: why.into() }
    }
}

impl From<BadLine> for Dropped {
    fn from(bad: BadLine) -> Self {
        let row = format!("{}:{}", bad.path.display(), bad.line);
        Self { row, reason: Reason::BadLine, why: bad.why }
    }
}

/// How many rows were dropped for each reason.
pub(crate) fn count(dropped: &[Dropped]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for row in dropped {
        *counts.entry(row.reason.name()).or_default() += 1;
    }
    counts
}

/// The turns as the model crate has them.
pub(crate) fn turns(conversation: &[Turn], answer: &str) -> Vec<Message> {
    let before = conversation.iter().map(|turn| Message::new(&turn.role, &turn.content));
    before.chain([Message::new("assistant", answer)]).collect()
}

/// What a harvested row teaches: its answer; that the answer is better than the failed one; or that the one
/// is wanted and the other is not.
pub(crate) fn records(row: &TrainingRow, place: &str, teaches: Teaches) -> Vec<Record> {
    let name = if row.id.is_empty() { place } else { &row.id };
    let conversation = row.conversation();
    let accepted = Record::new(name, turns(&conversation, &row.output));
    match teaches {
        Teaches::Answers => vec![accepted],
        Teaches::Pairs => vec![Record { rejected: row.rejected.clone(), ..accepted }],
        Teaches::Judgements => {
            let failed = row.rejected.as_ref().map(|answer| Record {
                wanted: Some(false),
                ..Record::new(format!("{name} (rejected)"), turns(&conversation, answer))
            });
            std::iter::once(Record { wanted: Some(true), ..accepted }).chain(failed).collect()
        }
    }
}

/// One form for questions that are the same but for case and white space: every turn before the answer.
pub(crate) fn question_key(messages: &[Message]) -> String {
    let before = messages.split_last().map_or(messages, |(_, before)| before);
    let mut key = String::new();
    for message in before {
        key.push_str(&message.role);
        key.push('\u{1f}');
        key.push_str(&words::squeeze(&words::fold(&message.content)));
        key.push('\u{1e}');
    }
    key
}

/// A record in tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoded {
    /// Its name.
    pub(crate) name: String,
    /// Tokens, and which of them are scored.
    pub(crate) example: Example,
    /// What is said of the answer.
    pub(crate) verdict: Verdict,
}

/// What a row says of its answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is to be imitated.
    Imitate,
    /// It is better than this one.
    Better(Example),
    /// It is wanted, or not.
    Wanted(bool),
}

impl Encoded {
    /// An answer to imitate.
    pub(crate) const fn answer(name: String, example: Example) -> Self {
        Self { name, example, verdict: Verdict::Imitate }
    }

    /// Its answers in their context: the one, or the better and the worse.
    pub(crate) fn examples(&self) -> impl Iterator<Item = &Example> {
        let worse = match &self.verdict {
            Verdict::Better(worse) => Some(worse),
            Verdict::Imitate | Verdict::Wanted(_) => None,
        };
        std::iter::once(&self.example).chain(worse)
    }

    /// Tokens of a pass over it.
    pub(crate) fn tokens(&self) -> usize {
        self.examples().map(|example| example.tokens.len()).sum()
    }

    /// Tokens whose prediction counts; nothing predicts the first one.
    pub(crate) fn answer_tokens(&self) -> usize {
        self.examples().flat_map(|example| example.scored.iter().skip(1)).filter(|scored| **scored).count()
    }
}

/// Turns records into tokens, one by one: a row without an answer that the template can place, or one that
/// is too long and cannot be cut or must not be, comes back as dropped. Rows that were cut join `truncated`.
pub(crate) fn encode(
    text: &Text,
    records: &[Record],
    limits: (usize, Overlong),
    truncated: &mut Vec<Noted>,
) -> Vec<Result<Encoded, Dropped>> {
    let mut encode = |record: &Record| {
        let name = &record.name;
        let mut taught = taught(text, record).map_err(|error| unlearnable(name, &error))?;
        truncated.extend(set::fit_in(text, name, &mut taught, limits)?);
        Ok(Lesson { name: name.clone(), question: String::new(), taught, wire: Value::Null }.into_example())
    };
    records.iter().map(&mut encode).collect()
}

fn taught(text: &Text, record: &Record) -> Result<Taught, ModelError> {
    let template = text.template()?;
    let encode = |messages: &[Message]| encode_example(&text.tokenizer, template, messages);
    let example = encode(&record.messages)?;
    Ok(match (&record.rejected, record.wanted) {
        (Some(rejected), _) => {
            let mut messages = record.messages.clone();
            messages.pop();
            messages.push(Message::new("assistant", rejected));
            Taught::Pair(Preference::new(example, encode(&messages)?)?)
        }
        (None, Some(desirable)) => Taught::Judged(Judged { example, desirable }),
        (None, None) => Taught::Answer(example),
    })
}

/// Refuses (exit 4) a run some of whose rows are too long, where that is the policy.
pub(crate) fn refuse_overlong(dropped: &[Dropped], overlong: Overlong) -> Result<(), Failure> {
    if overlong != Overlong::Error {
        return Ok(());
    }
    screen::refuse_rows(dropped, Reason::TooLong, "too long", |failure| {
        failure.hint("raise --max-length, or choose --overlong drop or truncate")
    })
}

/// A row that could not be turned into tokens.
fn unlearnable(name: &str, error: &ModelError) -> Dropped {
    let reason = match error {
        ModelError::Template { .. } => Reason::Template,
        _ => Reason::NoAnswer,
    };
    Dropped::new(name, reason, error.to_string())
}

/// Refuses an example of which nothing would be learned.
fn has_label(name: &str, example: &Example) -> Result<(), Dropped> {
    if example.scored.iter().skip(1).any(|scored| *scored) {
        return Ok(());
    }
    Err(Dropped::new(name, Reason::NoAnswer, "no answer token has anything before it"))
}

/// Refuses a template that failed on every row: it is at fault, not the data.
pub(crate) fn refuse_template<T>(rows: &[Result<T, Dropped>]) -> Result<(), Failure> {
    let failed = |row: &&Dropped| row.reason == Reason::Template;
    match rows.iter().find_map(|row| row.as_ref().err().filter(failed)) {
        Some(row) if rows.iter().all(Result::is_err) => {
            let message = format!("the chat template cannot be trained on: {}", row.why);
            Err(Failure::refused(message).hint(CHAT_TEMPLATE_HINT))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_questions_have_one_key_and_other_signs_another() {
        let key = |text: &str| question_key(&[Message::new("user", text), Message::new("assistant", "x")]);
        assert_eq!(key("What  is X?"), key(" what is x? "));
        assert_ne!(key("3 + 4"), key("3 - 4"), "signs count");
        let with_system =
            [Message::new("system", "s"), Message::new("user", "3 + 4"), Message::new("assistant", "x")];
        assert_ne!(question_key(&with_system), key("3 + 4"));
    }
}
