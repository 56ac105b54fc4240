//! JSON with the place of every value, so that one can be replaced and the layout stays.

use std::ops::Range;

use serde_json::Value;

use super::tree::Tree;
use super::{Edit, EditError, Splice, find_raw, put_back};
use crate::change::path::KeyPath;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 128;

/// What a text means. Refuses what serde_json would let pass: the same key twice.
pub(super) fn tree(text: &str) -> Result<Tree, EditError> {
    parse(text)?;
    serde_json::from_str(text).map_err(|error| EditError::Unreadable(error.to_string()))
}

pub(super) fn splices(
    text: &str,
    path: &KeyPath,
    edit: &Edit,
    raw: Option<&(String, String)>,
) -> Result<Vec<Splice>, EditError> {
    let top = parse(text)?;
    let missing = || EditError::Missing(path.clone());
    let refused = |why: &str| EditError::Unsupported { path: path.clone(), why: why.into() };
    let (depth, node, key) = walk(&top, path);
    let whole = depth == path.keys().len();
    let cut = |at: Range<usize>| vec![Splice { at, with: String::new() }];
    Ok(match edit {
        Edit::Set(value) => {
            let node = Some(node).filter(|_| whole).ok_or_else(missing)?;
            let undone = raw.map(|raw| put_back(text, &node.at, raw));
            let new = Splice { at: node.at.clone(), with: value.to_string() };
            undone.into_iter().chain([new]).collect()
        }
        Edit::Insert(value) => {
            let Inner::Object(members) = &node.inner else {
                return Err(refused("the key above it is no object"));
            };
            let keys = &path.keys()[depth..];
            let (first, below) = keys.split_first().ok_or_else(|| refused("it is there already"))?;
            let value = below.iter().rev().fold(value.clone(), |value, key| {
                Value::Object([(key.clone(), value)].into_iter().collect())
            });
            let name = Value::from(first.as_str());
            let places: Vec<_> = members.iter().map(|(_, key, value)| key.start..value.at.end).collect();
            let colon = members.first().map_or(": ", |(_, key, value)| &text[key.end..value.at.start]);
            vec![joined(text, node, &places, &format!("{name}{colon}{value}"))]
        }
        Edit::Append(item) => {
            let Inner::Array(items) = &node.inner else { return Err(refused("it is no list")) };
            let places: Vec<_> = items.iter().map(|item| item.at.clone()).collect();
            vec![joined(text, node, &places, &item.to_string())]
        }
        Edit::Remove => {
            let inside = key.filter(|_| whole).ok_or_else(missing)?.start;
            let brought = raw.map_or("", |(_, brought)| brought);
            find_raw(text, brought, inside)
                .map(cut)
                .ok_or_else(|| refused("the lines around it have changed"))?
        }
        Edit::Take(_) => {
            let Inner::Array(items) = &node.inner else { return Err(refused("it is no list")) };
            let brought = raw.map_or("", |(_, brought)| brought);
            items
                .iter()
                .rev()
                .filter_map(|item| find_raw(text, brought, item.at.start))
                .flat_map(cut)
                .collect()
        }
    })
}

/// One more member or item, laid out as the others are.
fn joined(text: &str, node: &Node, places: &[Range<usize>], new: &str) -> Splice {
    let Some(last) = places.last() else { return Splice::insert(node.at.start + 1, new.to_owned()) };
    let before = places.len().checked_sub(2).map_or(node.at.start + 1, |number| {
        let from = places[number].end;
        from + text[from..].find(',').map_or(0, |comma| comma + 1)
    });
    Splice::insert(last.end, format!(",{}{new}", &text[before..last.start]))
}

#[derive(Debug)]
struct Node {
    at: Range<usize>,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    /// Name, place of the name, value.
    Object(Vec<(String, Range<usize>, Node)>),
    Array(Vec<Node>),
    Leaf,
}

/// How many keys of the path are there, the value they lead to, and where its key stands.
fn walk<'a>(top: &'a Node, path: &KeyPath) -> (usize, &'a Node, Option<&'a Range<usize>>) {
    let (mut node, mut place) = (top, None);
    for (depth, key) in path.keys().iter().enumerate() {
        let next = match &node.inner {
            Inner::Object(members) => {
                members.iter().find(|(name, ..)| name == key).map(|(_, at, value)| (value, Some(at)))
            }
            Inner::Array(items) => {
                key.parse::<usize>().ok().and_then(|at| items.get(at)).map(|item| (item, None))
            }
            Inner::Leaf => None,
        };
        let Some(next) = next else { return (depth, node, place) };
        (node, place) = next;
    }
    (path.keys().len(), node, place)
}

fn parse(text: &str) -> Result<Node, EditError> {
    let mut reader = Reader { text, at: 0 };
    let node = reader.value(0)?;
    reader.blanks();
    if reader.at == text.len() { Ok(node) } else { Err(reader.wrong("something follows the value")) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &str) -> EditError {
        let line = self.text[..self.at].matches('\n').count() + 1;
        EditError::Unreadable(format!("line {line}: {what}"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Node, EditError> {
        self.blanks();
        let start = self.at;
        let inner = match self.peek() {
            _ if depth > MAX_DEPTH => return Err(self.wrong("it is nested too deeply")),
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                self.text()?;
                Inner::Leaf
            }
            _ => {
                let rest = &self.text[self.at..];
                self.at += rest
                    .find(|c: char| matches!(c, ',' | ']' | '}') || c.is_whitespace())
                    .unwrap_or(rest.len());
                Inner::Leaf
            }
        };
        if start == self.at {
            Err(self.wrong("a value is missing"))
        } else {
            Ok(Node { at: start..self.at, inner })
        }
    }

    fn object(&mut self, depth: usize) -> Result<Inner, EditError> {
        self.at += 1;
        let mut members: Vec<(String, Range<usize>, Node)> = Vec::new();
        while !self.take(b'}') {
            if !members.is_empty() && !self.take(b',') {
                return Err(self.wrong("a comma or `}` is missing"));
            }
            self.blanks();
            let start = self.at;
            let name = self.text()?;
            let place = start..self.at;
            if members.iter().any(|(have, ..)| *have == name) {
                return Err(self.wrong(&format!("the key `{name}` is there twice")));
            }
            if !self.take(b':') {
                return Err(self.wrong("a colon is missing"));
            }
            let value = self.value(depth + 1)?;
            members.push((name, place, value));
        }
        Ok(Inner::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Inner, EditError> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.take(b']') {
            if !items.is_empty() && !self.take(b',') {
                return Err(self.wrong("a comma or `]` is missing"));
            }
            items.push(self.value(depth + 1)?);
        }
        Ok(Inner::Array(items))
    }

    fn text(&mut self) -> Result<String, EditError> {
        let mut words = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<String>();
        match words.next() {
            Some(Ok(text)) => {
                self.at += words.byte_offset();
                Ok(text)
            }
            _ => Err(self.wrong("a text in double quotes is missing")),
        }
    }
}
