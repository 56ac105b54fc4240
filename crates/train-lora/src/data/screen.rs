//! Which rows of a file take part: one purpose, nothing sealed, repeats known.
//!
//! Rows are compared as texts, before anything is encoded.

use std::collections::HashMap;
use std::path::Path;

use nightshift_core::Failure;
use nightshift_verify::words;

use super::row::{Body, Row, Sample, Teaches};
use super::set::Noted;
use super::{Dropped, Reason};
use crate::args::Contaminated;
use crate::seals::Seals;

/// Rows named in a refusal.
const SAID: usize = 5;

/// What all rows teach; a file that mixes purposes is refused.
pub(super) fn one_purpose(rows: &[Row], path: &Path) -> Result<Option<Teaches>, Failure> {
    let Some(first) = rows.first() else { return Ok(None) };
    let purpose = first.body.teaches();
    match rows.iter().find(|row| row.body.teaches() != purpose) {
        None => Ok(Some(purpose)),
        Some(other) => {
            let message = format!(
                "{} mixes {} ({}) with {} ({})",
                path.display(),
                purpose.name(),
                first.name,
                other.body.teaches().name(),
                other.name
            );
            Err(Failure::refused(message).hint("split the file: one training has one purpose"))
        }
    }
}

/// Takes out the rows that match a sealed item, or refuses them.
pub(super) fn unseal(
    rows: &mut Vec<Row>,
    seals: &Seals,
    policy: Contaminated,
    dropped: &mut Vec<Dropped>,
) -> Result<(), Failure> {
    let before = dropped.len();
    rows.retain(|row| {
        let texts = row.body.samples().into_iter().flat_map(Sample::texts);
        let Some(why) = seals.refuse_texts(texts) else { return true };
        dropped.push(Dropped::new(&row.name, Reason::Sealed, why));
        false
    });
    match policy {
        Contaminated::Drop => Ok(()),
        Contaminated::Error => {
            refuse_rows(&dropped[before..], Reason::Sealed, "evaluation items", |failure| {
                failure.hint("take these rows out of the file, or choose --contaminated drop")
            })
        }
    }
}

/// Exit 4 naming the rows that were dropped for this reason.
pub(super) fn refuse_rows(
    dropped: &[Dropped],
    reason: Reason,
    what: &str,
    hint: impl Fn(Failure) -> Failure,
) -> Result<(), Failure> {
    let found: Vec<&Dropped> = dropped.iter().filter(|row| row.reason == reason).collect();
    if found.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> =
        found.iter().take(SAID).map(|row| format!("{}: {}", row.row, row.why)).collect();
    if found.len() > SAID {
        named.push(format!("and {} more", found.len() - SAID));
    }
    Err(hint(Failure::refused(format!("{} rows are {what}: {}", found.len(), named.join("; ")))))
}

/// Rows that say the same as an earlier one but for case and white space: noted, or dropped.
pub(super) fn repeats(rows: &mut Vec<Row>, dedup: bool, dropped: &mut Vec<Dropped>) -> Vec<Noted> {
    let mut seen: HashMap<String, String> = HashMap::with_capacity(rows.len());
    let mut noted = Vec::new();
    rows.retain(|row| {
        let key = key(&row.body);
        let Some(first) = seen.get(&key) else {
            seen.insert(key, row.name.clone());
            return true;
        };
        let what = format!("says the same as {first}");
        if dedup {
            dropped.push(Dropped::new(&row.name, Reason::Duplicate, what));
        } else {
            noted.push(Noted { row: row.name.clone(), what });
        }
        !dedup
    });
    noted
}

/// One form for rows that say the same.
fn key(body: &Body) -> String {
    let mut key = match body {
        Body::Judged(_, wanted) => wanted.to_string(),
        Body::Answer(_) | Body::Pair(..) => String::new(),
    };
    let mut add = |part: &str, end: char| {
        key.push_str(&words::squeeze(&words::fold(part)));
        key.push(end);
    };
    for sample in body.samples() {
        match sample {
            Sample::Text { prompt, completion } => {
                add(prompt, '\u{1f}');
                add(completion, '\u{1d}');
            }
            Sample::Chat { messages, .. } => {
                for turn in messages {
                    add(&turn.role, '\u{1f}');
                    add(&turn.content, '\u{1f}');
                    add(&turn.tool_calls.as_ref().map(ToString::to_string).unwrap_or_default(), '\u{1e}');
                }
                add("", '\u{1d}');
            }
        }
    }
    key
}
