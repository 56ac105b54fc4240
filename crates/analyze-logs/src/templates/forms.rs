//! Signatures as sequences of numbered tokens, and what it means to free a part of one.

use std::collections::HashMap;
use std::ops::Range;

use super::fold::{GLUE, VALUE};
use crate::line::Hashing;

/// What a token of a signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Letters.
    Word,
    /// Letters and a value.
    Partial,
    /// A value.
    Value,
    /// Punctuation.
    Punct,
}

/// A token that occurs in some signature.
#[derive(Debug)]
pub(super) struct Entry {
    /// Without the blank before it.
    pub(super) text: Box<str>,
    /// A blank stands before it.
    pub(super) space: bool,
    pub(super) role: Role,
    /// Of text and blank; the same in every run.
    pub(super) hash: u64,
}

/// Signatures of one shape.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) tokens: Vec<u32>,
    /// Messages.
    pub(super) count: u64,
    /// The signatures, by number.
    pub(super) members: Vec<u32>,
}

/// All signatures; forms that become equal become one.
#[derive(Debug, Default)]
pub(super) struct Forms {
    ids: HashMap<Box<str>, u32, Hashing>,
    entries: Vec<Entry>,
    pub(super) forms: Vec<Form>,
}

/// Parts to free of each form, by the form's index; empty lists where nothing changes.
pub(super) type Edits = Vec<Vec<Range<usize>>>;

impl Forms {
    /// From signatures and their counts.
    pub(super) fn new<'a>(signatures: impl Iterator<Item = (&'a str, u64)>) -> Self {
        let mut this = Self::default();
        for (number, (signature, count)) in signatures.enumerate() {
            let tokens = this.intern_all(signature);
            this.forms.push(Form { tokens, count, members: vec![number as u32] });
        }
        this
    }

    fn intern_all(&mut self, signature: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = signature;
        while !rest.is_empty() {
            let head = rest.chars().next().map_or(0, char::len_utf8);
            let end = rest[head..].find([' ', GLUE]).map_or(rest.len(), |end| head + end);
            tokens.push(self.intern(&rest[..end], tokens.is_empty()));
            rest = &rest[end..];
        }
        tokens
    }

    /// `piece` starts with its blank or glue, but for the first of a signature.
    fn intern(&mut self, piece: &str, first: bool) -> u32 {
        if let Some(&id) = self.ids.get(piece) {
            return id;
        }
        let text = if first { piece } else { &piece[1..] };
        let role = if text.chars().eq([VALUE]) {
            Role::Value
        } else if text.contains(VALUE) {
            Role::Partial
        } else if text.chars().any(char::is_alphanumeric) {
            Role::Word
        } else {
            Role::Punct
        };
        let id = self.entries.len() as u32;
        self.entries.push(Entry {
            text: text.into(),
            space: piece.starts_with(' '),
            role,
            hash: hash(piece),
        });
        self.ids.insert(piece.into(), id);
        id
    }

    pub(super) fn entry(&self, token: u32) -> &Entry {
        &self.entries[token as usize]
    }

    pub(super) fn role(&self, token: u32) -> Role {
        self.entry(token).role
    }

    /// The piece of a value that stands where `token` stands: at the start, behind a blank, or glued.
    fn value_for(&self, token: u32, first: bool) -> &'static str {
        match (first, self.entry(token).space) {
            (true, _) => "\u{2}",
            (false, true) => " \u{2}",
            (false, false) => "\u{1}\u{2}",
        }
    }

    /// The hash of that value.
    pub(super) fn value_hash(&self, token: u32, first: bool) -> u64 {
        hash(self.value_for(token, first))
    }

    /// Whether `token` has letters of its own, which may turn out to vary.
    pub(super) fn is_free(&self, token: u32) -> bool {
        matches!(self.role(token), Role::Word | Role::Partial)
    }

    /// Words of two letters or more in `tokens`.
    pub(super) fn words(&self, tokens: &[u32]) -> usize {
        let weighs = |token: &&u32| {
            let entry = self.entry(**token);
            matches!(entry.role, Role::Word | Role::Partial) && entry.text.len() >= 2
        };
        tokens.iter().filter(weighs).count()
    }

    /// Frees what `edits` names, and joins the forms that became equal. True when something changed.
    pub(super) fn apply(&mut self, edits: Edits) -> bool {
        if edits.iter().all(Vec::is_empty) {
            return false;
        }
        let old = std::mem::take(&mut self.forms);
        let mut seen: HashMap<Vec<u32>, usize, Hashing> =
            HashMap::with_capacity_and_hasher(old.len(), Hashing::default());
        for (mut form, spans) in old.into_iter().zip(edits) {
            if !spans.is_empty() {
                form.tokens = self.freed(&form.tokens, spans);
            }
            if let Some(&at) = seen.get(&form.tokens) {
                self.forms[at].count += form.count;
                self.forms[at].members.append(&mut form.members);
            } else {
                seen.insert(form.tokens.clone(), self.forms.len());
                self.forms.push(form);
            }
        }
        true
    }

    /// `tokens` with each span as one value; longer spans first, overlapping ones are left out.
    fn freed(&mut self, tokens: &[u32], mut spans: Vec<Range<usize>>) -> Vec<u32> {
        spans.sort_by_key(|span| (std::cmp::Reverse(span.len()), span.start));
        let mut taken: Vec<Range<usize>> = Vec::with_capacity(spans.len());
        for span in spans {
            if taken.iter().all(|other| span.end <= other.start || other.end <= span.start) {
                taken.push(span);
            }
        }
        taken.sort_by_key(|span| span.start);
        let mut out: Vec<u32> = Vec::with_capacity(tokens.len());
        let mut at = 0;
        for span in taken {
            out.extend_from_slice(&tokens[at..span.start]);
            let value = self.value_for(tokens[span.start], span.start == 0);
            out.push(self.intern(value, span.start == 0));
            at = span.end;
        }
        out.extend_from_slice(&tokens[at..]);
        self.joined(out)
    }

    /// Values side by side, or with a comma between, are one.
    fn joined(&self, tokens: Vec<u32>) -> Vec<u32> {
        let mut out: Vec<u32> = Vec::with_capacity(tokens.len());
        for token in tokens {
            if self.role(token) == Role::Value {
                match out[..] {
                    [.., last] if self.role(last) == Role::Value => continue,
                    [.., left, comma]
                        if self.role(left) == Role::Value
                            && matches!(&*self.entry(comma).text, "," | ";") =>
                    {
                        out.pop();
                        continue;
                    }
                    _ => {}
                }
            }
            out.push(token);
        }
        out
    }

    /// What people read: values as `<*>`.
    pub(super) fn render(&self, form: &Form) -> String {
        let mut text = String::new();
        for (index, &token) in form.tokens.iter().enumerate() {
            let entry = self.entry(token);
            if index > 0 && entry.space {
                text.push(' ');
            }
            text.push_str(&entry.text.replace(VALUE, "<*>"));
        }
        text
    }
}

/// FNV-1a with a final mix: the same in every run and on every machine.
pub(super) fn hash(text: &str) -> u64 {
    let sum = text
        .bytes()
        .fold(0xcbf29ce484222325, |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100000001b3));
    mix(sum)
}

pub(super) fn mix(mut sum: u64) -> u64 {
    sum = (sum ^ (sum >> 32)).wrapping_mul(0x9e3779b97f4a7c15);
    sum = (sum ^ (sum >> 29)).wrapping_mul(0xbf58476d1ce4e5b9);
    sum ^ (sum >> 32)
}
