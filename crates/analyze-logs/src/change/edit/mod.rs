//! One value of a config text changed, every other byte left alone.
//!
//! A format's module finds the bytes to replace; what comes out is read again and must be the text's meaning
//! with this one value changed, else the edit is refused. So a mistake of a parser costs an edit, never a config.

mod json;
mod toml;
mod tree;
mod yaml;

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::path::KeyPath;

pub use tree::{Tree, contains, lookup, same, to_json};

/// Largest config that is edited.
const MAX_BYTES: usize = 4 << 20;

/// How a config is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.toml`.
    Toml,
    /// `.json`.
    Json,
}

impl Format {
    /// By the ending of the file's name.
    pub fn of(path: &Path) -> Result<Self, EditError> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("toml") => Ok(Self::Toml),
            Some("json") => Ok(Self::Json),
            _ => Err(EditError::Format(path.display().to_string())),
        }
    }

    /// What a text means: its documents (one, but for YAML).
    pub fn documents(self, text: &str) -> Result<Vec<Tree>, EditError> {
        if text.len() > MAX_BYTES {
            return Err(EditError::Unreadable(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
        }
        match self {
            Self::Yaml => tree::of_yaml(text),
            Self::Toml => toml::tree(text).map(|tree| vec![tree]),
            Self::Json => json::tree(text).map(|tree| vec![tree]),
        }
    }
}

/// What is done to the value at a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// It gets another value.
    Set(Value),
    /// It gets a value where it had none; missing keys above it are made.
    Insert(Value),
    /// The list gets one more item at its end.
    Append(Value),
    /// The key goes, and may take the keys above it along in which nothing else is left: undoes `Insert`.
    Remove,
    /// The list loses this item: undoes `Append`.
    Take(Value),
}

/// Why an edit is refused.
#[derive(Debug, Error)]
pub enum EditError {
    /// No known ending.
    #[error("{0} is not a .yaml, .yml, .toml or .json file")]
    Format(String),
    /// Not a text of the format.
    #[error("the config cannot be read: {0}")]
    Unreadable(String),
    /// The path leads nowhere.
    #[error("there is no {0} in the config")]
    Missing(KeyPath),
    /// Several documents have it.
    #[error("{0} is in several documents of the file")]
    Ambiguous(KeyPath),
    /// A form that is not edited.
    #[error("{path} cannot be edited: {why}")]
    Unsupported {
        /// Which key.
        path: KeyPath,
        /// What is in the way.
        why: String,
    },
    /// The text after the edit does not mean what it should.
    #[error("editing {0} would change more than this key: {1}")]
    NotAlone(KeyPath, String),
}

/// An edited text.
#[derive(Debug)]
pub struct Edited {
    /// The whole of it.
    pub text: String,
    /// The value before, if there was one.
    pub before: Option<Value>,
    /// The value after, if there is one.
    pub after: Option<Value>,
    /// The bytes that went and those that came.
    pub raw: (String, String),
}

/// Bytes to replace.
#[derive(Debug)]
struct Splice {
    at: Range<usize>,
    with: String,
}

impl Splice {
    fn insert(at: usize, with: String) -> Self {
        Self { at: at..at, with }
    }
}

/// Edits the value at `path`. `raw` are the bytes of an edit that is undone: what it took and what it brought.
pub fn edit(
    format: Format,
    text: &str,
    path: &KeyPath,
    edit: &Edit,
    raw: Option<&(String, String)>,
) -> Result<Edited, EditError> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let before = format.documents(body)?;
    let document = tree::document_of(&before, path, edit)?;
    let expected = tree::expected(&before, document, path, edit)?;
    let splices = match format {
        Format::Yaml => yaml::splices(body, document, path, edit, raw),
        Format::Toml => toml::splices(body, path, edit, raw),
        Format::Json => json::splices(body, path, edit, raw),
    }?;
    let mut wrong = String::new();
    // The first that means the right thing; there is more than one only where the old bytes may not fit any more.
    for splice in splices {
        let changed = format!("{}{}{}", &body[..splice.at.start], splice.with, &body[splice.at.end..]);
        match format.documents(&changed) {
            Ok(after) if expected.iter().any(|expected| same(expected, &after)) => {
                let value = |tree: &[Tree]| lookup(&tree[document], path).map(to_json);
                return Ok(Edited {
                    before: value(&before),
                    after: value(&after),
                    raw: (body[splice.at].to_owned(), splice.with),
                    text: format!("{mark}{changed}"),
                });
            }
            Ok(_) => {
                wrong =
                    "another value would change with it (an alias, or a form that is not understood)".into();
            }
            Err(error) => wrong = error.to_string(),
        }
    }
    Err(EditError::NotAlone(path.clone(), wrong))
}

/// Takes back a value that was set at `at`: the bytes that it brought go, the old ones come.
fn put_back(text: &str, at: &Range<usize>, raw: &(String, String)) -> Splice {
    let brought = find_raw(text, &raw.1, at.start).filter(|found| found.end == at.end);
    Splice { at: brought.unwrap_or_else(|| at.clone()), with: raw.0.clone() }
}

/// Where the bytes that an edit brought stand, around the byte `inside` of the text.
fn find_raw(text: &str, raw: &str, inside: usize) -> Option<Range<usize>> {
    if raw.is_empty() {
        return None;
    }
    let mut from = inside.saturating_sub(raw.len());
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let found = text[from..].match_indices(raw).map(|(at, _)| from + at..from + at + raw.len());
    found.take_while(|range| range.start <= inside).find(|range| range.contains(&inside))
}

/// The line ending that the text uses.
fn line_ending(text: &str) -> &'static str {
    let first = text.find('\n').unwrap_or(0);
    if first > 0 && text.as_bytes()[first - 1] == b'\r' { "\r\n" } else { "\n" }
}

/// Where the line of a byte begins.
fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line of a byte ends, before its line ending.
fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    if end > at && text.as_bytes()[end - 1] == b'\r' && end < text.len() { end - 1 } else { end }
}
