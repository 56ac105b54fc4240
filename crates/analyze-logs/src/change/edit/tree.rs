//! What a config means, whatever it is written in, and what it should mean after an edit.

use serde::Deserialize;
use serde_json::Value as Json;
use serde_yaml::Value;

use super::{Edit, EditError};
use crate::change::path::KeyPath;

/// A document. TOML's dates are texts in it.
pub type Tree = Value;

pub(super) fn of_yaml(text: &str) -> Result<Vec<Tree>, EditError> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        documents
            .push(Value::deserialize(document).map_err(|error| EditError::Unreadable(error.to_string()))?);
    }
    Ok(documents)
}

/// The value without its tags.
fn bare(value: &Value) -> &Value {
    match value {
        Value::Tagged(tagged) => bare(&tagged.value),
        value => value,
    }
}

fn bare_mut(value: &mut Value) -> &mut Value {
    match value {
        Value::Tagged(tagged) => bare_mut(&mut tagged.value),
        value => value,
    }
}

/// The value at a path.
pub fn lookup<'a>(document: &'a Tree, path: &KeyPath) -> Option<&'a Tree> {
    path.keys().iter().try_fold(document, |value, key| step(value, key))
}

fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match bare(value) {
        Value::Mapping(mapping) => mapping.get(key),
        Value::Sequence(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A value as JSON, without tags.
pub fn to_json(value: &Tree) -> Json {
    match bare(value) {
        Value::Sequence(items) => items.iter().map(to_json).collect(),
        Value::Mapping(mapping) => {
            let name = |key: &Value| key.as_str().map_or_else(|| to_json(key).to_string(), str::to_owned);
            Json::Object(mapping.iter().map(|(key, value)| (name(key), to_json(value))).collect())
        }
        value => serde_json::to_value(value).unwrap_or(Json::Null),
    }
}

fn of_json(value: &Json) -> Value {
    serde_yaml::to_value(value).unwrap_or(Value::Null)
}

/// Equal in value and in the type of value. The order of keys says nothing.
pub fn same(a: &[Tree], b: &[Tree]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
}

fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Mapping(a), Value::Mapping(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| alike(value, other)))
        }
        (Value::Sequence(a), Value::Sequence(b)) => same(a, b),
        (Value::Tagged(a), Value::Tagged(b)) => a.tag == b.tag && alike(&a.value, &b.value),
        (Value::Number(a), Value::Number(b)) => a == b && a.is_f64() == b.is_f64(),
        (a, b) => a == b,
    }
}

/// Whether a list holds an item.
pub fn contains(list: &Tree, item: &Json) -> bool {
    let item = of_json(item);
    matches!(bare(list), Value::Sequence(items) if items.iter().any(|have| alike(bare(have), &item)))
}

/// The document that an edit is about: the one that has the key, or the most of the keys above it.
pub(super) fn document_of(documents: &[Tree], path: &KeyPath, edit: &Edit) -> Result<usize, EditError> {
    let depth = |document: &Tree| depth(document, path);
    let wanted = match edit {
        Edit::Insert(_) => documents.iter().map(depth).max().unwrap_or(0),
        _ => path.keys().len(),
    };
    let mut fitting = (0..documents.len()).filter(|number| depth(&documents[*number]) == wanted);
    let first = fitting.next().ok_or_else(|| EditError::Missing(path.clone()))?;
    if fitting.next().is_some() { Err(EditError::Ambiguous(path.clone())) } else { Ok(first) }
}

/// How many of a path's keys a document has.
pub(super) fn depth(document: &Tree, path: &KeyPath) -> usize {
    let mut value = document;
    path.keys().iter().take_while(|key| step(value, key).map(|found| value = found).is_some()).count()
}

/// What the documents should mean after the edit; more than one answer where emptied keys may go or stay.
pub(super) fn expected(
    documents: &[Tree],
    number: usize,
    path: &KeyPath,
    edit: &Edit,
) -> Result<Vec<Vec<Tree>>, EditError> {
    let missing = || EditError::Missing(path.clone());
    let with = |change: &dyn Fn(&mut Value) -> Option<()>| {
        let mut changed = documents.to_vec();
        change(&mut changed[number]).map(|()| changed).ok_or_else(missing)
    };
    let (last, above) = path.keys().split_last().ok_or_else(missing)?;
    Ok(match edit {
        Edit::Set(value) => vec![with(&|tree| {
            *bare_mut(walk(tree, path.keys())?) = of_json(value);
            Some(())
        })?],
        Edit::Insert(value) => vec![with(&|tree| insert(tree, path.keys(), value))?],
        Edit::Append(item) => vec![with(&|tree| {
            walk(tree, path.keys())?.as_sequence_mut()?.push(of_json(item));
            Some(())
        })?],
        Edit::Take(item) => vec![with(&|tree| {
            let items = bare_mut(walk(tree, path.keys())?).as_sequence_mut()?;
            let at = items.iter().rposition(|have| alike(bare(have), &of_json(item)))?;
            items.remove(at);
            Some(())
        })?],
        Edit::Remove => {
            let alone = with(&|tree| {
                bare_mut(walk(tree, above)?).as_mapping_mut()?.shift_remove(last.as_str()).map(|_| ())
            })?;
            let mut answers = vec![alone];
            for up in 1..path.keys().len() {
                let mut pruned: Vec<Tree> = answers[up - 1].clone();
                let Some((key, above)) = path.keys()[..path.keys().len() - up].split_last() else { break };
                let Some(parent) = walk(&mut pruned[number], above).map(bare_mut) else { break };
                let Some(mapping) = parent.as_mapping_mut() else { break };
                if mapping
                    .get(key.as_str())
                    .map(bare)
                    .and_then(Value::as_mapping)
                    .is_none_or(|m| !m.is_empty())
                {
                    break;
                }
                mapping.shift_remove(key.as_str());
                answers.push(pruned);
            }
            // An emptied mapping may also be left as nothing at all (`key:`), as it may have been before.
            answers.extend(emptied(&answers, number, path));
            answers.reverse();
            answers
        }
    })
}

/// The answers in which an emptied mapping is null instead.
fn emptied(answers: &[Vec<Tree>], number: usize, path: &KeyPath) -> Vec<Vec<Tree>> {
    let mut more = Vec::new();
    for (up, answer) in answers.iter().enumerate() {
        let mut answer = answer.clone();
        let above = &path.keys()[..path.keys().len() - 1 - up.min(path.keys().len() - 1)];
        let Some(parent) = walk(&mut answer[number], above).map(bare_mut) else { continue };
        if parent.as_mapping().is_some_and(serde_yaml::Mapping::is_empty) {
            *parent = Value::Null;
            more.push(answer);
        }
    }
    more
}

fn walk<'a>(tree: &'a mut Value, keys: &[String]) -> Option<&'a mut Value> {
    keys.iter().try_fold(tree, |value, key| match bare_mut(value) {
        Value::Mapping(mapping) => mapping.get_mut(key.as_str()),
        Value::Sequence(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

fn insert(tree: &mut Value, keys: &[String], value: &Json) -> Option<()> {
    let (first, rest) = keys.split_first()?;
    let parent = bare_mut(tree);
    if parent.is_null() {
        *parent = Value::Mapping(serde_yaml::Mapping::new());
    }
    let mapping = parent.as_mapping_mut()?;
    match (mapping.get_mut(first.as_str()), rest.is_empty()) {
        (Some(_), true) => None,
        (Some(child), false) => insert(child, rest, value),
        (None, true) => {
            mapping.insert(first.as_str().into(), of_json(value));
            Some(())
        }
        (None, false) => {
            let mut child = Value::Null;
            insert(&mut child, rest, value)?;
            mapping.insert(first.as_str().into(), child);
            Some(())
        }
    }
}
