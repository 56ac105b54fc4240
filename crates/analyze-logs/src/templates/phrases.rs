//! Values of several words: cities, titles, reasons.
//!
//! What stands between the same words before and after is one value if it is seen with many texts of several
//! lengths that neither begin nor end alike, or if single words were found to be values there.

use std::collections::{BTreeSet, HashMap};

use super::forms::{Edits, Forms, Role};
use super::slots::{MANY, closed};
use super::surroundings::{Part, Surroundings};
use crate::line::Hashing;

/// Words of a value.
pub(super) const LONGEST: usize = 6;
/// Tokens of a message within which phrases are looked for; a longer one is a text.
const BEGINNING: usize = 128;
/// Different phrases, where single words are values.
const SOME: usize = 3;
/// Different texts that make the end of a message a value.
const MANY_ENDINGS: usize = 10;

/// The parts to free now.
pub(super) fn find(forms: &Forms) -> Edits {
    let closed = closed(forms);
    let spans = |index: usize| {
        let tokens = &forms.forms[index].tokens;
        let mut spans = Vec::new();
        for start in 1..tokens.len().min(BEGINNING) {
            let word = |token: &&u32| forms.role(**token) == Role::Word;
            let words = tokens[start..].iter().take(LONGEST).take_while(word).count();
            let shortest = 1 + usize::from(closed.contains(&(index, start)));
            spans.extend((shortest..=words).map(|length| start..start + length));
        }
        spans
    };
    let mut edits: Edits = vec![Vec::new(); forms.forms.len()];
    for (group, sibling) in Surroundings::new(forms, spans).groups() {
        if group.len() >= SOME && is_phrase(forms, group, sibling.is_some()) {
            for part in group {
                edits[part.form()].push(part.span());
            }
        }
    }
    edits
}

fn is_phrase(forms: &Forms, group: &[Part], valued: bool) -> bool {
    let (tokens, span) = (&forms.forms[group[0].form()].tokens, group[0].span());
    let ending = span.end == tokens.len();
    let before = forms.words(&tokens[..span.start]);
    let after = forms.words(&tokens[span.end..]);
    let lengths: BTreeSet<usize> = group.iter().map(|part| part.span().len()).collect();
    let longer = group.iter().filter(|part| part.span().len() > 1).count();
    if longer == 0 || before == 0 || before + after < 3 {
        return false;
    }
    // A word that most of them share belongs to the message, not to the value.
    let mut uses: HashMap<u32, usize, Hashing> = HashMap::default();
    for part in group {
        let words: BTreeSet<u32> = part.tokens(forms).iter().copied().collect();
        for word in words {
            *uses.entry(word).or_default() += 1;
        }
    }
    let varied = uses.values().all(|&uses| uses * 2 <= group.len().max(SOME));
    let many = if ending { MANY_ENDINGS } else { MANY };
    varied && (group.len() >= many && lengths.len() >= 2 || valued && !ending && longer >= SOME)
}
