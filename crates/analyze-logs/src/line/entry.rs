//! From the raw values of a line to an entry: what ran, when, how long, at what cost, how it ended.

use std::borrow::Cow;
use std::collections::HashMap;

use super::roles::{Fields, Role};
use super::time::Stamps;
use super::values::{duration_us, fixed, text, truth};
use super::words::{Meaning, level_fails, outcome, plain_outcome};
use super::{Entry, Hashing, Kind};
use crate::templates::is_timeout;

/// Most words whose meaning is remembered.
const MOST_WORDS: usize = 4096;
/// Longest one that is, in bytes.
const LONGEST_WORD: usize = 64;

/// Interprets raw values; remembers what it has worked out.
#[derive(Debug)]
pub(super) struct Interpreter {
    stamps: Stamps,
    own_words: Vec<(String, Kind)>,
    words: HashMap<Box<[u8]>, Meaning, Hashing>,
    /// Which short texts tell of a time-out.
    timeouts: HashMap<Box<[u8]>, bool, Hashing>,
}

impl Interpreter {
    pub(super) fn new(stamps: Stamps, own_words: Vec<(String, Kind)>) -> Self {
        Self { stamps, own_words, words: HashMap::default(), timeouts: HashMap::default() }
    }

    /// The entry, and whether a stamp was there that could not be read.
    pub(super) fn entry<'a>(&mut self, fields: &Fields<'a>) -> (Entry<'a>, bool) {
        let mut meaning = Meaning::default();
        for role in [Role::Operation, Role::Event] {
            if let Some(raw) = fields.get(role) {
                let word = self.word(raw);
                meaning.starts |= word.starts;
                meaning.fails |= word.fails;
                meaning.kind = meaning.kind.or(word.kind);
            }
        }
        let start = fields.get(Role::Start).map(|raw| self.stamps.read(raw));
        let end = fields.get(Role::End).map(|raw| self.stamps.read(raw));
        let stamp = fields.get(Role::Time).map(|raw| self.stamps.read(raw));
        let at = stamp.flatten().or(start.flatten()).or(end.flatten());
        let bad_time = at.is_none() && (stamp.is_some() || start.is_some() || end.is_some());
        let duration = fields.measure(Role::Duration).and_then(|(raw, unit)| duration_us(raw, unit));
        let duration_us =
            duration.or_else(|| u64::try_from(end.flatten()?.checked_sub(start.flatten()?)?).ok());
        let cost_nano = fields.measure(Role::Cost).and_then(|(raw, unit)| fixed(raw, 9 + i32::from(unit)));
        let mut entry = Entry {
            at,
            kind: meaning.kind.or_else(|| presence(fields, duration_us.is_some(), cost_nano.is_some())),
            duration_us,
            cost_nano,
            ..Entry::default()
        };
        let Some(kind) = entry.kind else {
            // No call, yet its error may be one of many.
            self.failure(fields, meaning, &mut entry);
            return (entry, bad_time);
        };
        entry.name = name(fields, kind);
        // A request without a length or an end is the first half of a pair: its other half counts.
        let ends = duration_us.is_some() || fields.get(Role::Success).is_some() || meaning.fails;
        entry.starts = meaning.starts && !ends;
        entry.task = fields.get(Role::Task).filter(|_| kind != Kind::Task).map(text);
        entry.group =
            [Role::TaskId, Role::Session, Role::Trace].into_iter().find_map(|role| fields.get(role));
        entry.params = fields.get(Role::Params);
        entry.prompt_tokens = tokens(fields, Role::PromptTokens);
        entry.completion_tokens = tokens(fields, Role::CompletionTokens);
        if !entry.starts {
            self.failure(fields, meaning, &mut entry);
        }
        (entry, bad_time)
    }

    fn word(&mut self, raw: &[u8]) -> Meaning {
        if let Some(meaning) = self.words.get(raw) {
            return *meaning;
        }
        let meaning = Meaning::of(&text(raw), &self.own_words);
        if self.words.len() < MOST_WORDS && raw.len() <= LONGEST_WORD {
            self.words.insert(raw.into(), meaning);
        }
        meaning
    }

    /// Fills in how the entry ended: what says it outright counts before what only hints at it.
    fn failure<'a>(&mut self, fields: &Fields<'a>, meaning: Meaning, entry: &mut Entry<'a>) {
        let error =
            fields.get(Role::Error).filter(|raw| !matches!(*raw, b"\"\"" | b"{}" | b"[]" | b"false" | b"0"));
        let error_type = fields.get(Role::ErrorType).filter(|raw| !matches!(*raw, b"\"\"" | b"0" | b"{}"));
        let status = fields.get(Role::Status);
        let http = fields.get(Role::HttpStatus).and_then(|raw| fixed(raw, 0));
        // A bare `timeout: true` is an outcome; a number there is a setting.
        let timed_out = fields.get(Role::TimedOut) == Some(b"true");
        let said = fields
            .get(Role::Success)
            .and_then(truth)
            .or_else(|| status.and_then(status_outcome))
            .or_else(|| fields.get(Role::HttpStatus).and_then(status_outcome));
        entry.failed = timed_out
            || meaning.fails
            || said.map_or_else(
                || {
                    error.is_some()
                        || error_type.is_some()
                        || fields.get(Role::Level).is_some_and(|raw| level_fails(&text(raw)))
                },
                |well| !well,
            );
        if !entry.failed {
            return;
        }
        entry.error_type = error_type.map(text);
        let plain = |raw: &'a [u8]| (raw != b"true").then(|| text(raw));
        entry.error = error.and_then(plain).or_else(|| {
            let told = |role| fields.get(role).filter(|raw| raw.first() == Some(&b'"')).map(text);
            let event = fields.get(Role::Event).is_some() && meaning.kind.is_none();
            told(Role::Message).or_else(|| if event { told(Role::Event) } else { None })
        });
        entry.timed_out = timed_out
            || matches!(http, Some(408 | 504))
            || entry.error.as_ref().is_some_and(|text| self.tells_of_timeout(text.as_bytes()))
            || entry.error_type.as_ref().is_some_and(|text| self.tells_of_timeout(text.as_bytes()))
            || [status, fields.get(Role::Event)]
                .into_iter()
                .flatten()
                .any(|text| self.tells_of_timeout(text));
    }

    fn tells_of_timeout(&mut self, text: &[u8]) -> bool {
        if let Some(tells) = self.timeouts.get(text) {
            return *tells;
        }
        let tells = is_timeout(text);
        if self.timeouts.len() < MOST_WORDS && text.len() <= LONGEST_WORD {
            self.timeouts.insert(text.into(), tells);
        }
        tells
    }
}

/// The kind of a line whose event says nothing: what it names, if it tells how that went.
fn presence(fields: &Fields<'_>, timed: bool, priced: bool) -> Option<Kind> {
    let has = |role| fields.get(role).is_some();
    let ended = timed || has(Role::Success) || has(Role::Status) || has(Role::Error) || has(Role::ErrorType);
    if has(Role::Tool) && ended {
        Some(Kind::Tool)
    } else if has(Role::Model) && (timed || priced || has(Role::PromptTokens) || has(Role::CompletionTokens))
    {
        Some(Kind::Llm)
    } else if has(Role::Task) && ended {
        Some(Kind::Task)
    } else {
        None
    }
}

fn name<'a>(fields: &Fields<'a>, kind: Kind) -> Cow<'a, str> {
    let (role, prefix) = match kind {
        Kind::Tool => (Role::Tool, "execute_tool "),
        Kind::Llm => (Role::Model, "chat "),
        Kind::Task => (Role::Task, "invoke_agent "),
    };
    let plain = |role| fields.get(role).filter(|raw| raw.first() == Some(&b'"')).map(text);
    match plain(role).or_else(|| plain(Role::Name)) {
        Some(Cow::Borrowed(name)) => Cow::Borrowed(name.strip_prefix(prefix).unwrap_or(name)),
        Some(Cow::Owned(name)) => Cow::Owned(name.strip_prefix(prefix).unwrap_or(&name).to_owned()),
        None => Cow::Borrowed("unknown"),
    }
}

fn tokens(fields: &Fields<'_>, role: Role) -> u32 {
    fields.get(role).and_then(|raw| u32::try_from(fixed(raw, 0)?).ok()).unwrap_or(0)
}

/// Words, HTTP codes (from 100) and OpenTelemetry's codes (1 well, 2 failed).
fn status_outcome(raw: &[u8]) -> Option<bool> {
    if let [b'"', word @ .., b'"'] = raw
        && let Some(well) = plain_outcome(word)
    {
        return Some(well);
    }
    match fixed(raw, 0) {
        Some(code @ 100..=999) => Some(code < 400),
        Some(2) => Some(false),
        Some(1) => Some(true),
        Some(_) => None,
        None if raw.first() == Some(&b'"') => outcome(&text(raw)),
        None => truth(raw),
    }
}
