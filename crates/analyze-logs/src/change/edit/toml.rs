//! Where the bytes of a TOML value are, by toml_edit; new keys are put in by toml_edit itself.

use serde_json::Value;
use serde_yaml::Mapping;
use toml_edit::{Array, Document, DocumentMut, InlineTable, Item, Table, TableLike};

use super::tree::Tree;
use super::{Edit, EditError, Splice, find_raw, put_back};
use crate::change::path::KeyPath;

pub(super) fn tree(text: &str) -> Result<Tree, EditError> {
    Ok(of_table(read(text)?.as_table()))
}

fn read(text: &str) -> Result<Document<&str>, EditError> {
    Document::parse(text).map_err(|error| EditError::Unreadable(error.to_string().trim().replace('\n', " ")))
}

pub(super) fn splices(
    text: &str,
    path: &KeyPath,
    edit: &Edit,
    raw: Option<&(String, String)>,
) -> Result<Vec<Splice>, EditError> {
    let document = read(text)?;
    let missing = || EditError::Missing(path.clone());
    let refused = |why: &str| EditError::Unsupported { path: path.clone(), why: why.into() };
    let brought = raw.map_or("", |(_, brought)| brought);
    let cut = |at| Splice { at, with: String::new() };
    Ok(match edit {
        Edit::Set(value) => {
            let at = item(document.as_table(), path.keys()).and_then(Item::span).ok_or_else(missing)?;
            let with = rendered(value, &text[at.clone()]).ok_or_else(|| refused("TOML has no such value"))?;
            let undone = raw.map(|raw| put_back(text, &at, raw));
            undone.into_iter().chain([Splice { at, with }]).collect()
        }
        Edit::Insert(value) => {
            vec![insert(text, path, value).ok_or_else(|| refused("the key above it is no table"))?]
        }
        Edit::Append(value) => {
            let found = item(document.as_table(), path.keys()).ok_or_else(missing)?;
            let array = found.as_array().ok_or_else(|| refused("it is no list"))?;
            let with = rendered(value, "").ok_or_else(|| refused("TOML has no such value"))?;
            vec![append(text, array, &with).ok_or_else(missing)?]
        }
        Edit::Remove => {
            let at = item(document.as_table(), path.keys()).and_then(Item::span).ok_or_else(missing)?;
            let found = find_raw(text, brought, at.start).map(cut);
            vec![found.ok_or_else(|| refused("the lines around it have changed"))?]
        }
        Edit::Take(_) => {
            let found =
                item(document.as_table(), path.keys()).and_then(Item::as_array).ok_or_else(missing)?;
            let spans: Vec<_> = found.iter().filter_map(toml_edit::Value::span).collect();
            spans.iter().rev().filter_map(|span| find_raw(text, brought, span.start)).map(cut).collect()
        }
    })
}

fn item<'a>(table: &'a dyn TableLike, keys: &[String]) -> Option<&'a Item> {
    let (first, rest) = keys.split_first()?;
    let found = table.get(first)?;
    if rest.is_empty() { Some(found) } else { item(found.as_table_like()?, rest) }
}

/// One more item behind the last one, laid out as that is.
fn append(text: &str, array: &Array, new: &str) -> Option<Splice> {
    let spans: Vec<_> = array.iter().filter_map(toml_edit::Value::span).collect();
    let Some(last) = spans.last() else {
        return Some(Splice::insert(array.span()?.start + 1, new.to_owned()));
    };
    let before = match spans.len().checked_sub(2) {
        Some(number) => spans[number].end + text[spans[number].end..].find(',')? + 1,
        None => array.span()?.start + 1,
    };
    let blanks = &text[before..last.start];
    let blanks = if spans.len() == 1 && blanks.is_empty() { " " } else { blanks };
    blanks.trim().is_empty().then(|| Splice::insert(last.end, format!(",{blanks}{new}")))
}

/// The new key as toml_edit would write it, as an insertion into the old text.
fn insert(text: &str, path: &KeyPath, value: &Value) -> Option<Splice> {
    let mut document: DocumentMut = text.parse().ok()?;
    let (last, above) = path.keys().split_last()?;
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for key in above {
        let inline = table.get(key).is_some_and(Item::is_inline_table);
        let made = || if inline { InlineTable::new().into() } else { Item::Table(implicit()) };
        table = table.entry(key).or_insert_with(made).as_table_like_mut()?;
    }
    if table.insert(last, Item::Value(of_json(value)?)).is_some() {
        return None;
    }
    let ending = super::line_ending(text);
    let changed = document.to_string().replace("\r\n", "\n").replace('\n', ending);
    let same = |a: &mut dyn Iterator<Item = (u8, u8)>| a.take_while(|(a, b)| a == b).count();
    let front = same(&mut text.bytes().zip(changed.bytes()));
    let front = (0..=front).rev().find(|at| text.is_char_boundary(*at) && changed.is_char_boundary(*at))?;
    let back = changed.len().checked_sub(text.len() - front)?;
    // Anything but an insertion would touch other bytes.
    (back >= front && text.as_bytes()[front..] == changed.as_bytes()[back..])
        .then(|| Splice::insert(front, changed[front..back].to_owned()))
}

fn implicit() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

/// A value as TOML, in single quotes where the old one was.
fn rendered(value: &Value, old: &str) -> Option<String> {
    if let (Value::String(text), true) = (value, old.starts_with('\'') && !old.starts_with("'''"))
        && !text.chars().any(|c| c == '\'' || c.is_control())
    {
        return Some(format!("'{text}'"));
    }
    Some(of_json(value)?.to_string().trim().to_owned())
}

fn of_json(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => toml_edit::Value::Array(items.iter().map(of_json).collect::<Option<Array>>()?),
        Value::Null | Value::Object(_) => return None,
    })
}

fn of_table(table: &dyn TableLike) -> Tree {
    Tree::Mapping(table.iter().map(|(key, item)| (key.into(), of_item(item))).collect::<Mapping>())
}

fn of_item(item: &Item) -> Tree {
    match item {
        Item::None => Tree::Null,
        Item::Value(value) => of_value(value),
        Item::Table(table) => of_table(table),
        Item::ArrayOfTables(tables) => Tree::Sequence(tables.iter().map(|table| of_table(table)).collect()),
    }
}

fn of_value(value: &toml_edit::Value) -> Tree {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(items) => Tree::Sequence(items.iter().map(of_value).collect()),
        toml_edit::Value::InlineTable(table) => of_table(table),
    }
}
