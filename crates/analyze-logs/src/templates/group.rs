//! Signatures to templates: the thorough stage, on the whole set at once.

use std::collections::HashMap;

use serde::Serialize;

use super::forms::{Form, Forms, hash};
use super::miner::{Signature, SignatureId};
use super::{families, phrases, slots, variants};
use crate::line::Hashing;

/// Rounds of grouping. Each one joins forms, so real logs need a handful.
const ROUNDS: usize = 64;

/// A template of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Template {
    /// Sixteen hex digits derived from the text: the same in every run.
    pub id: String,
    /// Constant text, with `<*>` for each value.
    pub text: String,
    /// Messages.
    pub count: u64,
    /// One of them.
    pub example: String,
}

/// The templates of a miner's messages, most frequent first.
#[derive(Debug)]
pub struct Templates {
    templates: Vec<Template>,
    of: Vec<u32>,
}

impl Templates {
    /// Groups signatures; each is known by its index.
    pub fn of_signatures(signatures: &[Signature]) -> Self {
        let places: Vec<u32> = (0..signatures.len() as u32).collect();
        group(signatures, &places)
    }

    /// All of them, most frequent first, by text among equals.
    pub fn all(&self) -> &[Template] {
        &self.templates
    }

    /// The index in [`Templates::all`] of a signature of the miner that was finished.
    pub fn index_of(&self, signature: SignatureId) -> usize {
        self.of[signature as usize] as usize
    }

    /// The template of a signature of the miner that was finished.
    pub fn of(&self, signature: SignatureId) -> &Template {
        &self.templates[self.index_of(signature)]
    }
}

/// Messages of each signature and of those that are equal to it but for one part. When there are too many to keep
/// them all, those of small worth are the ones that no template will be made of.
pub(crate) fn worth(signatures: &[Signature]) -> Vec<u64> {
    slots::worth(&Forms::new(signatures.iter().map(|signature| (&*signature.key, signature.count))))
}

/// Groups `signatures`; `places` gives the signature of each number.
pub(super) fn group(signatures: &[Signature], places: &[u32]) -> Templates {
    let mut forms = Forms::new(signatures.iter().map(|signature| (&*signature.key, signature.count)));
    for _ in 0..ROUNDS {
        let changed = forms.apply(families::find_connected(&forms))
            || forms.apply(slots::find(&forms))
            || forms.apply(families::find(&forms))
            || forms.apply(phrases::find(&forms))
            || forms.apply(variants::find(&forms));
        if !changed {
            break;
        }
    }
    collect(&forms, signatures, places)
}

/// Forms that read the same are one template.
fn collect(forms: &Forms, signatures: &[Signature], places: &[u32]) -> Templates {
    let mut by_text: HashMap<String, Vec<&Form>, Hashing> = HashMap::default();
    for form in &forms.forms {
        by_text.entry(forms.render(form)).or_default().push(form);
    }
    let mut groups: Vec<(Template, Vec<u32>)> = by_text
        .into_iter()
        .map(|(text, forms)| {
            let members: Vec<u32> = forms.iter().flat_map(|form| form.members.iter().copied()).collect();
            let examples = members.iter().map(|&member| &*signatures[member as usize].example);
            let example =
                examples.min_by_key(|example| (example.len(), *example)).unwrap_or_default().to_owned();
            let count = forms.iter().map(|form| form.count).sum();
            (Template { id: format!("{:016x}", hash(&text)), text, count, example }, members)
        })
        .collect();
    groups.sort_by(|(left, _), (right, _)| {
        right.count.cmp(&left.count).then_with(|| left.text.cmp(&right.text))
    });
    let mut index = vec![0; signatures.len()];
    for (at, (_, members)) in groups.iter().enumerate() {
        for &member in members {
            index[member as usize] = at as u32;
        }
    }
    Templates {
        templates: groups.into_iter().map(|(template, _)| template).collect(),
        of: places.iter().map(|&place| index[place as usize]).collect(),
    }
}
