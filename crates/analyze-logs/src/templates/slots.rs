//! One part of a message that varies while everything else stays the same.
//!
//! Forms that are equal but for one part (a word, a quoted phrase, a list) share a key. Enough distinct parts
//! under one key, and the part is a slot. Everything is decided on the whole set at once, so the order of
//! messages does not matter.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::forms::{Edits, Forms, Holes, Role};
use super::opposites::opposed;

/// Distinct words that make a position free.
pub(super) const MANY: usize = 6;
/// The same where the position holds values in other messages, or lists.
const SOME: usize = 3;
/// The same for names with numbers, where only the name differs.
const MANY_NAMES: usize = 4;
/// The same at the start of a message, where the subject stands.
pub(super) const MANY_AT_START: usize = 12;
/// A variant this much rarer than its sibling with a value is that sibling.
const RARER: u64 = 4;

/// A part of a form.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) form: usize,
    pub(super) span: Range<usize>,
}

/// The parts to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let holes: Vec<Holes> = forms.forms.iter().map(|form| Holes::new(forms, &form.tokens)).collect();
    let whole: HashMap<u64, usize> =
        holes.iter().enumerate().map(|(index, hole)| (hole.whole(), index)).collect();
    let mut groups: HashMap<(usize, u64), Vec<Part>> = HashMap::new();
    for (index, form) in forms.forms.iter().enumerate() {
        for span in parts(forms, &form.tokens) {
            let value = forms.value_hash(form.tokens[span.start], span.start == 0);
            let key = holes[index].with(span.clone(), value);
            groups.entry((span.start, key)).or_default().push(Part { form: index, span });
        }
    }
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for ((_, key), group) in groups {
        let sibling = whole.get(&key).map(|&form| forms.forms[form].count);
        for part in decide(forms, &group, sibling) {
            edits[part.form].push(part.span);
        }
    }
    edits
}

/// Words whose opposite stands in the same place of an otherwise equal form, by form and position.
pub(super) fn closed(forms: &Forms) -> HashSet<(usize, usize)> {
    let mut groups: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for (index, form) in forms.forms.iter().enumerate() {
        let holes = Holes::new(forms, &form.tokens);
        for (position, &token) in form.tokens.iter().enumerate() {
            if forms.role(token) == Role::Word {
                let key = holes.with(position..position + 1, forms.value_hash(token, position == 0));
                groups.entry((position, key)).or_default().push(index);
            }
        }
    }
    let mut closed = HashSet::new();
    for ((position, _), members) in groups {
        let word = |member: &usize| &*forms.entry(forms.forms[*member].tokens[position]).text;
        let words: Vec<&str> = members.iter().map(word).collect();
        let opposed = members.iter().zip(opposed(&words)).filter(|(_, opposed)| *opposed);
        closed.extend(opposed.map(|(&member, _)| (member, position)));
    }
    closed
}

/// Words and names with numbers, lists of them, what stands in quotes, and fields with values inside.
fn parts(forms: &Forms, tokens: &[u32]) -> Vec<Range<usize>> {
    let role = |index: usize| tokens.get(index).map(|&token| forms.role(token));
    let free = |index: usize| matches!(role(index), Some(Role::Word | Role::Partial));
    let text = |index: usize| tokens.get(index).map_or("", |&token| &*forms.entry(token).text);
    let glued = |index: usize| tokens.get(index).is_some_and(|&token| !forms.entry(token).space);
    let mut parts = Vec::new();
    let mut list_end = 0;
    for start in 0..tokens.len() {
        if free(start) {
            parts.push(start..start + 1);
        }
        if start >= list_end && (free(start) || role(start) == Some(Role::Value)) {
            let item = |index: usize| free(index) || role(index) == Some(Role::Value);
            let mut end = start + 1;
            while text(end) == "," && item(end + 1) {
                end += 2;
            }
            if end > start + 1 {
                parts.push(start..end);
                list_end = end;
            }
        }
        if matches!(text(start), "\"" | "'" | "`")
            && let Some(length) = (start + 1..tokens.len()).take(32).position(|end| text(end) == text(start))
            && (length >= 2 || length == 1 && role(start + 1) == Some(Role::Punct))
        {
            parts.push(start + 1..start + 1 + length);
        }
        if free(start) && (start == 0 || !glued(start)) {
            let mut end = start + 1;
            while glued(end) {
                end += 1;
            }
            while matches!(text(end - 1), "," | ";" | ":" | "." | "!" | "?") {
                end -= 1;
            }
            let valued = (start..end).any(|index| matches!(role(index), Some(Role::Value | Role::Partial)));
            if end > start + 1 && valued {
                parts.push(start..end);
            }
        }
    }
    parts
}

/// Which of the parts under one key are values; `sibling` counts the messages that have a value there.
fn decide(forms: &Forms, group: &[Part], sibling: Option<u64>) -> Vec<Part> {
    let (words, announced) = surroundings(forms, &group[0]);
    if words == 0 {
        return Vec::new();
    }
    let anchored = words >= 2 || announced;
    let texts: Vec<String> = group.iter().map(|part| text(forms, part)).collect();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    let opposed = opposed(&borrowed);
    let distinct = opposed.iter().filter(|opposed| !**opposed).count();
    let names = group.iter().filter(|part| is_partial(forms, part)).count();
    let lengths: BTreeSet<usize> =
        group.iter().filter(|part| is_list(forms, part)).map(|part| part.span.len()).collect();
    let word = group.iter().any(|part| part.span.len() == 1);
    let enough = match sibling {
        _ if !anchored => MANY_AT_START,
        Some(_) => SOME,
        None if names * 2 > group.len() => MANY_NAMES,
        None if group[0].span.start == 0 => MANY_AT_START,
        None if lengths.len() + usize::from(word) >= 2 => SOME,
        None => MANY,
    };
    let chosen = group.iter().enumerate().filter(|&(index, part)| {
        let variant = |count: u64| {
            let rare = forms.forms[part.form].count * RARER <= count;
            anchored && (rare || is_partial(forms, part) || is_nothing(&texts[index]))
        };
        !opposed[index] && (distinct >= enough || sibling.is_some_and(variant))
    });
    chosen.map(|(_, part)| part.clone()).collect()
}

/// Constant words around a part, and whether a mark before it announces a value. The same for a whole group.
fn surroundings(forms: &Forms, part: &Part) -> (usize, bool) {
    let tokens = &forms.forms[part.form].tokens;
    let words = forms.words(&tokens[..part.span.start]) + forms.words(&tokens[part.span.end..]);
    let mark = part.span.start.checked_sub(1).map_or("", |before| &*forms.entry(tokens[before]).text);
    (words, matches!(mark, "=" | ":" | "\"" | "'" | "`" | "(" | "["))
}

fn is_partial(forms: &Forms, part: &Part) -> bool {
    part.span.len() == 1 && forms.role(forms.forms[part.form].tokens[part.span.start]) == Role::Partial
}

fn is_list(forms: &Forms, part: &Part) -> bool {
    let tokens = &forms.forms[part.form].tokens[part.span.clone()];
    tokens.len() >= 3 && &*forms.entry(tokens[1]).text == ","
}

fn text(forms: &Forms, part: &Part) -> String {
    let tokens = &forms.forms[part.form].tokens[part.span.clone()];
    tokens.iter().map(|&token| &*forms.entry(token).text).collect::<Vec<_>>().join(" ")
}

/// A word for a value that is missing.
fn is_nothing(word: &str) -> bool {
    ["null", "none", "nil", "nan", "inf", "undefined", "n/a", "unknown"]
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name))
}
