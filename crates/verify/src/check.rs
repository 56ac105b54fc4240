//! The checks that evaluation items carry: is this answer right?

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canonical::{canonical, canonical_json, choice_letter, final_number, same_answer, stated_answer};
use crate::schema::Schema;
use crate::words::{fold, squeeze};

/// One check, as written in an evaluation set: `{"kind": "number", "tolerance": 0.01}`.
///
/// Everything is validated while it is read: an unknown kind, a field that the kind does not have, a pattern that
/// does not compile and a schema keyword that is not supported are errors that name it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// The answer has the canonical form of the reference; with `strict` the same characters, outer white space
    /// aside.
    Exact {
        /// Compare characters instead of canonical forms.
        #[serde(default)]
        strict: bool,
    },
    /// The final number of the answer equals that of the reference, exactly or within an absolute tolerance.
    Number {
        /// Largest allowed distance; 0 compares the decimal texts.
        #[serde(default)]
        tolerance: f64,
    },
    /// The answer chooses the letter of the reference.
    Choice {},
    /// The answer is JSON; where there is a reference, the same JSON whatever the order of keys.
    Json {},
    /// The answer is JSON that this schema accepts.
    JsonSchema {
        /// The schema, in the subset of [`crate::schema`].
        schema: Schema,
    },
    /// The answer contains the text (else the reference), whatever the case and white space.
    Contains {
        /// What to look for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The pattern is found in the answer (anchor it to match the whole).
    Regex {
        /// The pattern.
        pattern: Pattern,
    },
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the answer is right.
    pub right: bool,
    /// Why, in one short sentence.
    pub reason: String,
}

impl Outcome {
    fn new(right: bool, reason: impl Into<String>) -> Self {
        Self { right, reason: reason.into() }
    }
}

impl Check {
    /// Whether the check says nothing without a reference; such an item must carry one.
    pub fn needs_reference(&self) -> bool {
        matches!(
            self,
            Self::Exact { .. } | Self::Number { .. } | Self::Choice {} | Self::Contains { text: None }
        )
    }

    /// Judges an answer. An item that lacks a needed reference is never right, and the reason says so.
    pub fn run(&self, reference: Option<&str>, answer: &str) -> Outcome {
        let reference = match reference {
            None if self.needs_reference() => {
                return Outcome::new(false, "the item has no reference to compare with");
            }
            other => other,
        };
        let wanted = reference.unwrap_or_default();
        match self {
            Self::Exact { strict: true } => compare(wanted.trim(), answer.trim()),
            Self::Exact { strict: false } => canonical_equality(wanted, answer),
            Self::Number { tolerance } => number(wanted, answer, *tolerance),
            Self::Choice {} => choice(wanted, answer),
            Self::Json {} => json(reference, answer),
            Self::JsonSchema { schema } => match serde_json::from_str(unfenced(answer)) {
                Err(e) => Outcome::new(false, format!("not JSON: {e}")),
                Ok(value) => match schema.validate(&value) {
                    Ok(()) => Outcome::new(true, "JSON accepted by the schema"),
                    Err(why) => Outcome::new(false, why),
                },
            },
            Self::Contains { text } => contains(text.as_deref().unwrap_or(wanted), answer),
            Self::Regex { pattern } => {
                let found = pattern.is_match(answer);
                Outcome::new(found, if found { "the pattern is found" } else { "the pattern is not found" })
            }
        }
    }
}

/// Judges an answer; the function form of [`Check::run`].
pub fn run(check: &Check, reference: Option<&str>, answer: &str) -> Outcome {
    check.run(reference, answer)
}

/// A regular expression that is known to compile, in linear time and at most 1 MiB.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The pattern is not valid or too large; the message shows where.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        RegexBuilder::new(pattern).size_limit(1 << 20).build().map(Self)
    }

    /// Whether it is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The text it was compiled from.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text)
            .map_err(|e| serde::de::Error::custom(format!("pattern {text:?} does not compile: {e}")))
    }
}

fn compare(wanted: &str, got: &str) -> Outcome {
    if wanted == got {
        Outcome::new(true, "equal to the reference")
    } else {
        Outcome::new(false, format!("{} instead of {}", shown(got), shown(wanted)))
    }
}

fn canonical_equality(wanted: &str, answer: &str) -> Outcome {
    if same_answer(wanted, answer) {
        return Outcome::new(true, "equal to the reference");
    }
    Outcome::new(
        false,
        format!("{} instead of {}", shown(&canonical(answer).text), shown(&canonical(wanted).text)),
    )
}

fn number(wanted: &str, answer: &str, tolerance: f64) -> Outcome {
    let Some(wanted) = final_number(wanted) else {
        return Outcome::new(false, "the reference holds no number");
    };
    let Some(got) = final_number(answer) else {
        return Outcome::new(false, "the answer holds no number");
    };
    let close = || match (as_f64(&wanted), as_f64(&got)) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance,
        _ => false,
    };
    if wanted == got || tolerance > 0.0 && close() {
        Outcome::new(true, "the reference's number")
    } else {
        Outcome::new(false, format!("{} instead of {}", shown(&got), shown(&wanted)))
    }
}

/// Value of a canonical number, fractions included.
fn as_f64(number: &str) -> Option<f64> {
    match number.split_once('/') {
        Some((a, b)) => Some(a.parse::<f64>().ok()? / b.parse::<f64>().ok()?),
        None => number.parse().ok(),
    }
}

fn choice(wanted: &str, answer: &str) -> Outcome {
    let Some(wanted) = chosen(wanted) else {
        return Outcome::new(false, "the reference holds no choice letter");
    };
    match chosen(answer) {
        Some(got) if got == wanted => Outcome::new(true, "the reference's letter"),
        Some(got) => Outcome::new(false, format!("{got} instead of {wanted}")),
        None => Outcome::new(false, "the answer chooses no letter"),
    }
}

/// The letter that an answer chooses: stated, or alone, or the only bracketed capital in the text.
fn chosen(answer: &str) -> Option<char> {
    static BRACKETED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\(([A-Z])\)").expect("a constant pattern compiles"));
    let form = canonical(answer);
    if form.kind == crate::Kind::Choice {
        return form.text.chars().next();
    }
    let stated = stated_answer(answer).unwrap_or(answer);
    // "The answer is B, because ..." and "B. Paris".
    let head = stated.trim().split([' ', ',', '\n']).next().unwrap_or_default();
    let capital = head.trim_matches(['*', '_', '"']);
    if capital.starts_with(|c: char| c.is_ascii_uppercase() || c == '(')
        && (capital.len() > 1 || stated.len() == 1 || stated.starts_with(&format!("{capital},")))
        && let Some(letter) = choice_letter(capital)
    {
        return Some(letter);
    }
    let mut letters: Vec<&str> = BRACKETED.captures_iter(stated).map(|c| c.extract::<1>().1[0]).collect();
    letters.sort_unstable();
    letters.dedup();
    if let [only] = letters[..] { only.chars().next() } else { None }
}

fn json(reference: Option<&str>, answer: &str) -> Outcome {
    let answer = unfenced(answer);
    let got = match serde_json::from_str::<serde_json::Value>(answer) {
        Ok(value) => canonical_json(answer).unwrap_or_else(|| value.to_string()),
        Err(e) => return Outcome::new(false, format!("not JSON: {e}")),
    };
    match reference {
        None => Outcome::new(true, "valid JSON"),
        Some(wanted) => match canonical_json(wanted) {
            Some(wanted) => compare(&wanted, &got),
            None => compare(wanted.trim(), &got),
        },
    }
}

/// The text without a code fence around it.
fn unfenced(answer: &str) -> &str {
    crate::canonical::strip_fence(answer.trim())
}

fn contains(wanted: &str, answer: &str) -> Outcome {
    let form = |text: &str| squeeze(&fold(text));
    let wanted = form(wanted);
    if wanted.is_empty() {
        return Outcome::new(false, "nothing to look for");
    }
    let found = form(answer).contains(&wanted);
    let verb = if found { "contains" } else { "does not contain" };
    Outcome::new(found, format!("{verb} {}", shown(&wanted)))
}

/// At most 60 characters of a text, quoted.
fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}
