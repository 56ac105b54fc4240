//! One part of a message that varies while everything else stays the same.
//!
//! Forms that are equal but for one part (a word, a quoted phrase, a list) share a key. Enough distinct parts
//! under one key, and the part is a slot. Everything is decided on the whole set at once, so the order of
//! messages does not matter.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::forms::{Edits, Forms, Role};
use super::opposites::opposed;
use super::surroundings::{Part, Surroundings};

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

/// The parts to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for (group, sibling) in Surroundings::new(forms, |form| parts(forms, &forms.forms[form].tokens)).groups()
    {
        for part in decide(forms, group, sibling.map(|form| forms.forms[form].count)) {
            edits[part.form()].push(part.span());
        }
    }
    edits
}

/// Words whose opposite stands in the same place of an otherwise equal form, by form and position.
pub(super) fn closed(forms: &Forms) -> HashSet<(usize, usize)> {
    let words = |form: usize| {
        let tokens = forms.forms[form].tokens.iter().enumerate();
        let words = tokens.filter(|(_, token)| forms.role(**token) == Role::Word);
        words.map(|(position, _)| position..position + 1).collect()
    };
    let mut closed = HashSet::new();
    for (group, _) in Surroundings::new(forms, words).groups().filter(|(group, _)| group.len() > 1) {
        let words: Vec<&str> = group.iter().map(|part| &*forms.entry(part.tokens(forms)[0]).text).collect();
        let opposed = group.iter().zip(opposed(&words)).filter(|(_, opposed)| *opposed);
        closed.extend(opposed.map(|(part, _)| (part.form(), part.span().start)));
    }
    closed
}

/// Messages of each form and of those that are equal to it but for one part: what it is worth to keep.
pub(super) fn worth(forms: &Forms) -> Vec<u64> {
    let mut worth: Vec<u64> = forms.forms.iter().map(|form| form.count).collect();
    for (group, sibling) in Surroundings::new(forms, |form| parts(forms, &forms.forms[form].tokens)).groups()
    {
        let members = group.iter().map(Part::form).chain(sibling);
        let sum = members.map(|form| forms.forms[form].count).sum();
        for part in group {
            worth[part.form()] = worth[part.form()].max(sum);
        }
    }
    worth
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
    if words == 0 || group.len() == 1 && sibling.is_none() {
        return Vec::new();
    }
    let anchored = words >= 2 || announced;
    let texts: Vec<String> = group.iter().map(|part| text(forms, part)).collect();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    let opposed = opposed(&borrowed);
    let distinct = opposed.iter().filter(|opposed| !**opposed).count();
    let names = group.iter().filter(|part| is_partial(forms, part)).count();
    let lengths: BTreeSet<usize> =
        group.iter().filter(|part| is_list(forms, part)).map(|part| part.span().len()).collect();
    let word = group.iter().any(|part| part.span().len() == 1);
    let enough = match sibling {
        _ if !anchored => MANY_AT_START,
        Some(_) => SOME,
        None if names * 2 > group.len() => MANY_NAMES,
        None if group[0].span().start == 0 => MANY_AT_START,
        None if lengths.len() + usize::from(word) >= 2 => SOME,
        None => MANY,
    };
    let chosen = group.iter().enumerate().filter(|&(index, part)| {
        let variant = |count: u64| {
            let rare = forms.forms[part.form()].count * RARER <= count;
            anchored && (rare || is_partial(forms, part) || is_nothing(&texts[index]))
        };
        !opposed[index] && (distinct >= enough || sibling.is_some_and(variant))
    });
    chosen.map(|(_, part)| *part).collect()
}

/// Constant words around a part, and whether a mark before it announces a value. The same for a whole group.
fn surroundings(forms: &Forms, part: &Part) -> (usize, bool) {
    let (tokens, span) = (&forms.forms[part.form()].tokens, part.span());
    let words = forms.words(&tokens[..span.start]) + forms.words(&tokens[span.end..]);
    let mark = span.start.checked_sub(1).map_or("", |before| &*forms.entry(tokens[before]).text);
    (words, matches!(mark, "=" | ":" | "\"" | "'" | "`" | "(" | "["))
}

fn is_partial(forms: &Forms, part: &Part) -> bool {
    matches!(part.tokens(forms), [token] if forms.role(*token) == Role::Partial)
}

fn is_list(forms: &Forms, part: &Part) -> bool {
    let tokens = part.tokens(forms);
    tokens.len() >= 3 && &*forms.entry(tokens[1]).text == ","
}

fn text(forms: &Forms, part: &Part) -> String {
    let tokens = part.tokens(forms);
    tokens.iter().map(|&token| &*forms.entry(token).text).collect::<Vec<_>>().join(" ")
}

/// A word for a value that is missing.
fn is_nothing(word: &str) -> bool {
    ["null", "none", "nil", "nan", "inf", "undefined", "n/a", "unknown"]
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name))
}
