//! Where the bytes of a YAML value are, by the lossless tree of yaml-edit.
//!
//! Its own setters lose quotes and tags of some values, so the tree says where and the bytes are ours.

use std::str::FromStr;

use serde_json::Value;
use yaml_edit::{Document, Mapping, MappingEntry, Sequence, YamlFile, YamlNode};

use super::{Edit, EditError, Splice, find_raw, line_end, line_ending, line_start, put_back};
use crate::change::path::KeyPath;

/// The ways to make an edit, the best first.
pub(super) fn splices(
    text: &str,
    document: usize,
    path: &KeyPath,
    edit: &Edit,
    raw: Option<&(String, String)>,
) -> Result<Vec<Splice>, EditError> {
    let file = YamlFile::from_str(text).map_err(|error| EditError::Unreadable(error.to_string()))?;
    let document = file.documents().nth(document).ok_or_else(|| EditError::Missing(path.clone()))?;
    let place = Place::find(text, &document, path)?;
    let refused = |why: &str| EditError::Unsupported { path: path.clone(), why: why.into() };
    let splice = match edit {
        Edit::Set(value) => {
            let at = place.value_range().ok_or_else(|| EditError::Missing(path.clone()))?;
            if place.value.as_ref().is_some_and(YamlNode::is_alias) && raw.is_none() {
                // An alias is replaced by a value of its own; what it stood for stays as it is.
                return Ok(vec![Splice { at, with: scalar(value, "", "\n", 0) }]);
            }
            let old = &text[at.clone()];
            let indent = place.entry.as_ref().map_or(0, |entry| column(text, start(entry)));
            let space = if old.is_empty() { " " } else { "" };
            let with = format!("{space}{}", scalar(value, old, line_ending(text), indent));
            let undone = raw.map(|raw| put_back(text, &at, raw));
            return Ok(undone.into_iter().chain([Splice { at, with }]).collect());
        }
        Edit::Insert(value) => {
            place.insert(path, value).ok_or_else(|| refused("the key above it is no mapping"))?
        }
        Edit::Append(item) => place.append(item).ok_or_else(|| refused("it is no list with items"))?,
        Edit::Remove => {
            let entry = place.entry.as_ref().ok_or_else(|| EditError::Missing(path.clone()))?;
            let brought = raw.and_then(|(_, brought)| find_raw(text, brought, start(entry)));
            let brought = brought.map(|at| Splice { at, with: String::new() });
            let line = own_lines(text, entry).map(|at| Splice { at, with: String::new() });
            return Ok(brought.into_iter().chain(line).collect());
        }
        Edit::Take(_) => {
            let items: Vec<YamlNode> =
                place.sequence().map(|list| list.values().collect()).unwrap_or_default();
            let brought = raw.map_or("", |(_, brought)| brought);
            let found =
                items.iter().rev().filter_map(|item| find_raw(text, brought, trimmed(text, item).start));
            return Ok(found.map(|at| Splice { at, with: String::new() }).collect());
        }
    };
    Ok(vec![splice])
}

/// What the path leads to, as far as it leads.
struct Place<'a> {
    text: &'a str,
    /// Keys of the path that are there.
    depth: usize,
    /// The innermost mapping on the way.
    mapping: Option<Mapping>,
    /// The innermost entry on the way.
    entry: Option<MappingEntry>,
    value: Option<YamlNode>,
}

impl<'a> Place<'a> {
    fn find(text: &'a str, document: &Document, path: &KeyPath) -> Result<Self, EditError> {
        let mut place = Self { text, depth: 0, mapping: document.as_mapping(), entry: None, value: None };
        let mut sequence = document.as_sequence();
        for (number, key) in path.keys().iter().enumerate() {
            if place.value.as_ref().is_some_and(YamlNode::is_alias) {
                let why = "a key above it is an alias: change what it stands for".into();
                return Err(EditError::Unsupported { path: path.clone(), why });
            }
            let (entry, value) = if let Some(mapping) = place.mapping.as_ref().filter(|_| sequence.is_none())
            {
                let Some(entry) = mapping.find_entry_by_key(key.as_str()) else { break };
                let value = entry.value_node();
                (Some(entry), value)
            } else if let Some(item) = sequence.as_ref().and_then(|list| list.get(key.parse().ok()?)) {
                (None, Some(item))
            } else {
                break;
            };
            place.depth = number + 1;
            place.entry = entry;
            place.value = value;
            sequence = place.sequence();
            if number + 1 < path.keys().len() {
                place.mapping = place.value.as_ref().and_then(as_mapping);
            }
        }
        Ok(place)
    }

    fn sequence(&self) -> Option<Sequence> {
        match self.value.as_ref()? {
            YamlNode::Sequence(sequence) => Some(sequence.clone()),
            YamlNode::TaggedNode(tagged) => tagged.as_sequence(),
            _ => None,
        }
    }

    /// The bytes of the value without anchor, tag and blanks; empty behind the colon where there is none.
    fn value_range(&self) -> Option<std::ops::Range<usize>> {
        let range = self.value.as_ref().map(|value| trimmed(self.text, value));
        match (range, &self.entry) {
            (Some(range), _) if !range.is_empty() => Some(range),
            (_, Some(entry)) => {
                let at = colon(self.text, entry)?;
                Some(at..at)
            }
            _ => None,
        }
    }

    fn insert(&self, path: &KeyPath, value: &Value) -> Option<Splice> {
        let missing = &path.keys()[self.depth..];
        if let Some(mapping) = &self.mapping {
            if mapping.is_flow_style() {
                let inner = in_braces(missing, value);
                return Some(match mapping.entries().last() {
                    Some(last) => Splice::insert(end_of_entry(self.text, &last)?, format!(", {inner}")),
                    None => Splice::insert(mapping.byte_range().start as usize + 1, inner),
                });
            }
            let mut entries = mapping.entries();
            let indent = column(self.text, start(&entries.next()?));
            let last = mapping.entries().last()?;
            return Some(self.lines_after(end_of_entry(self.text, &last)?, indent, missing, value));
        }
        // `key:` with nothing behind it.
        let entry =
            self.entry.as_ref().filter(|_| self.value_range().is_some_and(|range| range.is_empty()))?;
        let indent = column(self.text, start(entry)) + 2;
        Some(self.lines_after(colon(self.text, entry)?, indent, missing, value))
    }

    /// New lines behind the line of `at`.
    fn lines_after(&self, at: usize, indent: usize, missing: &[String], value: &Value) -> Splice {
        let mut lines = String::new();
        for (level, name) in missing.iter().enumerate() {
            lines += line_ending(self.text);
            lines += &" ".repeat(indent + 2 * level);
            lines += &key(name);
            lines += ":";
        }
        lines += " ";
        lines += &scalar(value, "", "\n", 0);
        Splice::insert(line_end(self.text, at), lines)
    }

    fn append(&self, item: &Value) -> Option<Splice> {
        let sequence = self.sequence()?;
        let item = scalar(item, "", "\n", 0);
        let last = sequence.last();
        if sequence.is_flow_style() {
            return Some(match last {
                Some(last) => Splice::insert(end_of(self.text, &last)?, format!(", {item}")),
                None => Splice::insert(trimmed(self.text, self.value.as_ref()?).start + 1, item),
            });
        }
        let first = trimmed(self.text, &sequence.first()?).start;
        let dash =
            line_start(self.text, first) + self.text[line_start(self.text, first)..first].rfind('-')?;
        let end = line_end(self.text, end_of(self.text, &last?)?);
        let indent = " ".repeat(column(self.text, dash));
        Some(Splice::insert(end, format!("{}{indent}- {item}", line_ending(self.text))))
    }
}

fn as_mapping(node: &YamlNode) -> Option<Mapping> {
    match node {
        YamlNode::Mapping(mapping) => Some(mapping.clone()),
        YamlNode::TaggedNode(tagged) => tagged.as_mapping(),
        _ => None,
    }
}

/// Characters between the line's beginning and a byte.
fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

fn start(entry: &MappingEntry) -> usize {
    entry.key_node().map_or(entry.byte_range().start, |key| key.byte_range().start) as usize
}

/// Behind the colon of an entry.
fn colon(text: &str, entry: &MappingEntry) -> Option<usize> {
    let from = entry.key_node()?.byte_range().end as usize;
    text[from..].find(':').map(|at| from + at + 1)
}

/// The bytes of a node without anchor, tag, and blanks around it.
fn trimmed(text: &str, node: &YamlNode) -> std::ops::Range<usize> {
    let range = node.byte_range();
    let (mut start, end) = (range.start as usize, range.end as usize);
    let block = |at: usize| matches!(text.as_bytes().get(at), Some(b'|' | b'>'));
    loop {
        start += text[start..end].len() - text[start..end].trim_start().len();
        if !text[start..end].starts_with(['&', '!']) {
            break;
        }
        start += text[start..end].find(char::is_whitespace).unwrap_or(end - start);
    }
    // Trailing newlines belong to a block text.
    let kept = if block(start) { &text[start..end] } else { text[start..end].trim_end() };
    start..start + kept.len()
}

/// Where the last byte of a value is followed by something else: of a collection, by its last item.
fn end_of(text: &str, node: &YamlNode) -> Option<usize> {
    let range = trimmed(text, node);
    if let Some(mapping) = as_mapping(node).filter(|mapping| !mapping.is_flow_style()) {
        return end_of_entry(text, &mapping.entries().last()?);
    }
    let sequence = match node {
        YamlNode::Sequence(sequence) => Some(sequence.clone()),
        YamlNode::TaggedNode(tagged) => tagged.as_sequence(),
        _ => None,
    };
    if let Some(sequence) = sequence.filter(|sequence| !sequence.is_flow_style()) {
        return end_of(text, &sequence.last()?);
    }
    Some(range.start + text[range].trim_end().len())
}

fn end_of_entry(text: &str, entry: &MappingEntry) -> Option<usize> {
    let end = entry.value_node().filter(|value| !trimmed(text, value).is_empty());
    end.map_or_else(|| colon(text, entry), |value| end_of(text, &value))
}

/// The lines of an entry that shares them with nothing else.
fn own_lines(text: &str, entry: &MappingEntry) -> Option<std::ops::Range<usize>> {
    let begin = line_start(text, start(entry));
    let alone = text[begin..start(entry)].chars().all(|c| c == ' ');
    let end = line_end(text, end_of_entry(text, entry)?);
    let newline = text[end..].find('\n').map_or(0, |at| at + 1);
    alone.then_some(begin..end + newline)
}

/// `key: {inner: value}`.
fn in_braces(missing: &[String], value: &Value) -> String {
    let (last, above) = missing.split_last().map_or(("", missing), |(last, above)| (last.as_str(), above));
    let inner = format!("{}: {}", key(last), scalar(value, "\"", "\n", 0));
    above.iter().rev().fold(inner, |inner, name| format!("{}: {{{inner}}}", key(name)))
}

/// A key, quoted unless it is a plain word.
fn key(name: &str) -> String {
    text_of(name).unwrap_or_else(|| quoted(name))
}

/// Text that means itself without quotes.
fn text_of(text: &str) -> Option<String> {
    let plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' '))
        && text.starts_with(char::is_alphabetic)
        && !text.ends_with(' ');
    // Words that older readers take for truth or nothing.
    let word =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    (plain && !word).then(|| text.to_owned())
}

/// JSON's strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A value as YAML, written as `old` is: in its quotes, or as its kind of block. Collections in flow style.
fn scalar(value: &Value, old: &str, ending: &str, indent: usize) -> String {
    let Value::String(text) = value else { return value.to_string() };
    match old.chars().next() {
        Some('\'') if !text.contains(['\n', '\r']) && !text.chars().any(char::is_control) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        Some('|' | '>') => block(text, old, ending, indent),
        Some('"' | '\'') => quoted(text),
        _ => text_of(text).unwrap_or_else(|| quoted(text)),
    }
}

/// A block text with the header and the indentation of the old one.
fn block(text: &str, old: &str, ending: &str, indent: usize) -> String {
    let (header, body) = old.split_once('\n').unwrap_or((old, ""));
    let first = body.lines().find(|line| !line.trim().is_empty());
    let depth = first.map_or(indent + 2, |line| line.len() - line.trim_start().len());
    let kept = old.len() - old.trim_end_matches(['\n', '\r']).len();
    let separator = if header.starts_with('>') { format!("{ending}{ending}") } else { ending.to_owned() };
    let lines: Vec<String> = text
        .trim_end_matches('\n')
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { " ".repeat(depth) + line })
        .collect();
    format!("{}{ending}{}{}", header.trim_end(), lines.join(&separator), &old[old.len() - kept..])
}
