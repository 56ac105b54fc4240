//! One part of a message that varies while everything else stays the same.
//!
//! Forms that are equal but for one part (a word, a quoted phrase, a list) share a key. Enough distinct parts
//! under one key, and the part is a slot. Everything is decided on the whole set at once, so the order of
//! messages does not matter.

use std::collections::{BTreeSet, HashMap};
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
const MANY_AT_START: usize = 12;
/// A variant this much rarer than its sibling with a value is that sibling.
const RARER: u64 = 4;

/// A part of a form.
#[derive(Debug, Clone)]
struct Part {
    form: usize,
    span: Range<usize>,
}

/// The parts to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let holes: Vec<Holes> = forms.forms.iter().map(|form| Holes::new(forms, &form.tokens)).collect();
    let whole: HashMap<u64, usize> =
        holes.iter().enumerate().map(|(index, hole)| (hole.whole(), index)).collect();
    let mut groups: HashMap<(usize, u64), Vec<Part>> = HashMap::new();
    let value_hash = ValueHashes::new();
    for (index, form) in forms.forms.iter().enumerate() {
        for span in parts(forms, &form.tokens) {
            let value = value_hash.of(forms, form.tokens[span.start], span.start == 0);
            let key = holes[index].with(span.clone(), value);
            groups.entry((span.start, key)).or_default().push(Part { form: index, span });
        }
    }
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for ((_, key), group) in groups {
        let sibling = whole.get(&key).map(|&form| forms.forms[form].count);
        for part in decide(forms, group, sibling) {
            edits[part.form].push(part.span);
        }
    }
    edits
}

/// Hashes of a value at the start, behind a blank, and glued.
struct ValueHashes([u64; 3]);

impl ValueHashes {
    fn new() -> Self {
        Self(["\u{2}", " \u{2}", "\u{1}\u{2}"].map(super::forms::hash))
    }

    fn of(&self, forms: &Forms, token: u32, first: bool) -> u64 {
        if first {
            self.0[0]
        } else if forms.entry(token).space {
            self.0[1]
        } else {
            self.0[2]
        }
    }
}

/// Words and partial values, lists of them, and what stands in quotes.
fn parts(forms: &Forms, tokens: &[u32]) -> Vec<Range<usize>> {
    let free = |index: usize| {
        tokens.get(index).is_some_and(|&token| matches!(forms.role(token), Role::Word | Role::Partial))
    };
    let item = |index: usize| {
        free(index) || tokens.get(index).is_some_and(|&token| forms.role(token) == Role::Value)
    };
    let text = |index: usize| tokens.get(index).map_or("", |&token| &*forms.entry(token).text);
    let mut parts = Vec::new();
    let mut list_end = 0;
    for start in 0..tokens.len() {
        if free(start) {
            parts.push(start..start + 1);
        }
        if item(start) && start >= list_end {
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
            && length >= 2
        {
            parts.push(start + 1..start + 1 + length);
        }
    }
    parts
}

/// Which of the parts under one key are values.
fn decide(forms: &Forms, mut group: Vec<Part>, sibling: Option<u64>) -> Vec<Part> {
    group.retain(|part| is_anchored(forms, part));
    let texts: Vec<String> = group.iter().map(|part| text(forms, part)).collect();
    let word = |part: &Part| part.span.len() == 1;
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    let opposed = opposed(&borrowed);
    let distinct = opposed.iter().filter(|opposed| !**opposed).count();
    let lengths: BTreeSet<usize> =
        group.iter().filter(|part| is_list(forms, part)).map(|part| part.span.len()).collect();
    let at_start = group.iter().any(|part| part.span.start == 0);
    let enough = match sibling {
        Some(_) => SOME,
        None if group.iter().all(|part| is_partial(forms, part)) => MANY_NAMES,
        None if at_start => MANY_AT_START,
        None if lengths.len() + usize::from(group.iter().any(word)) >= 2 => SOME,
        None => MANY,
    };
    let chosen = group.iter().enumerate().filter(|&(index, part)| {
        if opposed[index] {
            return false;
        }
        if distinct >= enough {
            return true;
        }
        sibling.is_some_and(|count| {
            let form = &forms.forms[part.form];
            is_partial(forms, part) || is_nothing(&texts[index]) || form.count * RARER <= count
        })
    });
    chosen.map(|(_, part)| part.clone()).collect()
}

/// Enough constant words around it: two, or one and a mark that announces a value.
fn is_anchored(forms: &Forms, part: &Part) -> bool {
    let tokens = &forms.forms[part.form].tokens;
    let words = forms.words(&tokens[..part.span.start]) + forms.words(&tokens[part.span.end..]);
    let announced = part.span.start > 0
        && matches!(
            &*forms.entry(tokens[part.span.start - 1]).text,
            "=" | ":" | "\"" | "'" | "`" | "(" | "["
        );
    words >= 2 || words == 1 && announced
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
