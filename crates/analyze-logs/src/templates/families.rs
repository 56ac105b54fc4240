//! Several words of one message that vary at once.
//!
//! Forms of one shape (same length, same punctuation and values at the same places) are split at the position
//! with the fewest distinct words until what is left is either one form or a family whose remaining positions
//! all vary freely: each has many words, or three of them or more combine in far more ways than different
//! messages would.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::forms::{Edits, Forms, Role};
use super::opposites::opposed;
use super::slots::{MANY, MANY_AT_START};
use super::surroundings::Holes;
use crate::line::Hashing;

/// Words of the positions that vary together; one of them may have fewer.
const FEW: usize = 3;
/// Positions that must vary together when none has [`MANY`] words.
const TOGETHER: usize = 3;

/// The positions to free now, of forms that single words connect: `a b c`, `a b d` and `a x d`.
///
/// Looked for before single slots are, while all positions of a family still differ.
pub(super) fn find_connected(forms: &Forms) -> Edits {
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for members in shapes(forms) {
        for connected in components(forms, &members) {
            split(forms, connected, &mut edits);
        }
    }
    edits
}

/// The positions to free now, of all forms of one shape.
pub(super) fn find(forms: &Forms) -> Edits {
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for members in shapes(forms) {
        split(forms, members, &mut edits);
    }
    edits
}

/// Forms of the same length with the same punctuation and values.
fn shapes(forms: &Forms) -> impl Iterator<Item = Vec<usize>> {
    let mut shapes: HashMap<Vec<u32>, Vec<usize>, Hashing> = HashMap::default();
    for (index, form) in forms.forms.iter().enumerate() {
        let shape = form.tokens.iter().map(|&token| match forms.role(token) {
            Role::Word | Role::Partial => u32::MAX - u32::from(forms.entry(token).space),
            _ => token,
        });
        shapes.entry(shape.collect()).or_default().push(index);
    }
    shapes.into_values().filter(|members| members.len() >= MANY)
}

/// Parts of `members` within which one changed word at a time leads from each form to every other.
fn components(forms: &Forms, members: &[usize]) -> Vec<Vec<usize>> {
    let mut leaders: Vec<usize> = (0..members.len()).collect();
    let find = |leaders: &mut Vec<usize>, mut at: usize| {
        while leaders[at] != at {
            leaders[at] = leaders[leaders[at]];
            at = leaders[at];
        }
        at
    };
    let mut seen: HashMap<(usize, u64), usize, Hashing> = HashMap::default();
    for (at, &member) in members.iter().enumerate() {
        let tokens = &forms.forms[member].tokens;
        let holes = Holes::new(forms, tokens);
        for (position, &token) in tokens.iter().enumerate().filter(|(_, token)| forms.is_free(**token)) {
            let key = holes.with(position..position + 1, forms.value_hash(token, position == 0));
            let other = *seen.entry((position, key)).or_insert(at);
            let (left, right) = (find(&mut leaders, at), find(&mut leaders, other));
            leaders[left.max(right)] = left.min(right);
        }
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, &member) in members.iter().enumerate() {
        parts.entry(find(&mut leaders, at)).or_default().push(member);
    }
    parts.into_values().collect()
}

/// Works down from a set of forms of one shape.
fn split(forms: &Forms, members: Vec<usize>, edits: &mut Edits) {
    let mut open = vec![members];
    while let Some(members) = open.pop() {
        if members.len() < MANY {
            continue;
        }
        let positions = differing(forms, &members);
        if positions.is_empty() {
            continue;
        }
        if is_family(forms, &members, &positions) {
            for &member in &members {
                edits[member].extend(positions.keys().map(|&position| position..position + 1));
            }
            continue;
        }
        // Opposites tell the messages apart, else the first of the positions with the fewest words.
        let fewest = positions.iter().min_by_key(|(position, words)| (words.len(), **position));
        let Some(at) = closed(forms, &positions).or(fewest.map(|(&position, _)| position)) else { continue };
        let mut parts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for member in members {
            parts.entry(forms.forms[member].tokens[at]).or_default().push(member);
        }
        open.extend(parts.into_values());
    }
}

/// Positions that differ, with their words.
fn differing(forms: &Forms, members: &[usize]) -> BTreeMap<usize, BTreeSet<u32>> {
    let first = &forms.forms[members[0]].tokens;
    let mut positions = BTreeMap::new();
    for (position, &token) in first.iter().enumerate() {
        if !forms.is_free(token) {
            continue;
        }
        let words: BTreeSet<u32> =
            members.iter().map(|&member| forms.forms[member].tokens[position]).collect();
        if words.len() > 1 {
            positions.insert(position, words);
        }
    }
    positions
}

/// Whether the positions of `members` vary freely.
fn is_family(forms: &Forms, members: &[usize], positions: &BTreeMap<usize, BTreeSet<u32>>) -> bool {
    let constant = forms.words(&forms.forms[members[0]].tokens).saturating_sub(positions.len());
    if constant < 2 || closed(forms, positions).is_some() {
        return false;
    }
    let mut counts: Vec<usize> = positions.values().map(BTreeSet::len).collect();
    counts.sort_unstable();
    // Were the words bound to each other, forms would be few; free words combine.
    let steps: usize = counts.iter().map(|words| words - 1).sum();
    // Messages that all differ may be just that: then most of their words have to be the same.
    let messages: u64 = members.iter().map(|&member| forms.forms[member].count).sum();
    let attested = constant > counts.len() || messages * 2 >= members.len() as u64 * 3;
    let together = counts.len() >= TOGETHER && counts[1] >= FEW && attested;
    if together && members.len() > if counts[0] >= FEW { 2 } else { 3 } * steps {
        return true;
    }
    let subject = positions.get(&0).is_some_and(|words| words.len() < MANY_AT_START);
    let mostly_constant = constant >= 3 && constant >= 2 * counts.len();
    let recur = attested && members.len() >= 2 * counts[counts.len() - 1];
    !subject && counts[0] >= MANY && (counts.len() == 1 || recur || mostly_constant)
}

/// The first position that holds opposites.
fn closed(forms: &Forms, positions: &BTreeMap<usize, BTreeSet<u32>>) -> Option<usize> {
    let text =
        |words: &BTreeSet<u32>| -> Vec<&str> { words.iter().map(|&word| &*forms.entry(word).text).collect() };
    let mut open = positions.iter().filter(|(_, words)| opposed(&text(words)).contains(&true));
    open.next().map(|(&position, _)| position)
}
