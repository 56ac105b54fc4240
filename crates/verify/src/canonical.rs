//! One canonical form for closed-form answers, so that two answers can be compared by equality.
//!
//! The rule is conservative: two answers that this module calls the same are the same answer; two that it calls
//! different may still mean the same ("12 km" and "12000 m"), and the harvest then abstains.

mod number;

pub use number::final_number;

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::words::{fold, squeeze};

/// What kind of answer a canonical form is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing was said.
    Empty,
    /// A number without a unit: digits, no separators, no trailing zeros; `a/b` in lowest terms when the
    /// decimal form does not end.
    Number,
    /// A number and its unit, one space between them. "50 %" is a quantity.
    Quantity,
    /// A multiple-choice letter, upper case.
    Choice,
    /// A JSON object or array, keys sorted, no white space.
    Json,
    /// Short items between commas, semicolons, tabs or line ends; the order counts.
    List,
    /// Anything else: NFKC, lower case, white space collapsed, outer quotes and final punctuation gone.
    Text,
}

/// An answer in canonical form. Equal values are the same answer, except that an empty answer is never the same
/// as anything ([`same_answer`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Canonical {
    /// Its kind.
    pub kind: Kind,
    /// Its text in the form that the kind prescribes.
    pub text: String,
}

/// Longest text, in words, that still counts as one value.
const CLOSED_WORDS: usize = 8;
/// Longest list or JSON text, in characters, that still counts as closed-form.
const CLOSED_CHARS: usize = 2_000;
/// Most fields in one line of a list.
const LIST_FIELDS: usize = 40;
/// Most words in one field of a list.
const FIELD_WORDS: usize = 4;

/// Brings an answer into canonical form.
///
/// A final answer that the text states itself is used alone: after `####`, in `\boxed{}`, after "the answer is" or
/// "answer:" (the last one wins). A code fence around the whole answer is taken off.
pub fn canonical(answer: &str) -> Canonical {
    let whole = strip_fence(answer.trim());
    if let Some(json) = canonical_json(whole) {
        return Canonical { kind: Kind::Json, text: json };
    }
    match stated_answer(whole) {
        Some(stated) => canonical_value(stated),
        None => canonical_value(whole),
    }
}

/// Whether two answers have the same canonical form. Empty answers agree with nothing.
pub fn same_answer(a: &str, b: &str) -> bool {
    let (a, b) = (canonical(a), canonical(b));
    a.kind != Kind::Empty && a == b
}

/// Whether agreement between two such answers means something: a single value, a short list or JSON.
///
/// Long prose is open-ended. So is a short text when the question asks for something that has many right answers
/// (an explanation, a story, code, an opinion); numbers, choices, lists and JSON stay closed even then.
pub fn is_closed_form(answer: &Canonical, question: Option<&str>) -> bool {
    match answer.kind {
        Kind::Empty => false,
        Kind::Number | Kind::Quantity | Kind::Choice => true,
        Kind::Json | Kind::List => answer.text.len() <= CLOSED_CHARS,
        Kind::Text => {
            let short = answer.text.split(' ').count() <= CLOSED_WORDS;
            short && !question.is_some_and(asks_open_ended)
        }
    }
}

/// Canonical text of a JSON object or array (objects with sorted keys, numbers without trailing zeros, strings
/// as they are); `None` for anything else, bare numbers and strings included.
pub fn canonical_json(text: &str) -> Option<String> {
    let text = text.trim();
    if !(text.starts_with('{') && text.ends_with('}') || text.starts_with('[') && text.ends_with(']')) {
        return None;
    }
    serde_json::from_str::<Value>(text).ok().map(|v| sorted_json(&v))
}

/// The final answer that a text states about itself, without surrounding space.
pub fn stated_answer(text: &str) -> Option<&str> {
    static MARKER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?im)####[ \t]*|^[ \t]*a:[ \t]*|\b(?:the[ \t]+)?(?:(?:final|correct|right)[ \t]+)?answer(?:[ \t]+is\b[ \t]*:?|[ \t]*:|[ \t]*=)[ \t*]*",
        )
        .expect("a constant pattern compiles")
    });
    if let Some(boxed) = boxed_answer(text) {
        return Some(boxed);
    }
    let marker = MARKER.find_iter(text).last()?;
    let rest = text[marker.end()..].trim();
    if canonical_json(strip_fence(rest)).is_some() {
        return Some(strip_fence(rest));
    }
    let line = rest.lines().next().unwrap_or_default();
    // "The answer is 18. This is because ..." states 18.
    let sentence = line.find(". ").map_or(line, |end| &line[..end]);
    let sentence = sentence.trim();
    (!sentence.is_empty()).then_some(sentence)
}

/// The content of the last `\boxed{...}`, braces balanced.
fn boxed_answer(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let start = text.rfind(OPEN)? + OPEN.len();
    let mut depth = 1_u32;
    for (at, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(text[start..start + at].trim());
        }
    }
    None
}

/// Takes off a code fence that encloses the whole text.
pub(crate) fn strip_fence(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|t| t.strip_suffix("```"));
    match inner {
        // The first line names the language. A fence that opens again inside is not one fence.
        Some(inner) if !inner.contains("```") => {
            inner.split_once('\n').map_or(inner, |(_language, body)| body).trim()
        }
        _ => text,
    }
}

fn canonical_value(value: &str) -> Canonical {
    if let Some(json) = canonical_json(value) {
        return Canonical { kind: Kind::Json, text: json };
    }
    let plain: String = value.nfkc().collect();
    let plain = undecorate(plain.trim());
    let (kind, text) = if plain.is_empty() {
        (Kind::Empty, String::new())
    } else if let Some(letter) = choice_letter(plain) {
        (Kind::Choice, letter.to_string())
    } else if let Some(number) = number::whole_number(plain) {
        (Kind::Number, number)
    } else if let Some(quantity) = number::whole_quantity(plain) {
        (Kind::Quantity, quantity)
    } else if let Some(list) = canonical_list(plain) {
        (Kind::List, list)
    } else {
        (Kind::Text, squeeze(&fold(plain)))
    };
    Canonical { kind, text }
}

/// Takes off outer quotes, emphasis and final punctuation, as often as there are any.
fn undecorate(mut text: &str) -> &str {
    const PAIRS: [(&str, &str); 11] = [
        ("**", "**"),
        ("__", "__"),
        ("\"", "\""),
        ("'", "'"),
        ("`", "`"),
        ("*", "*"),
        ("_", "_"),
        ("\u{201c}", "\u{201d}"),
        ("\u{2018}", "\u{2019}"),
        ("\u{ab}", "\u{bb}"),
        ("\u{300c}", "\u{300d}"),
    ];
    loop {
        let before = text;
        text = text.trim().trim_end_matches(['.', '!', ';', '\u{3002}']).trim_end();
        for (open, close) in PAIRS {
            if let Some(inner) = text.strip_prefix(open).and_then(|t| t.strip_suffix(close)) {
                // `"a", "b"` is two quoted things, not one.
                if !inner.contains(open) && !inner.contains(close) {
                    text = inner;
                }
            }
        }
        if text == before {
            return text;
        }
    }
}

/// "B", "(b)", "B.", "Option B", "(B) Paris" and "B) Paris".
pub(crate) fn choice_letter(text: &str) -> Option<char> {
    static CHOICE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:(?i:option|choice)\s+)?[(\[]?([A-Za-z])[)\].:]?$|^(?:\(([A-Za-z])\)|([A-Z])\))\s+\S")
            .expect("a constant pattern compiles")
    });
    let found = CHOICE.captures(text)?;
    let letter = found.iter().skip(1).flatten().next()?;
    letter.as_str().chars().next().map(|c| c.to_ascii_uppercase())
}

/// One line of fields, or several lines of equally many; every field short. `None` for prose.
fn canonical_list(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(unbullet).filter(|l| !l.is_empty()).collect();
    // A tab separates columns of a table; in a single line it is white space.
    let known: &[char] = if lines.len() > 1 { &[',', ';', '\t'] } else { &[',', ';'] };
    let delimiter = known.iter().copied().find(|d| lines.iter().all(|l| l.contains(*d)));
    if delimiter.is_none() && lines.len() < 2 {
        return None;
    }
    let rows: Vec<Vec<String>> = lines.iter().map(|line| fields(line, delimiter)).collect();
    let width = rows.first()?.len();
    let short = |field: &String| !field.is_empty() && field.split(' ').count() <= FIELD_WORDS;
    let regular = rows.iter().all(|row| row.len() == width && row.iter().all(short));
    if !regular || width > LIST_FIELDS {
        return None;
    }
    Some(rows.iter().map(|row| row.join(",")).collect::<Vec<_>>().join("\n"))
}

fn unbullet(line: &str) -> &str {
    let line = line.trim();
    ["- ", "* ", "\u{2022} "].iter().find_map(|b| line.strip_prefix(b)).unwrap_or(line).trim()
}

/// Splits at the delimiter outside of double quotes and brings each field into its own canonical text.
fn fields(line: &str, delimiter: Option<char>) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        quoted ^= c == '"';
        if Some(c) == delimiter && !quoted {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
        .iter()
        .map(|part| {
            let part = undecorate(part.trim());
            number::whole_number(part).unwrap_or_else(|| squeeze(&fold(part)))
        })
        .collect()
}

fn sorted_json(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let inner: Vec<String> = entries
                .into_iter()
                .map(|(key, v)| format!("{}:{}", Value::String(key.clone()), sorted_json(v)))
                .collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => {
            let inner: Vec<String> = items.iter().map(sorted_json).collect();
            format!("[{}]", inner.join(","))
        }
        Value::Number(n) => number::whole_number(&n.to_string()).unwrap_or_else(|| n.to_string()),
        other => other.to_string(),
    }
}

/// Whether a question asks for something with many right answers. English only; other languages count as
/// closed, which leaves the length of the answer to decide.
fn asks_open_ended(question: &str) -> bool {
    static OPEN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\b(?:why|explain|describe|discuss|essay|story|poem|haiku|joke|slogan|summari[sz]e|brainstorm|ideas?\s+for|suggest|recommend|your\s+opinion|what\s+do\s+you\s+think|how\s+(?:do|can|should|would)\s+(?:i|you|we)|(?:write|draft|compose|implement)\s+(?:me\s+)?(?:an?|the|some|code)\b)",
        )
        .expect("a constant pattern compiles")
    });
    OPEN.is_match(question)
}
