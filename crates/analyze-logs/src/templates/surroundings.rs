//! Parts of forms, grouped by what stands around them.
//!
//! Two parts are in one group when their forms are equal but for them. Parts are sorted by a hash of their
//! surroundings, sixteen bytes each, because a log with many odd messages has millions.

use std::collections::HashMap;
use std::ops::Range;

use super::forms::{Forms, mix};
use crate::line::Hashing;

/// A part of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    around: u64,
    start: u16,
    end: u16,
    form: u32,
}

impl Part {
    pub(super) fn form(&self) -> usize {
        self.form as usize
    }

    pub(super) fn span(&self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    pub(super) fn tokens<'a>(&self, forms: &'a Forms) -> &'a [u32] {
        &forms.forms[self.form()].tokens[self.span()]
    }
}

/// Parts by their surroundings.
#[derive(Debug)]
pub(super) struct Surroundings {
    parts: Vec<Part>,
    whole: HashMap<u64, u32, Hashing>,
}

impl Surroundings {
    /// Of the parts that `spans` names for each form.
    pub(super) fn new(forms: &Forms, spans: impl Fn(usize) -> Vec<Range<usize>>) -> Self {
        let mut this = Self {
            parts: Vec::new(),
            whole: HashMap::with_capacity_and_hasher(forms.forms.len(), Hashing::default()),
        };
        for (index, form) in forms.forms.iter().enumerate() {
            let holes = Holes::new(forms, &form.tokens);
            this.whole.insert(holes.whole(), index as u32);
            // Only a foreign signature can be that long; it stays as it is.
            let spans = if form.tokens.len() > usize::from(u16::MAX) { Vec::new() } else { spans(index) };
            for span in spans {
                let value = forms.value_hash(form.tokens[span.start], span.start == 0);
                this.parts.push(Part {
                    around: holes.with(span.clone(), value),
                    start: span.start as u16,
                    end: span.end as u16,
                    form: index as u32,
                });
            }
        }
        this.parts.sort_unstable();
        this
    }

    /// Each group, with the form that has a value in the place of the parts, if there is one.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&[Part], Option<usize>)> {
        let groups =
            self.parts.chunk_by(|left, right| left.around == right.around && left.start == right.start);
        groups.map(|group| (group, self.whole.get(&group[0].around).map(|&form| form as usize)))
    }
}

/// Hashes of every "all but this part" of one sequence, each in constant time.
#[derive(Debug)]
pub(super) struct Holes {
    /// Of the first `i` tokens.
    heads: Vec<u64>,
    /// Of the tokens from `i` on.
    tails: Vec<u64>,
    powers: Vec<u64>,
}

const BASE: u64 = 0x9e3779b97f4a7c15;

impl Holes {
    pub(super) fn new(forms: &Forms, tokens: &[u32]) -> Self {
        let step = |sum: u64, token: u32| sum.wrapping_mul(BASE).wrapping_add(forms.entry(token).hash);
        let mut heads: Vec<u64> = vec![1; tokens.len() + 1];
        let mut tails: Vec<u64> = vec![0; tokens.len() + 1];
        let mut powers: Vec<u64> = vec![1; tokens.len() + 2];
        for index in 0..=tokens.len() {
            powers[index + 1] = powers[index].wrapping_mul(BASE);
        }
        for (index, &token) in tokens.iter().enumerate() {
            heads[index + 1] = step(heads[index], token);
        }
        for (index, &token) in tokens.iter().enumerate().rev() {
            let length = tokens.len() - index - 1;
            tails[index] =
                forms.entry(token).hash.wrapping_mul(powers[length]).wrapping_add(tails[index + 1]);
        }
        Self { heads, tails, powers }
    }

    /// Of the sequence with `span` replaced by a token of this hash.
    pub(super) fn with(&self, span: Range<usize>, value: u64) -> u64 {
        let length = self.tails.len() - 1 - span.end;
        let head = self.heads[span.start].wrapping_mul(BASE).wrapping_add(value);
        mix(head.wrapping_mul(self.powers[length]).wrapping_add(self.tails[span.end]))
    }

    /// Of the whole sequence.
    pub(super) fn whole(&self) -> u64 {
        mix(self.heads[self.heads.len() - 1])
    }
}
