//! The careful path: serde_json splits the line, repeated keys count with their last value, keys
//! may be escaped, and a line may hold a whole OTLP batch.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::names::{Node, TOP};
use super::roles::{Fields, Roles};

/// The members of an object in order, values raw.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Whether a key of the line holds many entries.
pub(super) fn is_batch(key: &[u8]) -> bool {
    matches!(key, b"resourceSpans" | b"resourceLogs")
}

/// The roles of each entry of a line: one, or as many as an OTLP batch holds.
pub(super) fn scan<'a>(roles: &Roles, line: &'a str) -> Result<Vec<Fields<'a>>, serde_json::Error> {
    let members: Members<'a> = serde_json::from_str(line)?;
    let mut entries = Vec::new();
    for (key, value) in &members.0 {
        match key.as_str() {
            "resourceSpans" => {
                batch(roles, value, &["scopeSpans", "instrumentationLibrarySpans"], "spans", &mut entries);
            }
            "resourceLogs" => batch(roles, value, &["scopeLogs"], "logRecords", &mut entries),
            _ => {}
        }
    }
    if entries.is_empty() {
        let mut fields = Fields::default();
        take(roles, TOP, members, &mut fields);
        entries.push(fields);
    }
    Ok(entries)
}

fn list(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn batch<'a>(
    roles: &Roles,
    resources: &'a RawValue,
    scopes: &[&str],
    items: &str,
    out: &mut Vec<Fields<'a>>,
) {
    for resource in list(resources) {
        let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(resource.get()) else { continue };
        for scope in
            members.iter().filter(|(key, _)| scopes.contains(&key.as_str())).flat_map(|(_, raw)| list(raw))
        {
            let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(scope.get()) else { continue };
            for item in members.iter().filter(|(key, _)| key == items).flat_map(|(_, raw)| list(raw)) {
                if let Ok(members) = serde_json::from_str(item.get()) {
                    let mut fields = Fields::default();
                    take(roles, TOP, members, &mut fields);
                    out.push(fields);
                }
            }
        }
    }
}

fn take<'a>(roles: &Roles, node: Node, members: Members<'a>, fields: &mut Fields<'a>) {
    for (key, value) in last_of_each(members) {
        let Some(slot) = roles.get(node, key.as_bytes()) else { continue };
        let raw = value.get();
        let within = match (slot.child, raw.as_bytes().first()) {
            (Some(child), Some(b'{')) => {
                if let Ok(members) = serde_json::from_str(raw) {
                    take(roles, child, members, fields);
                }
                true
            }
            (Some(child), Some(b'[')) => {
                pairs(roles, child, value, fields);
                true
            }
            _ => false,
        };
        if let Some(role) = if within { slot.around() } else { slot.role } {
            fields.put(role, raw.as_bytes());
        }
    }
}

/// A key that comes twice counts with its last value, as in every common JSON parser.
fn last_of_each(members: Members<'_>) -> impl Iterator<Item = (String, &RawValue)> {
    let last: HashMap<String, usize> =
        members.0.iter().enumerate().map(|(index, (key, _))| (key.clone(), index)).collect();
    members
        .0
        .into_iter()
        .enumerate()
        .filter(move |(index, (key, _))| last[key] == *index)
        .map(|(_, member)| member)
}

/// OTLP attributes; an item may also hold its value bare.
fn pairs<'a>(roles: &Roles, node: Node, items: &'a RawValue, fields: &mut Fields<'a>) {
    let mut members = Vec::new();
    for item in list(items) {
        let Ok(Members(item)) = serde_json::from_str::<Members<'a>>(item.get()) else { continue };
        let (mut key, mut value) = (None, None);
        for (name, raw) in item {
            match name.as_str() {
                "key" => key = Some(super::values::text(raw.get().as_bytes()).into_owned()),
                "value" => value = Some(raw),
                _ => {}
            }
        }
        let (Some(key), Some(value)) = (key, value) else { continue };
        let inner = serde_json::from_str::<Members<'a>>(value.get()).ok().and_then(|Members(inner)| {
            let scalar =
                |name: &str| matches!(name, "stringValue" | "intValue" | "doubleValue" | "boolValue");
            inner.into_iter().rfind(|(name, _)| scalar(name)).map(|(_, raw)| raw)
        });
        members.push((key, inner.unwrap_or(value)));
    }
    for (key, raw) in last_of_each(Members(members)) {
        if let Some(role) = roles.get(node, key.as_bytes()).and_then(|slot| slot.role) {
            fields.put(role, raw.get().as_bytes());
        }
    }
}
