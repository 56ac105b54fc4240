//! The part of JSON Schema that evaluation checks may use.
//!
//! Written here because the full libraries bring a resolver and an HTTP stack for keywords that no check needs.
//! Supported: `type` (one or several), `enum`, `const`, `properties`, `required`, `additionalProperties` (boolean or
//! schema), `items` (one schema), `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`, `maximum`, `pattern`,
//! `anyOf`, and the schemas `true` and `false`. Notes such as `title` and `description` are skipped. **Any other
//! keyword is refused when the schema is read**, so that nothing passes because it was not looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::check::Pattern;

/// Keywords that describe and do not constrain.
const NOTES: [&str; 8] =
    ["$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"];

/// Deepest nesting of a schema.
const DEEPEST: usize = 64;

/// A schema that has been read and understood whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// As written; what serialises.
    source: Value,
    root: Box<Node>,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema at {path}: {problem}")]
pub struct SchemaError {
    /// JSON pointer into the schema.
    path: String,
    problem: String,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// A keyword that is not supported, or one with a value of the wrong type; the error names its place.
    pub fn new(source: Value) -> Result<Self, SchemaError> {
        let root = Node::read(&source, "", 0)?;
        Ok(Self { source, root: Box::new(root) })
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first violation, with the JSON pointer of the place.
    pub fn validate(&self, value: &Value) -> Result<(), String> {
        self.root.validate(value, "")
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One schema object, each keyword optional. Counts and lengths are in items and characters.
#[derive(Debug, Clone, PartialEq, Default)]
struct Node {
    /// The schema `false`.
    never: bool,
    types: Option<Vec<String>>,
    values: Option<Vec<Value>>,
    properties: BTreeMap<String, Node>,
    required: Vec<String>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    any_of: Option<Vec<Node>>,
    pattern: Option<Pattern>,
    /// Inclusive bounds of the items of an array, the characters of a string and the value of a number.
    item_count: (Option<f64>, Option<f64>),
    length: (Option<f64>, Option<f64>),
    range: (Option<f64>, Option<f64>),
}

impl Node {
    fn read(source: &Value, path: &str, depth: usize) -> Result<Self, SchemaError> {
        if depth > DEEPEST {
            return Err(bad(path, format!("nested deeper than {DEEPEST}")));
        }
        let keywords = match source {
            Value::Bool(accept) => return Ok(Self { never: !accept, ..Self::default() }),
            Value::Object(keywords) => keywords,
            _ => return Err(bad(path, "must be an object, true or false")),
        };
        let mut node = Self::default();
        for (keyword, value) in keywords {
            node.read_keyword(keyword, value, &format!("{path}/{keyword}"), depth)?;
        }
        Ok(node)
    }

    fn read_keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaError> {
        let child = |v: &Value, at: &str| Self::read(v, at, depth + 1);
        match keyword {
            "type" => self.types = Some(read_types(value, path)?),
            "enum" => self.values = Some(array(value, path)?.clone()),
            "const" => self.values = Some(vec![value.clone()]),
            "properties" => {
                for (name, schema) in object(value, path)? {
                    self.properties.insert(name.clone(), child(schema, &format!("{path}/{name}"))?);
                }
            }
            "required" => self.required = strings(value, path)?,
            "additionalProperties" => self.additional = Some(Box::new(child(value, path)?)),
            "items" => self.items = Some(Box::new(child(value, path)?)),
            "anyOf" => {
                let nodes: Result<_, _> = array(value, path)?.iter().map(|v| child(v, path)).collect();
                self.any_of = Some(nodes?);
            }
            "pattern" => {
                let text = value.as_str().ok_or_else(|| bad(path, "must be a string"))?;
                self.pattern = Some(Pattern::new(text).map_err(|e| bad(path, e.to_string()))?);
            }
            "minItems" => self.item_count.0 = Some(number(value, path)?),
            "maxItems" => self.item_count.1 = Some(number(value, path)?),
            "minLength" => self.length.0 = Some(number(value, path)?),
            "maxLength" => self.length.1 = Some(number(value, path)?),
            "minimum" => self.range.0 = Some(number(value, path)?),
            "maximum" => self.range.1 = Some(number(value, path)?),
            note if NOTES.contains(&note) => {}
            unknown => return Err(bad(path, format!("the keyword {unknown:?} is not supported"))),
        }
        Ok(())
    }

    fn validate(&self, value: &Value, at: &str) -> Result<(), String> {
        let place = if at.is_empty() { "the value" } else { at };
        if self.never {
            return Err(format!("{place} is not allowed"));
        }
        if let Some(types) = &self.types
            && !types.iter().any(|t| has_type(value, t))
        {
            return Err(format!("{place} is {}, not {}", type_name(value), types.join(" or ")));
        }
        if let Some(values) = &self.values
            && !values.iter().any(|v| same_json(v, value))
        {
            return Err(format!("{place} is none of the allowed values"));
        }
        if let Some(any_of) = &self.any_of
            && !any_of.iter().any(|node| node.validate(value, at).is_ok())
        {
            return Err(format!("{place} fits none of the alternatives"));
        }
        match value {
            Value::Object(map) => self.validate_object(map, at),
            Value::Array(items) => {
                within(items.len() as f64, self.item_count, place, "items")?;
                let Some(schema) = &self.items else { return Ok(()) };
                items.iter().enumerate().try_for_each(|(i, v)| schema.validate(v, &format!("{at}/{i}")))
            }
            Value::String(text) => {
                within(text.chars().count() as f64, self.length, place, "characters")?;
                match &self.pattern {
                    Some(p) if !p.is_match(text) => Err(format!("{place} does not match {:?}", p.as_str())),
                    _ => Ok(()),
                }
            }
            Value::Number(n) => within(n.as_f64().unwrap_or(f64::NAN), self.range, place, "as its value"),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn validate_object(&self, map: &Map<String, Value>, at: &str) -> Result<(), String> {
        if let Some(missing) = self.required.iter().find(|name| !map.contains_key(*name)) {
            return Err(format!("{at}/{missing} is missing"));
        }
        for (name, value) in map {
            let path = format!("{at}/{name}");
            match (self.properties.get(name), &self.additional) {
                (Some(schema), _) => schema.validate(value, &path)?,
                (None, Some(schema)) => schema.validate(value, &path)?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

fn read_types(value: &Value, path: &str) -> Result<Vec<String>, SchemaError> {
    const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
    let types = match value {
        Value::String(one) => vec![one.clone()],
        other => strings(other, path)?,
    };
    match types.iter().find(|t| !TYPES.contains(&t.as_str())) {
        Some(unknown) => Err(bad(path, format!("{unknown:?} is not a type"))),
        None => Ok(types),
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "number" => value.is_number(),
        // 3.0 is an integer in JSON Schema.
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        other => type_name(value) == other,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Equality in which 1 and 1.0 are the same number.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same_json(v, w)))
        }
        _ => a == b,
    }
}

fn within(size: f64, bounds: (Option<f64>, Option<f64>), place: &str, what: &str) -> Result<(), String> {
    match bounds {
        (Some(least), _) if size.is_nan() || size < least => {
            Err(format!("{place} has {size} {what}, less than {least}"))
        }
        (_, Some(most)) if size.is_nan() || size > most => {
            Err(format!("{place} has {size} {what}, more than {most}"))
        }
        _ => Ok(()),
    }
}

fn bad(path: &str, problem: impl Into<String>) -> SchemaError {
    let path = if path.is_empty() { "/" } else { path };
    SchemaError { path: path.to_owned(), problem: problem.into() }
}

fn array<'v>(value: &'v Value, path: &str) -> Result<&'v Vec<Value>, SchemaError> {
    value.as_array().ok_or_else(|| bad(path, "must be an array"))
}

fn object<'v>(value: &'v Value, path: &str) -> Result<&'v Map<String, Value>, SchemaError> {
    value.as_object().ok_or_else(|| bad(path, "must be an object"))
}

fn number(value: &Value, path: &str) -> Result<f64, SchemaError> {
    value.as_f64().ok_or_else(|| bad(path, "must be a number"))
}

fn strings(value: &Value, path: &str) -> Result<Vec<String>, SchemaError> {
    array(value, path)?
        .iter()
        .map(|v| v.as_str().map(str::to_owned).ok_or_else(|| bad(path, "must hold strings only")))
        .collect()
}
