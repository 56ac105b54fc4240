//! Several words of one message that vary at once.
//!
//! Forms of one shape (same length, same punctuation and values at the same places) are split at the position
//! with the fewest distinct words until what is left is either one form or a family whose remaining positions
//! all vary freely: each has many words, or at least three of them combine in far more ways than different
//! messages would.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::forms::{Edits, Forms, Role};
use super::opposites::opposed;
use super::slots::MANY;

/// Words of a position that may vary together with others.
const FEW: usize = 3;
/// Positions that must vary together when none has [`MANY`] words.
const TOGETHER: usize = 3;

/// The positions to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let mut shapes: HashMap<Vec<u32>, Vec<usize>> = HashMap::new();
    for (index, form) in forms.forms.iter().enumerate() {
        let shape = form.tokens.iter().map(|&token| match forms.role(token) {
            Role::Word => u32::MAX - u32::from(forms.entry(token).space),
            _ => token,
        });
        shapes.entry(shape.collect()).or_default().push(index);
    }
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for members in shapes.into_values().filter(|members| members.len() >= MANY) {
        split(forms, members, &mut edits);
    }
    edits
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
        // The first of the positions with the fewest words tells the messages apart.
        let Some((&at, _)) = positions.iter().min_by_key(|(position, words)| (words.len(), **position))
        else {
            continue;
        };
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
        if forms.role(token) != Role::Word {
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

fn is_family(forms: &Forms, members: &[usize], positions: &BTreeMap<usize, BTreeSet<u32>>) -> bool {
    let tokens = &forms.forms[members[0]].tokens;
    let constant = forms.words(tokens).saturating_sub(positions.len());
    if constant < 2 || positions.contains_key(&0) {
        return false;
    }
    let closed = positions.values().any(|words| {
        let words: Vec<&str> = words.iter().map(|&word| &*forms.entry(word).text).collect();
        opposed(&words).contains(&true)
    });
    if closed {
        return false;
    }
    let widest = positions.values().map(BTreeSet::len).max().unwrap_or(0);
    let narrowest = positions.values().map(BTreeSet::len).min().unwrap_or(0);
    // Were the words bound to each other, forms would be few; free words combine.
    let steps: usize = 1 + positions.values().map(|words| words.len() - 1).sum::<usize>();
    let combine = members.len() >= 2 * steps;
    let recur = members.len() >= 2 * widest;
    let mostly_constant = constant >= 3 && constant >= 2 * positions.len();
    if narrowest >= MANY {
        return positions.len() == 1 || combine || recur || mostly_constant;
    }
    positions.len() >= TOGETHER && narrowest >= FEW && combine
}
