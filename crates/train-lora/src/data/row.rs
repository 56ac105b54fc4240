//! Rows of every form that training data comes in, told apart row by row.
//!
//! | form | keys |
//! |---|---|
//! | alpaca, harvest | `instruction`, `input`, `output`; also `system`, `history`, or `messages` before the answer |
//! | messages | `messages` `[{role, content, weight?, tool_calls?}]`, `tools` (OpenAI) |
//! | sharegpt | `conversations` `[{from, value}]`, `system`, `tools` |
//! | prompt_completion | `prompt`, `completion`: two texts, or two lists of messages |
//! | preference | `chosen`, `rejected`, and `prompt`, or `instruction`, or what both begin with; OpenAI's `input`, `preferred_output`, `non_preferred_output` |
//! | judged | `prompt`, `completion` (or `messages`) and `label` (KTO) |
//!
//! Pure: a JSON value in, a [`Row`] or a reason out. Nothing is guessed at; a row of no form names its keys.

use nightshift_model::Message;
use serde_json::{Map, Value, json};

use super::{chat, pair};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The form of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// instruction, input, output
    Alpaca,
    /// OpenAI messages
    Messages,
    /// conversations with from and value
    ShareGpt,
    /// prompt and completion
    PromptCompletion,
    /// chosen and rejected
    Preference,
    /// an answer with a label
    Judged,
}

impl Form {
    /// As reports name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::Messages => "messages",
            Self::ShareGpt => "sharegpt",
            Self::PromptCompletion => "prompt_completion",
            Self::Preference => "preference",
            Self::Judged => "judged",
        }
    }
}

/// What training on a row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Teaches {
    /// An answer to imitate.
    Answers,
    /// Which of two answers is better (DPO).
    Pairs,
    /// Whether an answer is wanted (KTO).
    Judgements,
}

impl Teaches {
    /// For a person.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Pairs => "preference pairs",
            Self::Judgements => "judged answers",
        }
    }
}

/// One answer in its context.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sample {
    /// A conversation, rendered through the model's chat template.
    Chat {
        /// The turns.
        messages: Vec<Message>,
        /// Functions that the assistant may call.
        tools: Option<Value>,
        /// Assistant turns to learn, where the row itself says so; else `--loss-on` decides.
        learned: Option<Vec<usize>>,
    },
    /// Two texts as they stand, without a template.
    Text {
        /// Not learned.
        prompt: String,
        /// Learned.
        completion: String,
    },
}

impl Sample {
    /// A conversation of which all turns of the assistant from turn `from` on are learned.
    pub(super) fn continued(prompt: Vec<Message>, answer: Vec<Message>, tools: Option<Value>) -> Self {
        let from = prompt.len();
        let messages: Vec<Message> = prompt.into_iter().chain(answer).collect();
        let learned = (from..messages.len()).filter(|turn| messages[*turn].role == "assistant").collect();
        Self::Chat { messages, tools, learned: Some(learned) }
    }

    /// As an external trainer reads it: a conversation with its tools, or two texts.
    pub(crate) fn wire(&self, name: &str) -> Value {
        match self {
            Self::Chat { messages, tools: None, .. } => json!({"id": name, "messages": messages}),
            Self::Chat { messages, tools, .. } => json!({"id": name, "messages": messages, "tools": tools}),
            Self::Text { prompt, completion } => {
                json!({"id": name, "prompt": prompt, "completion": completion})
            }
        }
    }

    /// The texts in it that are nobody's boilerplate: every turn but the system's.
    pub(crate) fn texts(&self) -> Vec<&str> {
        match self {
            Self::Chat { messages, .. } => messages
                .iter()
                .filter(|turn| turn.role != "system")
                .map(|turn| turn.content.as_str())
                .collect(),
            Self::Text { prompt, completion } => vec![prompt, completion],
        }
    }

    /// The last thing asked.
    pub(crate) fn question(&self) -> &str {
        match self {
            Self::Chat { messages, .. } => {
                let mut asked = messages.iter().rev().filter(|turn| turn.role == "user");
                asked.next().map_or("", |turn| &turn.content)
            }
            Self::Text { prompt, .. } => prompt,
        }
    }
}

/// What a row holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// An answer to imitate.
    Answer(Sample),
    /// A better and a worse answer.
    Pair(Sample, Sample),
    /// An answer, and whether it is wanted.
    Judged(Sample, bool),
}

impl Body {
    /// What training on it means.
    pub(crate) const fn teaches(&self) -> Teaches {
        match self {
            Self::Answer(_) => Teaches::Answers,
            Self::Pair(..) => Teaches::Pairs,
            Self::Judged(..) => Teaches::Judgements,
        }
    }

    /// Its answers, each in its context.
    pub(crate) fn samples(&self) -> Vec<&Sample> {
        match self {
            Self::Answer(sample) | Self::Judged(sample, _) => vec![sample],
            Self::Pair(chosen, rejected) => vec![chosen, rejected],
        }
    }
}

/// A row that could be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// `file:line`, with the row's id behind it if it has one.
    pub(crate) name: String,
    /// Its form.
    pub(crate) form: Form,
    /// What it holds.
    pub(crate) body: Body,
}

/// Reads a row. With `want` a row that can teach that as well does: a harvested row with its `rejected`
/// answer is a preference pair, a preference pair two judged answers.
pub(crate) fn parse(value: Value, place: &str, want: Option<Teaches>) -> Result<Vec<Row>, String> {
    let Value::Object(row) = value else { return Err("not a JSON object".into()) };
    let name = match row.get("id") {
        Some(Value::String(id)) if !id.is_empty() => format!("{place} ({id})"),
        Some(Value::Number(id)) => format!("{place} ({id})"),
        _ => place.to_owned(),
    };
    let (form, body) = read(&row, want)?;
    let bodies = match body {
        Body::Pair(chosen, rejected) if want == Some(Teaches::Judgements) => {
            vec![Body::Judged(chosen, true), Body::Judged(rejected, false)]
        }
        body => vec![body],
    };
    Ok(bodies.into_iter().map(|body| Row { name: name.clone(), form, body }).collect())
}

fn read(row: &Object, want: Option<Teaches>) -> Result<(Form, Body), String> {
    let has = |key: &str| row.get(key).is_some_and(|value| !value.is_null());
    let two = matches!(want, Some(Teaches::Pairs | Teaches::Judgements));
    if has("chosen") || has("preferred_output") {
        return Ok((Form::Preference, pair::preference(row)?));
    }
    if has("label") && (has("completion") || has("messages")) {
        return Ok((Form::Judged, pair::judged(row)?));
    }
    if has("output") || has("instruction") {
        return Ok(if has("rejected") && two {
            (Form::Preference, pair::harvested(row)?)
        } else {
            (Form::Alpaca, Body::Answer(alpaca(row)?))
        });
    }
    if has("messages") {
        return Ok((Form::Messages, Body::Answer(chat::messages(row)?)));
    }
    if has("conversations") {
        return Ok((Form::ShareGpt, Body::Answer(chat::sharegpt(row)?)));
    }
    if has("prompt") && has("completion") {
        return Ok((Form::PromptCompletion, Body::Answer(pair::prompt_completion(row)?)));
    }
    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
    Err(format!(
        "no known form: it has the keys [{}]; a row has messages, conversations, instruction and output, \
         prompt and completion, or chosen and rejected",
        keys.join(", ")
    ))
}

/// One user turn (instruction, blank line, input) and one answer.
fn alpaca(row: &Object) -> Result<Sample, String> {
    let mut messages = alpaca_prompt(row)?;
    messages.push(Message::new("assistant", required_text(row, "output")?));
    Ok(Sample::Chat { messages, tools: None, learned: None })
}

/// The conversation that an alpaca row asks to be answered.
pub(super) fn alpaca_prompt(row: &Object) -> Result<Vec<Message>, String> {
    if let Some(Value::Array(turns)) = row.get("messages").filter(|turns| *turns != &Value::Array(vec![])) {
        return Ok(chat::turns(turns, "messages")?.0);
    }
    let mut messages = Vec::new();
    if let Some(system) = text(row, "system")?.filter(|system| !system.is_empty()) {
        messages.push(Message::new("system", system));
    }
    if let Some(history) = row.get("history").filter(|history| !history.is_null()) {
        let pairs: Vec<(String, String)> = serde_json::from_value(history.clone())
            .map_err(|_| "`history` is not a list of [question, answer]".to_owned())?;
        for (question, answer) in pairs {
            messages.extend([Message::new("user", question), Message::new("assistant", answer)]);
        }
    }
    let instruction = required_text(row, "instruction")?;
    let question = match text(row, "input")?.filter(|input| !input.is_empty()) {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    };
    messages.push(Message::new("user", question));
    Ok(messages)
}

/// The text under a key; `None` when it is absent or null.
pub(super) fn text(row: &Object, key: &str) -> Result<Option<String>, String> {
    match row.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{key}` is {}, not a text", kind(other))),
    }
}

/// The text under a key that must be there.
pub(super) fn required_text(row: &Object, key: &str) -> Result<String, String> {
    text(row, key)?.ok_or_else(|| format!("`{key}` is missing"))
}

/// What a JSON value is, for a complaint.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(value: Value) -> Row {
        parse(value, "rows.jsonl:7", None).unwrap().remove(0)
    }

    fn chat_of(row: &Row) -> Vec<(String, String)> {
        let Body::Answer(Sample::Chat { messages, .. }) = &row.body else { panic!("{row:?}") };
        messages.iter().map(|turn| (turn.role.clone(), turn.content.clone())).collect()
    }

    fn turns(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn alpaca_is_one_question_and_one_answer() {
        let row = one(json!({"instruction": "Add", "input": "2 2", "output": "4", "id": 9}));
        assert_eq!((row.name.as_str(), row.form), ("rows.jsonl:7 (9)", Form::Alpaca));
        assert_eq!(chat_of(&row), turns(&[("user", "Add\n\n2 2"), ("assistant", "4")]));
        let row = one(json!({"instruction": "Add", "input": null, "output": "4", "system": "Be brief.",
                             "history": [["Hi", "Ho"]]}));
        let expected = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Ho"), ("user", "Add")];
        assert_eq!(chat_of(&row), turns(&[&expected[..], &[("assistant", "4")]].concat()));
        let row = one(json!({"instruction": "x", "output": "4",
                             "messages": [{"role": "user", "content": "the whole conversation"}]}));
        assert_eq!(chat_of(&row)[0].1, "the whole conversation");
    }

    #[test]
    fn rows_of_no_form_name_what_is_wrong() {
        let why = |value: Value| parse(value, "p", None).unwrap_err();
        assert!(why(json!([1])).contains("not a JSON object"));
        assert!(why(json!({"text": "loose"})).contains("[text]"));
        assert!(why(json!({"instruction": 7, "output": "x"})).contains("`instruction` is a number"));
        assert!(why(json!({"instruction": "x"})).contains("`output` is missing"));
        assert!(why(json!({"output": "x"})).contains("`instruction` is missing"));
        assert!(why(json!({"instruction": "x", "output": "y", "history": ["a"]})).contains("history"));
    }

    #[test]
    fn a_harvested_row_is_what_is_asked_for() {
        let harvested = json!({"instruction": "Q", "input": "", "output": "good", "rejected": "bad"});
        assert_eq!(one(harvested.clone()).body.teaches(), Teaches::Answers);
        let pair = parse(harvested.clone(), "p", Some(Teaches::Pairs)).unwrap().remove(0);
        assert_eq!((pair.form, pair.body.teaches()), (Form::Preference, Teaches::Pairs));
        let judged = parse(harvested, "p", Some(Teaches::Judgements)).unwrap();
        let labels: Vec<bool> = judged.iter().map(|row| matches!(row.body, Body::Judged(_, true))).collect();
        assert_eq!(labels, [true, false]);
    }
}
