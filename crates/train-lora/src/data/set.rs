//! A data file as a whole: read, compared with what is sealed, rid of repeats, encoded, cut to length.
//!
//! One file may mix forms, as long as all of its rows teach the same thing; a file with preference pairs
//! among answers is refused with the lines. Every row that does not take part is named with its reason.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use nightshift_core::Failure;
use nightshift_core::config::Overlong;
use nightshift_core::jsonl::Lines;
use nightshift_model::{Chat, Example, Judged, ModelError, Preference, encode_chat, encode_text, turns_end};
use nightshift_verify::words;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::row::{Body, Row, Sample, Teaches, parse};
use super::screen::{one_purpose, repeats, unseal};
use super::{
    Dropped, Encoded, Reason, Verdict, file, fit, has_label, question_key, refuse_overlong, refuse_template,
    unlearnable,
};
use crate::args::{Contaminated, LossOn};
use crate::base::{Text, TextSource, refused};
use crate::holdout;
use crate::seals::Seals;

/// How rows become examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rules {
    /// Which turns of a conversation are learned.
    pub(crate) loss_on: LossOn,
    /// What becomes of rows that are too long.
    pub(crate) overlong: Overlong,
    /// What becomes of rows that match a sealed item.
    pub(crate) contaminated: Contaminated,
    /// Leave out rows that repeat an earlier one.
    pub(crate) dedup: bool,
    /// Longest example in tokens.
    pub(crate) max_length: usize,
}

/// What a row teaches, in tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Taught {
    /// An answer to imitate.
    Answer(Example),
    /// A better and a worse answer.
    Pair(Preference),
    /// An answer, and whether it is wanted.
    Judged(Judged),
}

impl Taught {
    /// Its answers in their context.
    pub(crate) fn examples(&self) -> Vec<&Example> {
        match self {
            Self::Answer(example) | Self::Judged(Judged { example, .. }) => vec![example],
            Self::Pair(Preference { chosen, rejected, .. }) => vec![chosen, rejected],
        }
    }
}

/// A row in tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lesson {
    /// `file:line`, with the row's id.
    pub(crate) name: String,
    /// What is asked, in one form for questions that differ in case and white space only.
    pub(crate) question: String,
    /// What it teaches.
    pub(crate) taught: Taught,
    /// The row as an external trainer reads it; null where it holds two answers.
    pub(crate) wire: Value,
}

/// A row that something is to be said about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// `file:line`, with the row's id.
    pub(crate) row: String,
    /// What.
    pub(crate) what: String,
}

/// A file in tokens.
#[derive(Debug)]
pub(crate) struct DataSet {
    /// What all rows teach.
    pub(crate) teaches: Teaches,
    /// The rows that can be learned, in file order.
    pub(crate) lessons: Vec<Lesson>,
    /// The others.
    pub(crate) dropped: Vec<Dropped>,
    /// Rows whose prompt was cut.
    pub(crate) truncated: Vec<Noted>,
    /// Rows that say the same as an earlier one, and stayed.
    pub(crate) repeated: Vec<Noted>,
    /// Rows read, by form.
    pub(crate) forms: BTreeMap<&'static str, usize>,
}

impl Lesson {
    /// As training takes it.
    pub(crate) fn into_example(self) -> Encoded {
        let Self { name, taught, .. } = self;
        match taught {
            Taught::Answer(example) => Encoded::answer(name, example),
            Taught::Pair(Preference { chosen, rejected, .. }) => {
                Encoded { name, example: chosen, verdict: Verdict::Better(rejected) }
            }
            Taught::Judged(Judged { example, desirable }) => {
                Encoded { name, example, verdict: Verdict::Wanted(desirable) }
            }
        }
    }
}

impl DataSet {
    /// Leaves out, by name, the rows that ask what another set asks.
    pub(crate) fn leave_out(&mut self, other: &Self, (reason, why): (Reason, &str)) {
        let asked: HashSet<&str> = other.lessons.iter().map(|lesson| lesson.question.as_str()).collect();
        let lessons = std::mem::take(&mut self.lessons).into_iter();
        let (twice, kept): (Vec<_>, Vec<_>) =
            lessons.partition(|lesson| asked.contains(lesson.question.as_str()));
        self.lessons = kept;
        self.dropped.extend(twice.into_iter().map(|row| Dropped::new(row.name, reason, why)));
    }

    /// Takes out the rows that belong to the held-out share.
    pub(crate) fn hold_out(&mut self, share: f64) -> Vec<Lesson> {
        let (held, kept) = std::mem::take(&mut self.lessons)
            .into_iter()
            .partition(|lesson| holdout::holds_key(&lesson.question, share));
        self.lessons = kept;
        held
    }

    /// The rows as training takes them.
    pub(crate) fn into_examples(self) -> Vec<Encoded> {
        examples(self.lessons)
    }

    /// What rows were left out, cut or repeated, one sentence each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let dropped = self.dropped.iter();
        let dropped =
            dropped.map(|row| format!("left out ({}): {}: {}", row.reason.name(), row.row, row.why));
        let truncated = self.truncated.iter().map(|row| format!("cut: {}: {}", row.row, row.what));
        let repeated = self.repeated.iter().map(|row| format!("repeated: {}: {}", row.row, row.what));
        dropped.chain(truncated).chain(repeated).collect()
    }

    /// Exit 3 when nothing is left.
    pub(crate) fn not_empty(&self, path: &Path) -> Result<(), Failure> {
        if !self.lessons.is_empty() {
            return Ok(());
        }
        let path = path.display();
        if self.dropped.is_empty() {
            return Err(Failure::nothing(format!("{path} is empty")).hint(
                "write one JSON object a line, for example {\"prompt\": \"...\", \"completion\": \"...\"}",
            ));
        }
        Err(Failure::nothing(format!("{path} holds no row that can be learned"))
            .hint("see the rows that were left out, above"))
    }
}

/// Lessons as training takes them.
pub(crate) fn examples(lessons: Vec<Lesson>) -> Vec<Encoded> {
    lessons.into_iter().map(Lesson::into_example).collect()
}

/// The rows of a file.
struct ReadRows {
    /// In file order.
    rows: Vec<Row>,
    /// Lines that are no rows.
    dropped: Vec<Dropped>,
}

/// The questions of a file to compare with, each with its name: evaluation items, rows of any form, and rows
/// that hold nothing but a question.
pub(crate) fn questions(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let Lines { rows, bad } = file::read(path)?;
    let refused = |place: String, why: &str| {
        let message = format!("{place}: {why}: it cannot be compared with");
        Failure::refused(message).hint("correct the line, or leave it out")
    };
    if let Some(bad) = bad.first() {
        return Err(refused(format!("{}:{}", path.display(), bad.line), &bad.why));
    }
    let mut questions = Vec::with_capacity(rows.len());
    for (line, value) in rows {
        let place = format!("{}:{line}", path.display());
        let mut bare = ["question", "prompt", "instruction", "query", "text"].into_iter();
        let bare = bare.find_map(|key| value.get(key)?.as_str().map(str::to_owned));
        match (parse(value, &place, None), bare) {
            (Ok(rows), _) => {
                let asked =
                    |row: &Row| Some((row.name.clone(), row.body.samples().first()?.question().to_owned()));
                questions.extend(rows.first().and_then(asked));
            }
            (Err(_), Some(question)) => questions.push((place, question)),
            (Err(why), None) => return Err(refused(place, &why)),
        }
    }
    Ok(questions)
}

/// Reads the rows of a file. With `want` rows that can teach that do.
fn read_rows(path: &Path, want: Option<Teaches>) -> Result<ReadRows, Failure> {
    let Lines { rows: lines, bad } = file::read(path)?;
    let mut rows = Vec::with_capacity(lines.len());
    let mut dropped: Vec<(usize, Dropped)> = bad.into_iter().map(|bad| (bad.line, bad.into())).collect();
    for (line, value) in lines {
        let place = format!("{}:{line}", path.display());
        match parse(value, &place, want) {
            Ok(parsed) => rows.extend(parsed),
            Err(why) => dropped.push((line, Dropped::new(place, Reason::BadLine, why))),
        }
    }
    dropped.sort_by_key(|(line, _)| *line);
    Ok(ReadRows { rows, dropped: dropped.into_iter().map(|(_, row)| row).collect() })
}

/// Reads a file and turns its rows into examples.
///
/// # Errors
/// Exit 4 for a file of mixed purposes, for rows that match a sealed item and rows that are too long where
/// the rules say so, and for a template that is missing or cannot be trained on.
pub(crate) fn load(
    path: &Path,
    text: TextSource<'_>,
    rules: Rules,
    want: Option<Teaches>,
    seals: &Seals,
) -> Result<DataSet, Failure> {
    let ReadRows { mut rows, mut dropped } = read_rows(path, want)?;
    let teaches = one_purpose(&rows, path)?.or(want).unwrap_or(Teaches::Answers);
    let mut forms = BTreeMap::new();
    for row in &rows {
        *forms.entry(row.form.name()).or_default() += 1;
    }
    unseal(&mut rows, seals, rules.contaminated, &mut dropped)?;
    let repeated = repeats(&mut rows, rules.dedup, &mut dropped);
    let chats = rows.iter().any(|row| row.body.samples().iter().any(|s| matches!(s, Sample::Chat { .. })));
    let text = text.open(chats)?;
    check_template(&text, &rows, rules.loss_on)?;
    // Rows do not know of each other: every core takes some, and they come back in order.
    let fitted: Vec<Result<(Lesson, Option<Noted>), Dropped>> =
        rows.par_iter().map(|row| lesson(&text, row, rules)).collect();
    refuse_template(&fitted)?;
    let (mut lessons, mut truncated) = (Vec::with_capacity(fitted.len()), Vec::new());
    for row in fitted {
        match row {
            Ok((row, cut)) => {
                lessons.push(row);
                truncated.extend(cut);
            }
            Err(row) => dropped.push(row),
        }
    }
    refuse_overlong(&dropped, rules.overlong)?;
    Ok(DataSet { teaches, lessons, dropped, truncated, repeated, forms })
}

/// Refuses a template that cannot show where an earlier answer ends, when one is to be learned.
fn check_template(text: &Text, rows: &[Row], loss_on: LossOn) -> Result<(), Failure> {
    let several = |sample: &&Sample| learned(sample, loss_on).len() > 1;
    if !rows.iter().any(|row| row.body.samples().iter().any(several)) {
        return Ok(());
    }
    let template = text.template().map_err(refused)?;
    turns_end(&text.tokenizer, template)
        .map_err(|error| refused(error).hint("choose --loss-on last-answer, or another --chat-template"))
}

/// The turns of a conversation that are learned.
fn learned(sample: &Sample, loss_on: LossOn) -> Vec<usize> {
    let Sample::Chat { messages, learned, .. } = sample else { return Vec::new() };
    match (learned, loss_on) {
        (Some(learned), _) => learned.clone(),
        (None, LossOn::LastAnswer) => messages.len().checked_sub(1).into_iter().collect(),
        (None, LossOn::AllAnswers) => {
            (0..messages.len()).filter(|turn| messages[*turn].role == "assistant").collect()
        }
    }
}

/// A row in tokens, cut to length; what was cut.
fn lesson(text: &Text, row: &Row, rules: Rules) -> Result<(Lesson, Option<Noted>), Dropped> {
    let encode = |sample: &Sample| encode(text, sample, rules.loss_on);
    let taught = match &row.body {
        Body::Answer(sample) => encode(sample).map(Taught::Answer),
        Body::Judged(sample, desirable) => {
            encode(sample).map(|example| Taught::Judged(Judged { example, desirable: *desirable }))
        }
        Body::Pair(chosen, rejected) => {
            encode(chosen).and_then(|chosen| Preference::new(chosen, encode(rejected)?)).map(Taught::Pair)
        }
    };
    let mut taught = taught.map_err(|error| unlearnable(&row.name, &error))?;
    let cut = fit_in(text, &row.name, &mut taught, (rules.max_length, rules.overlong))?;
    let wire = match &row.body {
        Body::Answer(sample) | Body::Judged(sample, _) => sample.wire(&row.name),
        Body::Pair(..) => Value::Null,
    };
    Ok((Lesson { name: row.name.clone(), question: question(&row.body), taught, wire }, cut))
}

/// Cuts what is too long down to the limit, where that is the policy; what was cut. Refuses by name what
/// does not fit, and what has no label left.
pub(super) fn fit_in(
    text: &Text,
    name: &str,
    taught: &mut Taught,
    (max_length, overlong): (usize, Overlong),
) -> Result<Option<Noted>, Dropped> {
    let (limit, what) = text.limit(max_length);
    let longest = taught.examples().iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    let mut noted = None;
    if longest > limit {
        let long = format!("{longest} tokens, {what} is {limit}");
        let too_long = |why| Dropped::new(name, Reason::TooLong, why);
        if overlong != Overlong::Truncate {
            return Err(too_long(long));
        }
        let opening = text.tokenizer.encode_text("").map_err(|error| unlearnable(name, &error))?;
        let cut = match taught {
            Taught::Answer(example) | Taught::Judged(Judged { example, .. }) => {
                Ok(fit::cut(example, limit, &opening))
            }
            Taught::Pair(pair) => fit::cut_pair(pair, limit, &opening),
        };
        let cut = cut.map_err(|error| unlearnable(name, &error))?;
        let cut = cut.ok_or_else(|| too_long(format!("{long}, and the answer alone fills it")))?;
        noted = Some(Noted { row: name.to_owned(), what: format!("{cut} tokens of the prompt ({long})") });
    }
    for example in taught.examples() {
        has_label(name, example)?;
    }
    Ok(noted)
}

/// What a row asks: everything before the last turn, or the prompt.
fn question(body: &Body) -> String {
    match body.samples().first() {
        Some(Sample::Chat { messages, .. }) => question_key(messages),
        Some(Sample::Text { prompt, .. }) => words::squeeze(&words::fold(prompt)),
        None => String::new(),
    }
}

fn encode(text: &Text, sample: &Sample, loss_on: LossOn) -> Result<Example, ModelError> {
    match sample {
        Sample::Text { prompt, completion } => encode_text(&text.tokenizer, prompt, completion),
        Sample::Chat { messages, tools, .. } => {
            let chat = Chat { messages, tools: tools.as_ref() };
            encode_chat(&text.tokenizer, text.template()?, chat, &learned(sample, loss_on))
        }
    }
}
