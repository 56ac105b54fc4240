//! Rare variants of a frequent form: words where the form has values.
//!
//! A slot found by counting takes in the words it was counted on. A word that met too few of its neighbours is
//! left over; when its whole message fits a form that is far more frequent, it is one of its messages.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::forms::{Edits, Forms, Role};
use super::phrases::LONGEST;
use super::slots::closed;
use crate::line::Hashing;

/// A variant is this much rarer than the form it belongs to.
const RARER: u64 = 4;
/// Parts of a variant that may stand where the form has values.
const MOST: usize = 3;
/// Constant words that a form must have for one of its values to stand for several words.
const LONGER_FITS: usize = 3;

/// Forms by their tokens.
#[derive(Debug, Default)]
struct Node {
    next: HashMap<u32, usize, Hashing>,
    /// The next node by a value behind a blank, glued, or at the start.
    values: Vec<(bool, usize)>,
    form: Option<usize>,
}

/// The parts to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let mut trie = vec![Node::default()];
    for (index, form) in forms.forms.iter().enumerate() {
        let valued = form.tokens.iter().any(|&token| forms.role(token) == Role::Value);
        if valued && forms.words(&form.tokens) >= 2 {
            insert(&mut trie, forms, index);
        }
    }
    let closed = closed(forms);
    (0..forms.forms.len()).map(|index| fit(forms, &trie, index, &closed)).collect()
}

/// The words of a form to free so that it becomes the most fitting frequent form, if there is one.
fn fit(forms: &Forms, trie: &[Node], index: usize, closed: &HashSet<(usize, usize)>) -> Vec<Range<usize>> {
    let form = &forms.forms[index];
    let mut best: Option<(usize, Reverse<u64>, u64)> = None;
    let mut spans = Vec::new();
    let mut open = vec![(0, 0, Vec::new())];
    while let Some((node, at, freed)) = open.pop() {
        let node: &Node = &trie[node];
        let Some(&token) = form.tokens.get(at) else {
            let Some(to) = node.form.filter(|&to| to != index) else { continue };
            let count = forms.forms[to].count;
            let words = freed.iter().map(ExactSizeIterator::len).sum();
            let longer = words > freed.len();
            let rank = (words, Reverse(count), identity(forms, to));
            let similar = !longer || forms.words(&forms.forms[to].tokens) >= LONGER_FITS;
            if similar && form.count * RARER <= count && best.is_none_or(|best| rank < best) {
                best = Some(rank);
                spans = freed;
            }
            continue;
        };
        if let Some(&next) = node.next.get(&token) {
            open.push((next, at + 1, freed.clone()));
        }
        if freed.len() == MOST {
            continue;
        }
        let space = forms.entry(token).space;
        for &(_, next) in node.values.iter().filter(|(behind, _)| *behind == space) {
            for length in 1..=words_from(forms, &form.tokens[at..]) {
                if length > 1 || !closed.contains(&(index, at)) {
                    let mut freed = freed.clone();
                    freed.push(at..at + length);
                    open.push((next, at + length, freed));
                }
            }
        }
    }
    spans
}

/// Words that one value may stand for, from the beginning of `tokens`.
fn words_from(forms: &Forms, tokens: &[u32]) -> usize {
    if forms.role(tokens[0]) == Role::Partial {
        return 1;
    }
    tokens.iter().take(LONGEST).take_while(|&&token| forms.role(token) == Role::Word).count()
}

/// Settles ties the same way in every run.
fn identity(forms: &Forms, index: usize) -> u64 {
    let tokens = &forms.forms[index].tokens;
    tokens.iter().fold(0, |sum: u64, &token| sum.rotate_left(7) ^ forms.entry(token).hash)
}

fn insert(trie: &mut Vec<Node>, forms: &Forms, index: usize) {
    let mut node = 0;
    for &token in &forms.forms[index].tokens {
        node = if let Some(&next) = trie[node].next.get(&token) {
            next
        } else {
            let next = trie.len();
            trie.push(Node::default());
            trie[node].next.insert(token, next);
            let entry = forms.entry(token);
            if entry.role == Role::Value {
                trie[node].values.push((entry.space, next));
            }
            next
        };
    }
    trie[node].form = Some(index);
}
