//! Training conversations: what a row of a data file becomes, and rows that cannot be used.
//!
//! Reads harvest and alpaca rows (`instruction`, `input`, `output`) and chats (`messages`, the answer
//! last); one file may mix them. A line that is neither is named and skipped, never guessed at.

use std::collections::BTreeMap;
use std::path::Path;

use nightshift_core::interaction::Message as Turn;
use nightshift_core::jsonl::{self, BadLine};
use nightshift_core::training_row::TrainingRow;
use nightshift_core::{Failure, jsonl::Lines};
use nightshift_model::{Example, Message, ModelError, encode_example};
use nightshift_verify::words;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::Text;

/// One conversation; its last turn is the answer that is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The row's id, or `file:line`.
    pub(crate) name: String,
    /// The turns, the answer last.
    pub(crate) messages: Vec<Message>,
}

/// Why a row does not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The line is not a row.
    BadLine,
    /// An equal question was harvested later.
    Duplicate,
    /// The question belongs to a gate or report set.
    Sealed,
    /// The interaction is marked `no_train`.
    NoTrain,
    /// The row is kept apart for validation (`split: holdout`).
    Holdout,
    /// More tokens than `train.max_length`.
    TooLong,
    /// No answer to learn.
    NoAnswer,
    /// The chat template failed on it, or does not let the answer be placed.
    Template,
    /// No room within `train.max_minutes`.
    NoTime,
    /// The question is evaluated on while training.
    Evaluation,
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

/// The conversation of a harvested row.
pub(crate) fn record(row: &TrainingRow, place: &str) -> Record {
    let name = if row.id.is_empty() { place.to_owned() } else { row.id.clone() };
    Record { name, messages: turns(&row.conversation(), &row.output) }
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

/// Reads a data file of the direct form.
pub(crate) fn read(path: &Path) -> Result<(Vec<Record>, Vec<Dropped>), Failure> {
    let Lines { rows, bad } = jsonl::read::<Value>(path)?;
    let mut records = Vec::with_capacity(rows.len());
    let mut dropped: Vec<Dropped> = bad.into_iter().map(Dropped::from).collect();
    for (line, row) in rows {
        let place = format!("{}:{line}", path.display());
        match parse(row, &place) {
            Ok(record) => records.push(record),
            Err(why) => dropped.push(Dropped::new(place, Reason::BadLine, why)),
        }
    }
    dropped.sort_by_key(|row| row.row.rsplit(':').next().and_then(|line| line.parse::<usize>().ok()));
    Ok((records, dropped))
}

/// A row of any known form.
fn parse(row: Value, place: &str) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Chat {
        #[serde(default)]
        id: String,
        messages: Vec<Message>,
    }
    if row.get("output").is_some() {
        let row: TrainingRow = serde_json::from_value(row).map_err(|error| error.to_string())?;
        return Ok(record(&row, place));
    }
    if row.get("messages").is_some() {
        let chat: Chat = serde_json::from_value(row).map_err(|error| error.to_string())?;
        let name = if chat.id.is_empty() { place.to_owned() } else { chat.id };
        return Ok(Record { name, messages: chat.messages });
    }
    Err("neither `instruction` with `output` nor `messages`".into())
}

/// A record in tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoded {
    /// Its name.
    pub(crate) name: String,
    /// Tokens, and which of them are scored.
    pub(crate) example: Example,
}

impl Encoded {
    /// Tokens whose prediction counts; nothing predicts the first one.
    pub(crate) fn answer_tokens(&self) -> usize {
        self.example.scored.iter().skip(1).filter(|scored| **scored).count()
    }
}

/// Turns records into tokens, one by one: a row without an answer that the template can place, or with more
/// than `max_length` tokens, comes back as dropped.
pub(crate) fn encode(text: &Text, records: &[Record], max_length: usize) -> Vec<Result<Encoded, Dropped>> {
    let encode = |Record { name, messages }: &Record| match encode_example(
        &text.tokenizer,
        &text.template,
        messages,
    ) {
        Ok(example) if example.tokens.len() > max_length => {
            let why = format!("{} tokens, max_length is {max_length}", example.tokens.len());
            Err(Dropped::new(name, Reason::TooLong, why))
        }
        Ok(example) if example.scored.iter().skip(1).all(|scored| !scored) => {
            Err(Dropped::new(name, Reason::NoAnswer, "no answer token has anything before it"))
        }
        Ok(example) => Ok(Encoded { name: name.clone(), example }),
        Err(error @ ModelError::Template { .. }) => {
            Err(Dropped::new(name, Reason::Template, error.to_string()))
        }
        Err(error) => Err(Dropped::new(name, Reason::NoAnswer, error.to_string())),
    };
    records.iter().map(encode).collect()
}

/// Refuses a template that failed on every row: it is at fault, not the data.
pub(crate) fn refuse_template(rows: &[Result<Encoded, Dropped>]) -> Result<(), Failure> {
    let failed = |row: &&Dropped| row.reason == Reason::Template;
    match rows.iter().find_map(|row| row.as_ref().err().filter(failed)) {
        Some(row) if rows.iter().all(Result::is_err) => {
            Err(Failure::refused(format!("the chat template cannot be trained on: {}", row.why)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_core::files;

    #[test]
    fn the_three_forms_are_read_and_the_rest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let text = concat!(
            "{\"instruction\": \"2+2?\", \"input\": \"\", \"output\": \"4\", \"id\": \"a\"}\n",
            "{\"instruction\": \"Add\", \"input\": \"2 2\", \"output\": \"4\"}\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"ho\"}]}\n",
            "{\"text\": \"loose\"}\n",
            "not json\n",
            "{\"instruction\": 7, \"output\": \"x\"}\n",
        );
        files::write_atomic(&path, text.as_bytes()).unwrap();
        let (records, dropped) = read(&path).unwrap();
        assert_eq!(records[0].name, "a");
        assert_eq!(records[1].messages[0].content, "Add\n\n2 2");
        assert_eq!(records[1].name, format!("{}:2", path.display()));
        assert_eq!(records[2].messages[1].content, "ho");
        let lines: Vec<&str> = dropped.iter().map(|row| row.row.rsplit(':').next().unwrap()).collect();
        assert_eq!(lines, ["4", "5", "6"]);
        assert_eq!(count(&dropped), BTreeMap::from([("bad_line", 3)]));
    }

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
